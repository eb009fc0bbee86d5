"""Liars: some of those who serve change, drop, swap and make up what they send.

Readers name several peers, of whom `lying` in a hundred lie about every third
message. No wrong row is ever accepted; whoever names one honest peer is answered.
Followers among liars reach the newest head too.
"""

from functools import partial

from rhizome_index.simulation.byzantine import Liar
from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import draw


@scenario(peers=10, minutes=1, posts=150, lying=50, rate=0.3, readers=6, asks=4)
async def liars(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    servers = []
    for number in range(sim.peers):
        lies = number < sim.peers * sim["lying"] // 100
        strategy = Liar(sim.world.chance("liar", number), sim["rate"]) if lies else None
        kind = "liar" if lies else "server"
        servers.append(await sim.peer(f"{kind}-{number}", met=[publisher], follows=[publisher], strategy=strategy))
    await sim.sleep(30)
    lying = [member for member in servers if not member.strategy.is_honest]
    honest = [member for member in servers if member.strategy.is_honest]

    async def read(number: int) -> None:
        await sim.sleep(sim.chance.random() * 20)
        named = [draw(sim.chance, honest), *(draw(sim.chance, lying or honest) for _ in range(3))]
        reader = await sim.peer(f"reader-{number}", named=list(dict.fromkeys(named)))
        for _ in range(sim["asks"]):
            await sim.sleep(sim.chance.random() * 10)
            await sim.ask(reader, publisher)

    await sim.together([partial(read, number) for number in range(sim["readers"])])
    sim.publish_more(publisher, 20, edits=10)
    for number in range(3):
        met = [draw(sim.chance, lying or honest) for _ in range(4)]
        await sim.peer(f"newcomer-{number}", met=[*dict.fromkeys(met), draw(sim.chance, honest)], follows=[publisher])
    await sim.settle()
    sim.measured["lies"] = sum(member.strategy.lies for member in lying if isinstance(member.strategy, Liar))
    sim.expect("there were lies to see through", bool(sim.measured["lies"]) or not lying)
    sim.expect("who names an honest peer is answered", not sim.unanswered, f"{sim.unanswered} were not")
