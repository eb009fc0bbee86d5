"""Answering: no peer takes more than its share, who does not read loses it, and long searches let others go on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rhizome_index.api import open_node
from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import StoreError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity
from rhizome_index.limits import (
    ADDRESS_BYTES_MAX,
    ANSWER_BYTES_PER_SECOND_MIN,
    ANSWERS_AT_ONCE_MAX,
    ANSWERS_PER_PEER_MAX,
    ASK_TIMEOUT_SECONDS,
    HEADS_DATASETS_MAX,
    HELD_UP_SECONDS,
    IN_FLIGHT_BYTES_MAX,
    PROOF_BYTES_MAX,
    PROVIDERS_MAX,
    PROVIDERS_WANTED,
    ROWS_BATCH,
    STREAM_WINDOW_BYTES,
    TURN_TIMEOUT_SECONDS,
    WANTS_MAX,
    WRITE_TIMEOUT_SECONDS,
)
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.register import Register
from rhizome_index.node.serve import LocalAnswerer, Server
from rhizome_index.query.parse import parse
from rhizome_index.wire import heads, want
from rhizome_index.wire import message as m
from rhizome_index.wire.ask import Ask, answer
from rhizome_index.wire.frame import FrameReader
from tests.node.memory_swarm import PIECE_BYTES, MemoryStream, MemorySwarm

IN_FLIGHT = IN_FLIGHT_BYTES_MAX // PROOF_BYTES_MAX  # requests that say nothing of a budget
BLOCKS = [number.to_bytes(4, "big") * 12_500 for number in range(PROOF_BYTES_MAX // 50_000)]
BULKY = want.Want(None, tuple(cid_of(block) for block in BLOCKS)).fields()
DATASET = Address("12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC", "main")
SMALL = want.Want(None, (cid_of(b"not here"),)).fields()


@contextmanager
def serving(tmp_path: Path, nursery: trio.Nursery) -> Iterator[tuple[Server, MemorySwarm]]:
    store = DiskStore(tmp_path / "store.sqlite", make=True)
    store.put_many([(cid_of(block), block) for block in BLOCKS])
    swarm = MemorySwarm(nursery)
    server = Server(store, Register(store), swarm, Identity(bytes(32)))
    server.start()
    yield server, swarm
    nursery.cancel_scope.cancel()
    store.close()


async def ask(stream: MemoryStream, *numbers: int, fields: object = BULKY) -> None:
    for number in numbers:
        await stream.send(m.encode_request(number, fields))  # type: ignore[arg-type]


async def replies(stream: MemoryStream, *, bytes_per_second: float = float("inf")) -> list[m.Reply]:
    """What comes until one answer has ended, read at a rate."""
    found: list[m.Reply] = []
    frames, reader = FrameReader(), m.ReplyReader()
    while not found or not isinstance(found[-1], m.End | m.Failure):
        data = await stream.receive()
        assert data
        await trio.sleep(len(data) / bytes_per_second)
        found += [reply for body in frames.feed(data) if (reply := reader.read(body)) is not None]
    return found


async def test_one_peer_takes_its_share_and_no_more(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (server, swarm):
        for _ in range(4):
            for protocol in (want.PROTOCOL, heads.PROTOCOL):
                stream = swarm.accept("greedy", protocol)
                fields = BULKY if protocol == want.PROTOCOL else {"datasets": []}
                await ask(stream, *range(IN_FLIGHT), fields=fields)
        await wait_all_tasks_blocked()
        assert len(server.places.held) == ANSWERS_PER_PEER_MAX
        other = swarm.accept("other", want.PROTOCOL)
        await ask(other, 7, fields=SMALL)
        with trio.fail_after(1):
            assert (await replies(other))[-1] == m.End(7, {"sent": 1})


async def test_between_two_frames_of_one_peer_every_other_has_a_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    made: list[str] = []

    def answering(self: Server, request: m.Request) -> Iterator[bytes]:
        for _ in range(20):
            made.append("greedy" if request.number else "other")
            yield b""
        yield m.encode_end(request.number, {})

    monkeypatch.setattr(Server, "_answer_want", answering)
    with serving(tmp_path, nursery) as (_, swarm):
        await ask(swarm.accept("greedy", want.PROTOCOL), *range(1, IN_FLIGHT + 1), fields=SMALL)
        await ask(swarm.accept("other", want.PROTOCOL), 0, fields=SMALL)
        await wait_all_tasks_blocked()
    assert made.count("other") == 20 and made.count("greedy") == 20 * IN_FLIGHT
    first, last = made.index("other"), len(made) - made[::-1].index("other")
    assert last - first <= 2 * 20 + 1


async def test_all_peers_share_the_places_and_who_does_not_read_makes_room(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (server, swarm):
        for number in range(ANSWERS_AT_ONCE_MAX // IN_FLIGHT):
            stream = swarm.accept(f"peer {number}", want.PROTOCOL)
            await ask(stream, *range(IN_FLIGHT))
        await wait_all_tasks_blocked()
        assert len(server.places.held) == ANSWERS_AT_ONCE_MAX
        other = swarm.accept("other", want.PROTOCOL)
        await ask(other, 7, fields=SMALL)
        assert (await replies(other))[-1] == m.End(7, {"sent": 1})
        assert trio.current_time() <= 2 * HELD_UP_SECONDS
        streams = [streams[0] for peer, streams in swarm.streams.items() if peer != "other"]
        assert [stream.is_reset for stream in streams].count(True) == 1


async def test_who_comes_while_all_places_are_taken_is_told_so(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (server, swarm):
        for number in range(ANSWERS_AT_ONCE_MAX):
            await server.places.take(f"peer {number}")
        other = swarm.accept("other", want.PROTOCOL)
        await ask(other, 7, fields=SMALL)
        (failure,) = await replies(other)
        assert isinstance(failure, m.Failure) and (failure.number, failure.code) == (7, m.BUSY)
        assert trio.current_time() == pytest.approx(TURN_TIMEOUT_SECONDS)
        server.places.leave(next(iter(server.places.held)))
        await ask(other, 7, fields=SMALL)
        assert isinstance((await replies(other))[-1], m.End)


async def test_a_peer_that_does_not_read_holds_nothing_for_long(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (server, swarm):
        await ask(swarm.accept("deaf", want.PROTOCOL), 1, 2, 3)
        await wait_all_tasks_blocked()
        assert len(server.places.held) == 3
        await trio.sleep(1.1 * WRITE_TIMEOUT_SECONDS)
        assert len(server.places.held) == 0 and not server._shares and swarm.streams["deaf"][0].is_reset


async def test_what_a_peer_asks_without_reading_stays_unread(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Small answers are ready at once: they must not pile up behind one that cannot be sent."""
    with serving(tmp_path, nursery) as (server, swarm):
        stream = swarm.accept("deaf", want.PROTOCOL)
        await ask(stream, 1)
        await wait_all_tasks_blocked()
        number = 1
        with pytest.raises(UnavailableError):
            while True:
                number += 1
                await ask(stream, number, fields=SMALL)
        assert number > STREAM_WINDOW_BYTES // PIECE_BYTES and server.requests <= 1 + ANSWERS_PER_PEER_MAX
        assert swarm.disconnected == []


