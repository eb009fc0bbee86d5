"""Flooders: some open stream after stream to a server, ask for everything and never read, or send what means nothing.

They lose their connections and come back. Meanwhile readers ask the same server, and
each must be answered.
"""

from functools import partial

from rhizome_index.simulation.byzantine import Flooder
from rhizome_index.simulation.scenario import Simulation, scenario


@scenario(peers=4, minutes=0.5, posts=1500, readers=4, asks=4, pause_seconds=0.5)
async def flooders(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    strategies = [
        Flooder(sim.world.chance("flooder", number), publisher.dataset, sim["pause_seconds"])
        for number in range(sim.peers)
    ]
    for number, strategy in enumerate(strategies):
        await sim.peer(f"flooder-{number}", named=[publisher], strategy=strategy)

    async def read(number: int) -> None:
        await sim.sleep(sim.chance.random() * 10 * sim.minutes)
        reader = await sim.peer(f"reader-{number}", named=[publisher])
        for _ in range(sim["asks"]):
            await sim.sleep(sim.chance.random() * 60 * sim.minutes / sim["asks"])
            await sim.ask(reader, publisher)

    await sim.together([partial(read, number) for number in range(sim["readers"])])
    sim.measured["streams_of_flooders"] = sum(strategy.streams for strategy in strategies)
    sim.expect("everybody was answered", not sim.unanswered, f"{sim.unanswered} were not")
