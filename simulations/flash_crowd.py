"""Flash crowd: everybody follows one publisher within a minute, and goes on following.

The publisher sits behind a home uplink. Whoever has the dataset serves it on, so the
crowd should carry itself: see the publisher's share of all bytes sent.
"""

from functools import partial

from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import spread


@scenario(peers=16, minutes=2, posts=300, every_seconds=20, uplink=500_000, share_max=0.5)
async def flash_crowd(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"], place=sim.place(up_bytes_per_second=float(sim["uplink"])))

    async def join(number: int, when: float) -> None:
        await sim.sleep_until(when)
        await sim.peer(f"follower-{number}", met=[publisher], follows=[publisher])

    async def go_on() -> None:
        while sim.world.now < 60 * sim.minutes:
            await sim.sleep(sim["every_seconds"])
            sim.publish_more(publisher, 5, edits=5)

    times = spread(sim.chance, sim.peers - 1, 60)
    await sim.together([go_on, *(partial(join, number, when) for number, when in enumerate(times))])
    await sim.settle()
    sent = {host.name: host.counts.bytes_sent for host in sim.network.hosts.values()}
    share = sent["publisher"] / sum(sent.values())
    sim.measured["publisher_share"] = round(share, 4)
    sim.expect("the crowd carries itself", share <= sim["share_max"], f"the publisher sent {share:.0%} of all bytes")
