"""Follow many: everybody follows a few of several publishers, who go on publishing.

Each peer keeps whole datasets, derives their indexes and serves them on. Asked are
peers at home: answers must be those of the head that they hold, and new heads must
arrive everywhere.
"""

from functools import partial

from rhizome_index.simulation.cluster import Member
from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import draw, some


@scenario(peers=10, minutes=1.5, publishers=3, follows=2, posts=60, every_seconds=15, asks=2)
async def follow_many(sim: Simulation) -> None:
    publishers = [await sim.publish(sim["posts"], f"publisher-{number}") for number in range(sim["publishers"])]

    async def join(number: int) -> None:
        await sim.sleep(sim.chance.random() * 10)
        chosen = some(sim.chance, publishers, sim["follows"])
        follower = await sim.peer(f"follower-{number}", met=publishers, follows=chosen)
        for _ in range(sim["asks"]):
            await sim.sleep(20 + sim.chance.random() * max(0, 60 * sim.minutes - 60))
            await sim.ask(follower, draw(sim.chance, chosen))

    async def go_on(publisher: Member) -> None:
        while sim.world.now < 60 * sim.minutes:
            await sim.sleep(sim["every_seconds"] * (0.5 + sim.chance.random()))
            sim.publish_more(publisher, 3, edits=2)

    jobs = [partial(join, number) for number in range(sim.peers - len(publishers))]
    await sim.together([*jobs, *(partial(go_on, publisher) for publisher in publishers)])
    await sim.settle()
