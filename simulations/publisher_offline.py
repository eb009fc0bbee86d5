"""Publisher offline: who follows a dataset serves it on while its publisher is away.

A laptop publishes, a few follow, the laptop sleeps. Newcomers who know one follower
ask and follow all the same. When the publisher is back with more, it arrives
everywhere.
"""

from functools import partial

from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import draw, spread


@scenario(peers=12, minutes=2, posts=200, followers=4)
async def publisher_offline(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    followers = [
        await sim.peer(f"follower-{number}", met=[publisher], follows=[publisher]) for number in range(sim["followers"])
    ]
    await sim.sleep(20)
    await sim.cluster.stop(publisher)

    async def come(number: int, when: float) -> None:
        await sim.sleep_until(when)
        known = draw(sim.chance, followers)
        reader = await sim.peer(f"reader-{number}", named=[known])
        await sim.ask(reader, publisher)
        newcomer = await sim.peer(f"newcomer-{number}", met=[known], follows=[publisher])
        await sim.sleep(10)
        await sim.ask(newcomer, publisher)

    half = (sim.peers - len(followers) - 1) // 2
    times = spread(sim.chance, half, 60 * sim.minutes)
    await sim.together([partial(come, number, 20 + when) for number, when in enumerate(times)])
    sim.expect("everybody was answered", not sim.unanswered, f"{sim.unanswered} were not")
    await sim.cluster.start(publisher)
    sim.publish_more(publisher, 20, edits=10)
    await sim.settle()
