"""Stale peers: some who serve learn nothing new any more, and go on answering from what they had.

Readers who have seen a newer head do not go back to an older one. Followers who know
many stale peers and one that is not reach the newest head.
"""

from functools import partial

from rhizome_index.simulation.byzantine import Stale
from rhizome_index.simulation.cluster import Member
from rhizome_index.simulation.scenario import Simulation, scenario


@scenario(peers=8, minutes=1, posts=60, stale=6, readers=4, asks=6)
async def stale_peers(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    strategies = [Stale(sim.world.chance("stale", number)) for number in range(sim["stale"])]
    servers: list[Member] = []
    for number in range(sim.peers):
        strategy = strategies[number] if number < len(strategies) else None
        name = f"stale-{number}" if strategy else f"server-{number}"
        servers.append(await sim.peer(name, met=[publisher], follows=[publisher], strategy=strategy))
    await sim.sleep(20)
    for strategy in strategies:
        strategy.is_stale = True
    await sim.peer("follower", met=servers, follows=[publisher])

    async def read(number: int) -> None:
        reader = await sim.peer(f"reader-{number}", named=[*servers, publisher])
        for _ in range(sim["asks"]):
            await sim.sleep(sim.chance.random() * 60 * sim.minutes / sim["asks"])
            await sim.ask(reader, publisher)

    async def go_on() -> None:
        for _ in range(3):
            await sim.sleep(20 * sim.minutes)
            sim.publish_more(publisher, 5, edits=3)

    await sim.together([go_on, *(partial(read, number) for number in range(sim["readers"]))])
    await sim.settle()
    sim.expect("everybody was answered", not sim.unanswered, f"{sim.unanswered} were not")
