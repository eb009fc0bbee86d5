"""Small scenarios that bring bugs out, each with the promises of its own; `planted` says which bug shows where."""

from __future__ import annotations

from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError
from rhizome_index.simulation.byzantine import Spoiler, Stale, Withholder
from rhizome_index.simulation.lies import Equivocator, Forger
from rhizome_index.simulation.network import Place
from rhizome_index.simulation.scenario import Simulation
from rhizome_index.simulation.workload import count_tagged, tagged

TAGS = ("photography", "music", "travel", "art", "food", "cats")
FAIR, ANSWERED, EVIDENCE = "nobody carries all", "everybody was answered", "every follower holds the evidence"
SOON = "nobody waits long for who is silent"


class Hider(Spoiler):
    """Hides an entry of every leaf it sends, leaving everything else as it should be."""

    async def spoil(self, protocol: str, message: list[Any]) -> list[list[Any]]:
        if message[1] == "blocks":
            message[2] = [self._hide(block) for block in message[2]]
        return [message]

    def _hide(self, block: bytes) -> bytes:
        try:
            leaf = cbor.decode(block)
        except IntegrityError:
            return block
        if type(leaf) is not list or leaf[0] != 0 or len(leaf[1]) < 2:
            return block
        place = 1 + int(self.chance.random() * (len(leaf[1]) - 1))
        leaf[1][place] = leaf[1][place - 1] + b"\0"
        return cbor.encode(leaf)


class Shortener(Spoiler):
    """Leaves out the last block of every proof."""

    async def spoil(self, protocol: str, message: list[Any]) -> list[list[Any]]:
        if message[1] == "blocks" and protocol == "/rhizome/ask/1" and len(message[2]) > 1:
            return [[message[0], "blocks", message[2][:-1]]]
        return [message]


async def ask_hiders(sim: Simulation) -> None:
    """Readers name two peers that hide entries, and an honest one; counts, since a hidden row hides its record too."""
    publisher = await sim.publish(30)
    hiders = [
        await sim.peer(f"hider-{number}", met=[publisher], follows=[publisher], strategy=Hider(sim.chance))
        for number in range(2)
    ]
    await sim.sleep(5)
    for number in range(3):
        reader = await sim.peer(f"reader-{number}", named=[*hiders, publisher])
        for tag in TAGS:
            await sim.ask(reader, publisher, count_tagged(tag))


async def ask_a_shortener(sim: Simulation) -> None:
    publisher = await sim.publish(200, strategy=Shortener(sim.chance))
    reader = await sim.peer("reader", named=[publisher])
    for tag in TAGS:
        await sim.ask(reader, publisher, tagged(tag, 32))


async def ask_who_is_behind(sim: Simulation) -> None:
    publisher = await sim.publish(20)
    stale = Stale(sim.chance)
    behind = await sim.peer("behind", met=[publisher], follows=[publisher], strategy=stale)
    await sim.sleep(5)
    stale.is_stale = True
    sim.publish_more(publisher, 5)
    reader = await sim.peer("reader", named=[publisher, behind])
    for _ in range(6):
        await sim.ask(reader, publisher)


async def ask_a_crowd(sim: Simulation) -> None:
    """Readers who could ask any of four; and one of whom nothing comes."""
    publisher = await sim.publish(30)
    servers = [await sim.peer(f"server-{number}", met=[publisher], follows=[publisher]) for number in range(4)]
    await sim.sleep(10)
    asked: list[str] = []
    for number in range(6):
        reader = await sim.peer(f"reader-{number}", named=servers)
        for _ in range(3):
            page = await sim.ask(reader, publisher)
            asked += page.cost.peers if page else []
    most = max(asked.count(server.peer_id) for server in servers)
    sim.expect(FAIR, most <= 0.6 * len(asked), f"{most} of {len(asked)}")
    sim.expect(ANSWERED, not sim.unanswered, f"{sim.unanswered} were not")


async def follow_on(sim: Simulation) -> None:
    """Followers of a publisher who goes on publishing; one of them starts again."""
    publisher = await sim.publish(30)
    followers = [await sim.peer(f"follower-{number}", met=[publisher], follows=[publisher]) for number in range(3)]
    for _ in range(3):
        await sim.sleep(20)
        sim.publish_more(publisher, 3, edits=2)
    await sim.cluster.stop(followers[0])
    await sim.cluster.start(followers[0])
    sim.publish_more(publisher, 3, edits=2)
    await sim.ask(followers[1], publisher)
    await sim.settle()
    await sim.sleep(1)


async def follow_across_a_cut(sim: Simulation) -> None:
    publisher = await sim.publish(10)
    cut = sim.network.cut([publisher.host])
    await sim.peer("follower", met=[publisher], follows=[publisher])
    await sim.sleep(30)
    sim.network.heal(cut)
    await sim.settle()


async def follow_forgers(sim: Simulation) -> None:
    publisher = await sim.publish(10)
    forger = await sim.peer("forger", met=[publisher], follows=[publisher], strategy=Forger(sim.chance))
    await sim.sleep(5)
    await sim.peer("follower", met=[forger, publisher], follows=[publisher])
    await sim.sleep(20)


