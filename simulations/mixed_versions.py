"""Mixed versions: some peers answer under the older protocols only, heads and want.

They know what is new and have the blocks, but neither prove answers nor send changes.
Everybody must find those who do, be answered, and converge.
"""

from functools import partial

from rhizome_index.simulation.byzantine import Partial
from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import draw, some


@scenario(peers=10, minutes=1, posts=100, older=60, readers=5)
async def mixed_versions(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    servers = []
    for number in range(sim.peers):
        is_older = number < sim.peers * sim["older"] // 100
        strategy = Partial(sim.world.chance("older", number)) if is_older else None
        name = f"older-{number}" if is_older else f"newer-{number}"
        servers.append(await sim.peer(name, met=[publisher], follows=[publisher], strategy=strategy))
    await sim.sleep(20)

    async def read(number: int) -> None:
        await sim.sleep(sim.chance.random() * 30 * sim.minutes)
        named = [servers[-1], *(draw(sim.chance, servers) for _ in range(3))]
        reader = await sim.peer(f"reader-{number}", named=list(dict.fromkeys(named)))
        await sim.ask(reader, publisher)
        await sim.peer(f"newcomer-{number}", met=some(sim.chance, servers, 3), follows=[publisher])

    await sim.together([partial(read, number) for number in range(sim["readers"])])
    sim.publish_more(publisher, 10, edits=5)
    await sim.settle()
    sim.expect("everybody was answered", not sim.unanswered, f"{sim.unanswered} were not")
