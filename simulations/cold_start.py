"""Cold start: newcomers with empty stores get their first answer from one publisher.

Each newcomer knows an address and nothing else: no head, no manifest, no records. It
dials, asks, and proves the answer. What that costs must not depend on the size of
the dataset: raise `posts` and see.
"""

from functools import partial

from rhizome_index.simulation.cluster import Member
from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import spread


@scenario(peers=20, minutes=0.5, posts=400)
async def cold_start(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])

    async def visit(number: int, when: float) -> None:
        await sim.sleep_until(when)
        member: Member = await sim.peer(f"newcomer-{number}", named=[publisher])
        await sim.ask(member, publisher)

    times = spread(sim.chance, sim.peers, sim.minutes * 60)
    await sim.together([partial(visit, number, when) for number, when in enumerate(times)])
    sim.expect("everybody was answered", sim.unanswered == 0, f"{sim.unanswered} were not")
    most = max(page.cost.round_trips for _, page in sim.answers)
    sim.expect("one round trip each", most == 1, f"one took {most}")