async def test_a_stream_has_so_many_requests_under_way(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (server, swarm):
        stream = swarm.accept("peer", want.PROTOCOL)
        await ask(stream, *range(IN_FLIGHT + 1))
        await wait_all_tasks_blocked()
        assert server.requests == len(server.places.held) == IN_FLIGHT
        found = await replies(stream)
        assert found[-1] == m.Failure(IN_FLIGHT, m.BUSY, "too many requests at once")


async def test_a_number_is_free_as_soon_as_its_answer_is_there(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Even while the call that has sent it goes on."""
    with serving(tmp_path, nursery) as (_, swarm):
        swarm.bytes_per_second = 10
        stream = swarm.accept("peer", want.PROTOCOL)
        for _ in range(3):
            await ask(stream, 5, fields=SMALL)
            assert (await replies(stream))[-1] == m.End(5, {"sent": 1})


async def test_who_takes_blocks_is_told_of_and_who_asks_for_heads_is_not(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (server, swarm):
        read: list[str] = []
        server.on_read = read.append
        for peer, protocol, fields in (
            ("asks", heads.PROTOCOL, heads.request_fields([DATASET])),
            ("takes", want.PROTOCOL, SMALL),
            ("vanishes", want.PROTOCOL, BULKY),
        ):
            stream = swarm.accept(peer, protocol)
            await ask(stream, 1, fields=fields)
            if peer == "vanishes":
                await stream.reset()
            else:
                await replies(stream)
            await wait_all_tasks_blocked()
        assert read == ["takes"]


async def test_a_number_in_use_costs_the_connection(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (_, swarm):
        await ask(swarm.accept("peer", want.PROTOCOL), 5, 5)
        await wait_all_tasks_blocked()
        assert swarm.disconnected == swarm.blamed == ["peer"]


async def test_a_store_that_fails_ends_one_answer(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(store: DiskStore, cid: bytes) -> bytes:
        raise StoreError("the disk is gone")

    with serving(tmp_path, nursery) as (_, swarm):
        stream = swarm.accept("peer", want.PROTOCOL)
        with monkeypatch.context() as patch:
            patch.setattr(DiskStore, "get", fail)
            await ask(stream, 5)
            assert await replies(stream) == [m.Failure(5, m.MISSING, "the disk is gone")]
        await ask(stream, 5, fields=SMALL)
        assert (await replies(stream))[-1] == m.End(5, {"sent": 1})


async def test_who_reads_slowly_but_steadily_gets_everything(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (_, swarm):
        stream = swarm.accept("slow", want.PROTOCOL)
        await ask(stream, 1)
        found = await replies(stream, bytes_per_second=1.1 * ANSWER_BYTES_PER_SECOND_MIN)
        assert found[-1] == m.End(1, {"sent": len(BLOCKS)}) and trio.current_time() > 4 * ASK_TIMEOUT_SECONDS


async def test_who_reads_in_drips_does_not(tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Each write takes less than its deadline: only the answer's own ends this."""
    with serving(tmp_path, nursery) as (server, swarm):
        stream = swarm.accept("drip", want.PROTOCOL)
        await ask(stream, 1)
        with pytest.raises(UnavailableError):
            await replies(stream, bytes_per_second=PIECE_BYTES / WRITE_TIMEOUT_SECONDS * 2)
        in_window = STREAM_WINDOW_BYTES / ANSWER_BYTES_PER_SECOND_MIN
        assert trio.current_time() < 1.2 * (ASK_TIMEOUT_SECONDS + in_window) and len(server.places.held) == 0


PUBLISHER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
LONG_WANT = want.Want(None, (cid_of(b"not here"),) * WANTS_MAX).fields()
LONG_HEADS = {"datasets": [f"rhizome:{PUBLISHER}/d{number}" for number in range(HEADS_DATASETS_MAX)]}


@pytest.mark.parametrize(
    ("protocol", "fields", "turns_min"),
    [(want.PROTOCOL, LONG_WANT, WANTS_MAX // 16), (heads.PROTOCOL, LONG_HEADS, HEADS_DATASETS_MAX)],
)
async def test_a_long_search_lets_others_have_their_turn(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery, protocol: str, fields: object, turns_min: int
) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    with serving(tmp_path, nursery) as (_, swarm):
        stream = swarm.accept("peer", protocol)
        await ask(stream, 1, fields=fields)
        nursery.start_soon(count_turns)
        assert isinstance((await replies(stream))[-1], m.End)
        assert turns >= turns_min


async def test_so_does_a_query_that_finds_nothing(tmp_path: Path) -> None:
    query, _ = parse("all posts where likes < 0")
    async with open_node(tmp_path) as node:
        collection = node.collection("posts")
        await collection.create()
        await collection.put_many([{"id": f"{number:06}", "likes": 1} for number in range(1000)])
        asked = Ask(node.peer.publisher.address("main"), query, scan=True)
        frames = list(answer(1, asked, LocalAnswerer(node.peer.store, {})))
    assert frames.count(b"") >= 1000 // ROWS_BATCH


# --- who serves a dataset ---


async def told_providers(swarm: MemorySwarm) -> tuple[str, ...]:
    """Whom it names, as far as the asker's side of the protocol takes it."""
    stream = swarm.accept("peer", heads.PROTOCOL)
    await ask(stream, 1, fields={"datasets": [str(DATASET)]})
    conversation = heads.AskingHeads((DATASET,))
    for reply in await replies(stream):
        conversation.take(reply)
    return conversation.known[DATASET].providers


async def test_addresses_longer_than_may_be_told_are_not_told_on(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Others may have told us what nobody may tell: who passed it on would lose his connection for it."""
    with serving(tmp_path, nursery) as (server, swarm):
        register = server._register
        for number, size in enumerate((ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX + 1)):
            register.note_provider(DATASET, f"peer {number}", 1.0)
            register.note_hearsay("a" * size, f"peer {number}")
        assert await told_providers(swarm) == ("a" * ADDRESS_BYTES_MAX,)


@pytest.mark.parametrize("known", [PROVIDERS_MAX, PROVIDERS_MAX + 1, 3 * PROVIDERS_MAX])
async def test_few_more_providers_are_looked_up_than_are_told(
    known: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    looked_up: list[int] = []
    newest_addresses = Register.newest_addresses

    def counted(register: Register, peer_ids: Sequence[str]) -> list[str]:
        looked_up.append(len(peer_ids))
        return newest_addresses(register, peer_ids)

    monkeypatch.setattr(Register, "newest_addresses", counted)
    with serving(tmp_path, nursery) as (server, swarm):
        swarm.connected_peers = know_providers(server._register, known)
        assert len(await told_providers(swarm)) == PROVIDERS_MAX
    assert looked_up == [min(known, 2 * PROVIDERS_MAX)]


def know_providers(register: Register, count: int) -> tuple[str, ...]:
    """Let so many providers be known, the last seen last; their peer ids."""
    for number in range(count):
        register.note_provider(DATASET, f"peer {number}", 1.0 + number)
        register.note_hearsay(f"address {number}", f"peer {number}")
    return tuple(f"peer {number}" for number in range(count))


@pytest.mark.parametrize("connected", [0, 1, PROVIDERS_WANTED - 1, PROVIDERS_WANTED, PROVIDERS_WANTED + 1])
async def test_who_is_not_here_is_told_only_where_few_are(
    connected: int, tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with serving(tmp_path, nursery) as (server, swarm):
        known = know_providers(server._register, 30)
        swarm.connected_peers = known[:connected]
        told = await told_providers(swarm)
    assert set(told[:connected]) == {f"address {number}" for number in range(connected)}
    assert list(told[connected:]) == [f"address {29 - number}" for number in range(PROVIDERS_WANTED - connected)]


async def test_all_who_are_here_are_told_alike(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Else those told would be asked by everybody, and told on."""
    told: Counter[str] = Counter()
    with serving(tmp_path, nursery) as (server, swarm):
        server._chance = random.Random(1).random
        swarm.connected_peers = know_providers(server._register, 4 * PROVIDERS_MAX)
        for _ in range(100):
            told.update(server._providers(DATASET))
    assert len(told) == 4 * PROVIDERS_MAX and max(told.values()) < 2 * 100 / 4
