"""Liars: some of those who serve change, swap, forge and make up what they send.

Readers name several peers, of whom `lying` in a hundred lie: a third of them about
every third message, a third answer from another dataset than the one asked of, and a
third sign heads in the publisher's name. No wrong row is ever accepted; whoever names
one honest peer is answered. Followers among liars reach the newest head too.
"""

from functools import partial

from rhizome_index.simulation.byzantine import Spoiler
from rhizome_index.simulation.cluster import Member
from rhizome_index.simulation.lies import Forger, Liar, Swapper
from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import draw


@scenario(peers=10, minutes=1, posts=100, lying=50, rate=0.3, readers=6, asks=4)
async def liars(sim: Simulation) -> None:
    publishers = [await sim.publish(sim["posts"], name) for name in ("publisher", "other")]
    publisher, other = publishers

    def lie(number: int) -> Spoiler:
        chance = sim.world.chance("liar", number)
        swapped = {publisher.dataset: other.dataset, other.dataset: publisher.dataset}
        return (Liar(chance, sim["rate"]), Swapper(chance, swapped), Forger(chance))[number % 3]

    servers: list[Member] = []
    for number in range(sim.peers):
        strategy = lie(number) if number < sim.peers * sim["lying"] // 100 else None
        name = f"{type(strategy).__name__.lower() if strategy else 'server'}-{number}"
        servers.append(await sim.peer(name, met=publishers, follows=publishers, strategy=strategy))
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
    sim.measured["lies"] = sum(member.strategy.lies for member in lying if isinstance(member.strategy, Spoiler))
    sim.expect("there were lies to see through", bool(sim.measured["lies"]) or not lying)
    sim.expect("who names an honest peer is answered", not sim.unanswered, f"{sim.unanswered} were not")
