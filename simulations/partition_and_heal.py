"""Partition and heal: for a while nothing passes between two parts of the network.

On the publisher's side new heads go on arriving; on the other side everybody goes on
answering from what they hold. Then the cut heals, and within a minute all agree.
With `one_way` the cut stops only what the far side sends.
"""

from functools import partial

from rhizome_index.simulation.cluster import Member
from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import draw


@scenario(peers=10, minutes=2, posts=100, every_seconds=10, asks=3, one_way=0)
async def partition_and_heal(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    followers = [
        await sim.peer(f"follower-{number}", met=[publisher], follows=[publisher]) for number in range(sim.peers - 1)
    ]
    await sim.sleep(30)
    far = followers[len(followers) // 2 :]
    number = sim.network.cut([member.host for member in far], one_way=bool(sim["one_way"]))

    async def ask(member: Member) -> None:
        for _ in range(sim["asks"]):
            await sim.sleep(sim.chance.random() * 20 * sim.minutes)
            await sim.ask(member, publisher)

    async def go_on() -> None:
        while sim.world.now < 60 * sim.minutes:
            await sim.sleep(sim["every_seconds"])
            sim.publish_more(publisher, 3, edits=3)

    await sim.together([go_on, *(partial(ask, draw(sim.chance, [member])) for member in followers)])
    behind = [member for member in far if member.running.peer.catalog[publisher.dataset].sequence > 1]
    sim.expect("the cut held", not behind, f"{behind} heard of heads across it")
    sim.expect("all were answered, on both sides", not sim.unanswered, f"{sim.unanswered} were not")
    sim.network.heal(number)
    await sim.settle()