async def follow_two_stories(sim: Simulation) -> None:
    strategy = Equivocator(sim.chance)
    publisher = await sim.publish(20, strategy=strategy)
    followers: list[Any] = []
    for number in range(6):
        followers.append(await sim.peer(f"follower-{number}", met=[publisher, *followers[-2:]], follows=[publisher]))
    await sim.sleep(20)
    strategy.split(sim.cluster, publisher, sim.posts(publisher).more(3), sim.posts(publisher).more(4))
    await sim.sleep(90)
    told = {strategy.tells_other(member.peer_id) for member in followers}
    unaware = [member for member in followers if member.running.peer.store.equivocation(publisher.dataset) is None]
    sim.expect(EVIDENCE, not unaware or len(told) < 2, f"{unaware} do not")


async def lose_power(sim: Simulation) -> None:
    """The publisher loses power after a change was acknowledged, or in the midst of one."""
    publisher = await sim.publish(10)
    for _ in range(12):
        sim.publish_more(publisher, 2, edits=8)
        if sim.chance.random() < 0.7:
            publisher.host.disk.fuse = int(sim.chance.random() * 80)
            sim.publish_more(publisher, 2, edits=8)
        await sim.cluster.kill(publisher, power=True)
        await sim.cluster.start(publisher)


async def lose_followers(sim: Simulation) -> None:
    """A follower is killed, or loses power, somewhere in the midst of a sync."""
    publisher = await sim.publish(60)
    follower = await sim.peer("follower", named=[publisher], follows=[publisher])
    for _ in range(12):
        sim.publish_more(publisher, 10, edits=10)
        await sim.sleep(sim.chance.random())
        await sim.cluster.kill(follower, power=sim.chance.random() < 0.5)
        await sim.cluster.start(follower)
        await sim.sleep(2)


async def sync_across_a_cut(sim: Simulation) -> None:
    """All connections are cut somewhere in the midst of a sync; then the follower is looked at."""
    publisher = await sim.publish(120, place=Place(up_bytes_per_second=40_000))
    for number in range(6):
        follower = await sim.peer(f"follower-{number}", named=[publisher], follows=[publisher])
        await sim.sleep(0.3 + 1.5 * sim.chance.random())
        cut = sim.network.cut([follower.host])
        await sim.sleep(60)
        await sim.cluster.stop(follower)
        await sim.cluster.start(follower)
        await sim.cluster.stop(follower)
        sim.network.heal(cut)


async def follow_hiders(sim: Simulation) -> None:
    publisher = await sim.publish(30)
    hider = await sim.peer("hider", met=[publisher], follows=[publisher], strategy=Hider(sim.chance))
    await sim.sleep(5)
    follower = await sim.peer("follower", met=[hider, publisher], follows=[publisher])
    await sim.sleep(5)
    for tag in TAGS:
        await sim.ask(follower, publisher, count_tagged(tag))
    await sim.settle()


async def ask_the_silent(sim: Simulation) -> None:
    """Readers name three peers of whom nothing comes, and one that answers: they are not kept waiting."""
    publisher = await sim.publish(20)
    silent = [await sim.peer(f"silent-{number}", strategy=Withholder(sim.chance)) for number in range(3)]
    for number in range(4):
        reader = await sim.peer(f"reader-{number}", named=[*silent, publisher])
        started = sim.world.now
        await sim.ask(reader, publisher)
        seconds = sim.world.now - started
        sim.expect(SOON, seconds < 15, f"{seconds:.1f} s")
    sim.expect(ANSWERED, not sim.unanswered, f"{sim.unanswered} were not")


async def ask_those_nearby(sim: Simulation) -> None:
    """Readers who could ask any of four, of which one is a little nearer than the others."""
    publisher = await sim.publish(30)
    places = [Place(access_seconds=0.001 * (number + 1)) for number in range(4)]
    servers = [
        await sim.peer(f"server-{number}", met=[publisher], follows=[publisher], place=place)
        for number, place in enumerate(places)
    ]
    await sim.sleep(10)
    asked: list[str] = []
    for number in range(6):
        reader = await sim.peer(f"reader-{number}", named=servers, place=Place())
        for _ in range(3):
            page = await sim.ask(reader, publisher)
            asked += page.cost.peers if page else []
    most = max(asked.count(server.peer_id) for server in servers)
    sim.expect(FAIR, most <= 0.6 * len(asked), f"{most} of {len(asked)}")


async def start_again_alone(sim: Simulation) -> None:
    """A follower that starts again is told of nobody, and nobody is told of it: it knows whom it has met."""
    publisher = await sim.publish(20)
    follower = await sim.peer("follower", met=[publisher], follows=[publisher], place=Place(is_dialable=False))
    await sim.sleep(20)
    await sim.cluster.stop(follower)
    sim.publish_more(publisher, 5)
    await sim.sleep(20)
    await sim.cluster.start(follower)
    await sim.settle()
    await sim.sleep(1)


async def follow_after_an_answer(sim: Simulation) -> None:
    """A reader has an answer from the newest head, and then follows among peers that have not got that yet."""
    publisher = await sim.publish(20)
    behind = await sim.peer("behind", met=[publisher], follows=[publisher])
    await sim.sleep(5)
    sim.network.cut([behind.host], [publisher.host])
    sim.publish_more(publisher, 5)
    reader = await sim.peer("reader", named=[publisher])
    await sim.ask(reader, publisher)
    sim.network.cut([reader.host], [publisher.host])
    await sim.cluster.stop(reader)
    await sim.cluster.start(reader, named=[behind])
    sim.cluster.follow(reader, publisher.dataset)
    await sim.sleep(20)
