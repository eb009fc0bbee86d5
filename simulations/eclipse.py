"""Eclipse: a crowd of sybils that name each other as providers of everything, and keep silent when asked.

A newcomer has met `sybils` of them and one honest peer. It must not be talked out of
the one: it follows, and holds the newest head within a minute.
"""

from functools import partial

from rhizome_index.simulation.byzantine import Sybil
from rhizome_index.simulation.cluster import Member
from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import draw


@scenario(peers=4, minutes=2, posts=80, sybils=12)
async def eclipse(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    honest = [await sim.peer(f"honest-{number}", met=[publisher], follows=[publisher]) for number in range(sim.peers)]
    crowd: list[Member] = []
    for number in range(sim["sybils"]):
        strategy = Sybil(sim.world.chance("sybil", number), crowd)
        crowd.append(await sim.peer(f"sybil-{number}", met=[publisher], follows=[publisher], strategy=strategy))
    await sim.sleep(30)

    async def come(number: int) -> None:
        await sim.sleep(sim.chance.random() * 10)
        friend = draw(sim.chance, honest)
        newcomer = await sim.peer(f"newcomer-{number}", met=[*crowd[:12], friend], follows=[publisher])
        started = sim.world.now
        while newcomer.running.peer.store.held_head(publisher.dataset) is None and sim.world.now < started + 300:
            await sim.sleep(1)
        times.append(sim.world.now - started)

    times: list[float] = []
    await sim.together([partial(come, number) for number in range(sim.peers)])
    sim.measured["seconds_until_held"] = sorted(times)
    await sim.settle()
