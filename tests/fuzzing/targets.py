"""Every decoder that strangers' bytes reach: what it may raise, and what to begin with.

Promises: each target takes any bytes at all and raises nothing but what its decoder
documents. Beginnings are the conformance vectors, valid and invalid ones. Where a
signature would stop everything behind it, the target signs what it is given: a
publisher may be hostile, too.

It does not know how inputs are made: see `inputs` and `fuzz`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.car import read_car, write_car
from rhizome_index.blocks.cid import cid_of, parse_cid
from rhizome_index.cli.json_text import Flaw, parse_object
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.address import Address, marshal_public_key
from rhizome_index.index.condition import And, Compare
from rhizome_index.index.duration import parse_duration
from rhizome_index.index.envelope import _fields, signed_bytes
from rhizome_index.index.head import DOMAIN, PAYLOAD_TYPE, Identity, open_head, sign_head
from rhizome_index.index.keys import decode_key
from rhizome_index.index.manifest import decode_manifest
from rhizome_index.index.record import decode_record, parse_path
from rhizome_index.node.call import read_progress
from rhizome_index.node.keyfile import encode_open, is_sealed, open_keys, public_keys
from rhizome_index.node.status import NodeStatus
from rhizome_index.query.answer import Cursor
from rhizome_index.query.expr import NEWEST, Query, decode_query, encode_query
from rhizome_index.query.parse import parse, parse_index
from rhizome_index.query.plan import decode_plan, encode_plan
from rhizome_index.tree.node import decode_node
from rhizome_index.trust.attest import open_attestation
from rhizome_index.trust.evidence import decode_fraud
from rhizome_index.wire import circuit, control, dcutr, gossip, identify, mdns, protobuf
from rhizome_index.wire import message as m
from rhizome_index.wire.ask import Ask, Asking
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.heads import AskingHeads, read_request
from rhizome_index.wire.multiaddr import encode_multiaddr
from rhizome_index.wire.packed import unpack
from rhizome_index.wire.sync import Sync, Syncing
from rhizome_index.wire.trust import About, AskingTrust
from rhizome_index.wire.want import Want, Wanting

PROTOCOLS = Path(__file__).parents[2] / "protocols"
SIGNER = Identity(b"f" * 32)
DATASET = Address(SIGNER.peer_id, "main")
QUERIES = (
    Query("things", limit=3),
    Query("things", Compare("=", "tags", "a"), NEWEST, 3),
    Query("things", And((Compare(">", "n", 1), Compare("=", "tags", "a"))), kind="count"),
)
NOW_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder. `run` takes an input; `raises` is what is documented; `begin` gives inputs to begin with."""

    run: Callable[[bytes], object]
    raises: tuple[type[Exception], ...]
    begin: Callable[[], Iterator[bytes]]

    def take(self, data: bytes) -> None:
        """Give it an input. Raises what is not documented."""
        try:
            self.run(data)
        except self.raises:
            return


# --- what to begin with ---


@cache
def _vectors(protocol: str) -> Any:
    return json.loads((PROTOCOLS / protocol / "1" / "vectors.json").read_text(encoding="utf-8"))


def _field(protocol: str, name: str, *lists: str) -> Callable[[], Iterator[bytes]]:
    """The bytes under one name in some lists of a protocol's vectors."""

    def begin() -> Iterator[bytes]:
        for which in lists:
            for case in _vectors(protocol)[which]:
                found = case[name] if name else case
                yield b"".join(map(bytes.fromhex, found)) if isinstance(found, list) else bytes.fromhex(found)

    return begin


def _texts(protocol: str, *lists: str) -> Callable[[], Iterator[bytes]]:
    return lambda: (str(text).encode() for which in lists for text in _vectors(protocol)[which])


def _given(*inputs: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(inputs)


def _requests(protocol: str) -> Callable[[], Iterator[bytes]]:
    def begin() -> Iterator[bytes]:
        for case in _vectors(protocol)["exchanges"]:
            yield from FrameReader().feed(bytes.fromhex(case["request"]))
        yield from _field(protocol, "body", "not_requests")()

    return begin


def _payloads() -> Iterator[bytes]:
    """What is signed in the heads of the vectors."""
    for envelope in _field("head", "envelope", "heads", "not_heads")():
        with suppress(IntegrityError):
            yield _fields(envelope)[2]


def _proof_files() -> Iterator[bytes]:
    for case in [*_vectors("fraud")["proofs"][:12], *_vectors("fraud")["not_proofs"][:12]]:
        blocks = [bytes.fromhex(block) for block in case["blocks"]]
        file = BytesIO()
        write_car(file, [cid_of(block) for block in blocks[:1]], [(cid_of(block), block) for block in blocks])
        yield file.getvalue()


def _control() -> Iterator[bytes]:
    requests = (
        control.WatchPeers(),
        control.Dial("/ip4/127.0.0.1/tcp/1", 1000),
        control.Disconnect("peer"),
        control.Bring(str(DATASET)),
        control.Look(),
        control.Status(),
        control.Borrow("peer", "/rhizome/ask/1", 1000),
    )
    for request in requests:
        yield from FrameReader().feed(control.encode_request(request))
    yield from FrameReader().feed(control.encode_error(UsageError("no", hint="do")))
    yield from FrameReader().feed(control.encode_end({"peer": "p", "look": 1}))


def _messages() -> Iterator[bytes]:
    return _field("gossip", "message", "messages", "not_heads", "not_messages")()


def _rpcs() -> Iterator[bytes]:
    for data in _messages():
        yield protobuf.field(2, data)
    topic = gossip.topic_of(DATASET)
    rpc = gossip.Rpc([(topic, True)], [], [(topic, [b"12345678"])], [b"1"], [topic], [(topic, 60)])
    yield rpc.encode()


def _packed() -> Iterator[bytes]:
    for body in _field("message", "body", "packed")():
        yield cbor.decode(body)[2]


def _replies() -> Iterator[bytes]:
    yield from _field("message", "frames", "blocks")()
    for body in _field("message", "body", "packed")():
        yield encode_frame(body)


# --- conversations: the frames that answer a request ---


def _conversation(protocol: str, ask: Callable[[Any], Any]) -> Target:
    """The asker's side: the first byte says which of the requests is asked, the rest are the frames that come back."""
    cases = [*_vectors(protocol)["exchanges"], *_vectors(protocol)["not_answers"]]
    fields = [m.decode_request(next(FrameReader().feed(bytes.fromhex(case["request"])))).fields for case in cases]

    def run(data: bytes) -> None:
        if data:
            place = data[0] % len(cases)
            _hear(ask((fields[place], cases[place])), data[1:])

    def begin() -> Iterator[bytes]:
        for place, case in enumerate(cases[:256]):
            yield bytes([place]) + b"".join(map(bytes.fromhex, case["replies"]))

    return Target(run, (IntegrityError,), begin)


def _hear(conversation: Any, data: bytes) -> None:
    replies = m.ReplyReader()
    for body in FrameReader().feed(data):
        reply = replies.read(body)
        if reply is not None:
            conversation.take(reply)


def _take_signed_manifest(data: bytes) -> None:
    """A hostile publisher signs any manifest, and a peer answers from it."""
    head = sign_head(SIGNER, "main", 1, cid_of(data), 0)
    plan = encode_plan(decode_plan(["by_key", b"", None, False]))
    for query in QUERIES:
        try:
            Asking(Ask(DATASET, query, scan=True)).take(
                m.Open(1, {"head": head.envelope, "manifest": data, "plan": plan})
            )
        except IntegrityError:
            continue


def _open_signed_head(payload: bytes) -> None:
    """A hostile publisher signs any payload."""
    signature = SIGNER.sign(signed_bytes(DOMAIN, PAYLOAD_TYPE, payload))
    parts = ((1, marshal_public_key(SIGNER.public_key)), (2, PAYLOAD_TYPE), (3, payload), (5, signature))
    open_head.__wrapped__(b"".join(protobuf.field(number, part) for number, part in parts))


def _read_cbor(data: bytes) -> None:
    value = cbor.decode(data)
    assert cbor.encode(value) == data, "only canonical bytes are read"


def _read_query(data: bytes) -> None:
    assert encode_query(decode_query(data)) == data, "a query has one encoding"


def _read_car(data: bytes) -> None:
    _, blocks = read_car(BytesIO(data))
    for _ in blocks:
        pass


def _read_replies(data: bytes) -> None:
    replies = m.ReplyReader()
    for body in FrameReader().feed(data):
        replies.read(body)


def _read_gossip(data: bytes) -> None:
    for message in gossip.Rpc.read(data).messages:
        message.verify()


def _read_message(data: bytes) -> None:
    message = gossip.Message.read(data)
    gossip.address_of(message.topic)
    message.verify()


def _read_control(data: bytes) -> None:
    for decode in (control.decode_request, control.decode_answer, control.decode_bytes):
        try:
            decode(data)
        except IntegrityError:
            continue


def _read_news(data: bytes) -> None:
    fields = cbor.decode(data)
    for read in (read_progress, NodeStatus.read):
        try:
            read(fields)
        except IntegrityError:
            continue


def _read_keys(data: bytes) -> None:
    """Without a passphrase: deriving a key from one is meant to take its time."""
    public_keys(data)
    if not is_sealed(data):
        open_keys(data, None)


def _sealed() -> bytes:
    """A file with the form of one that is sealed."""
    body = b"rhizome-keys\x01" + bytes([17, 8, 1]) + bytes(28) + b"\x01" + SIGNER.public_key + bytes(32 + 16)
    return body + sha256(body).digest()[:8]


def _read_circuit(data: bytes) -> None:
    for read in (circuit.read_answer, circuit.read_stop, circuit.read_hop, circuit.is_accepted):
        try:
            read(data)
        except IntegrityError:
            continue


def _circuit() -> Iterator[bytes]:
    limit = circuit.Limit(600, 1 << 25)
    place = encode_multiaddr(f"/ip4/192.0.2.1/tcp/4711/p2p/{SIGNER.peer_id}")
    yield from FrameReader().feed(circuit.hop_reserve() + circuit.hop_connect(SIGNER.peer_id))
    yield from FrameReader().feed(circuit.hop_reserved(1_800_000_000, [place], limit) + circuit.hop_connected(limit))
    yield from FrameReader().feed(circuit.stop_connect(SIGNER.peer_id, limit) + circuit.stop_answer(circuit.Status.OK))


def _read_upgrade(data: bytes) -> None:
    for read in (dcutr.read_connect, dcutr.check_sync, identify.read_identify):
        try:
            read(data)
        except IntegrityError:
            continue


def _upgrade() -> Iterator[bytes]:
    yield from FrameReader().feed(dcutr.encode_connect(["/ip4/192.0.2.1/tcp/4711"]) + dcutr.encode_sync())


def _neighbour() -> bytes:
    return mdns.encode_text(f"/ip4/192.0.2.1/tcp/{port}/p2p/{SIGNER.peer_id}" for port in (1, 2))


def _text(parse_text: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse_text(data.decode("utf-8", "surrogateescape"))


def _request(read: Callable[[Any], object]) -> Callable[[bytes], object]:
    return lambda data: read(m.decode_request(data).fields)


def _ask(case: Any) -> Asking:
    return Asking(Ask.read(case[0]))


def _want(case: Any) -> Wanting:
    return Wanting(Want.read(case[0]), [bytes.fromhex(cid) for cid in case[1]["wanted"]])


_LIES = (IntegrityError,)
_WRONG = (UsageError,)
_SENTENCES = (
    b"first 32 posts tagged #cats",
    b'newest 5 posts tagged #a #b where likes > 3 and (lang = "en" or not author has "x") after abc',
    b"count posts by author where created >= 2020-01-01 since 7d",
    b"oldest 3 posts select id, author.name by alice order by -likes, created",
    b'{"find": "posts", "where": {"tags": "cats", "likes": {"$gt": 3}}, "order": ["-created"], "limit": 32}',
    b'{"count": "posts", "by": "author", "since": "7d", "where": {"$or": [{"a": 1}, {"b": {"$in": [1, null]}}]}}',
)
_RECORDS = (
    b'{"id": "a", "tags": ["cats", "\\u00e9"], "n": -1.5e3, "deep": {"a": [[], {}, null, true]}}',
    b'{"id": 9007199254740993, "t": "2020-01-01T00:00:00Z", "x": {"/": {"bytes": "AAA"}}}',
)

TARGETS: dict[str, Target] = {
    "upgrades": Target(_read_upgrade, _LIES, _upgrade),
    "circuits": Target(_read_circuit, _LIES, _circuit),
    "neighbours": Target(mdns.read_text, _LIES, lambda: iter([_neighbour()])),
    "frames": Target(lambda data: list(FrameReader().feed(data)), _LIES, _field("message", "stream", "not_frames")),
    "cbor": Target(
        _read_cbor,
        _LIES,
        lambda: iter([*_field("block", "data", "values")(), *_field("block", "data", "not_canonical")()]),
    ),
    "names": Target(_text(parse_cid), _WRONG, _texts("block", "not_names")),
    "car": Target(_read_car, _LIES, _proof_files),
    "nodes": Target(decode_node, _LIES, _field("tree", "data", "chunks", "not_chunks")),
    "keys": Target(decode_key, _LIES, _field("keys", "key", "components", "not_keys")),
    "records": Target(decode_record, _LIES, _field("manifest", "data", "records", "not_records")),
    "records in JSON": Target(parse_object, (Flaw,), _given(*_RECORDS)),
    "manifests": Target(decode_manifest, _LIES, _field("manifest", "data", "manifests", "not_manifests")),
    "signed manifests": Target(_take_signed_manifest, _LIES, _field("manifest", "data", "manifests")),
    "attestations": Target(
        open_attestation.__wrapped__, _LIES, _field("trust", "envelope", "attestations", "not_attestations")
    ),
    "heads": Target(open_head.__wrapped__, _LIES, _field("head", "envelope", "heads", "not_heads")),
    "signed heads": Target(_open_signed_head, _LIES, _payloads),
    "addresses": Target(_text(Address.parse), _WRONG, _texts("head", "not_addresses")),
    "paths": Target(_text(parse_path), _WRONG, _texts("manifest", "paths", "not_paths")),
    "durations": Target(_text(parse_duration), _WRONG, _given(b"90s", b"15min", b"1h", b"30d", b"2w")),
    "queries": Target(_read_query, _LIES, _field("query", "data", "not_queries")),
    "queries in words": Target(_text(lambda text: parse(text, NOW_MS)), _WRONG, _given(*_SENTENCES)),
    "indexes in words": Target(
        _text(parse_index), _WRONG, _given(b"by_tag=tags,-created", b"w=words(text) where n > 3 include a, b.c")
    ),
    "cursors": Target(
        _text(lambda text: Cursor.parse(text, QUERIES[0])),
        _WRONG,
        lambda: (case["cursor"].encode() for case in _vectors("query")["cursors"]),
    ),
    "plans": Target(
        lambda data: decode_plan(cbor.decode(data)), _LIES, _given(cbor.encode(["by_key", b"a", None, False]))
    ),
    "requests": Target(m.decode_request, _LIES, _field("message", "body", "not_requests")),
    "replies": Target(_read_replies, _LIES, _replies),
    "packed blocks": Target(unpack, _LIES, _packed),
    "ask requests": Target(_request(Ask.read), _LIES, _requests("ask")),
    "want requests": Target(_request(Want.read), _LIES, _requests("want")),
    "sync requests": Target(_request(Sync.read), _LIES, _requests("sync")),
    "heads requests": Target(_request(read_request), _LIES, _requests("heads")),
    "trust requests": Target(_request(About.read), _LIES, _requests("trust")),
    "ask answers": _conversation("ask", _ask),
    "want answers": _conversation("want", _want),
    "sync answers": _conversation("sync", lambda case: Syncing(Sync.read(case[0]))),
    "heads answers": _conversation("heads", lambda case: AskingHeads(read_request(case[0]))),
    "trust answers": _conversation("trust", lambda case: AskingTrust(About.read(case[0]), case[1]["peer_id"])),
    "control": Target(_read_control, _LIES, _control),
    "news": Target(_read_news, _LIES, _given(cbor.encode({"phase": "x", "entries_done": 1, "peers": ["p"]}))),
    "gossip": Target(_read_gossip, _LIES, _rpcs),
    "gossip messages": Target(_read_message, _LIES, _messages),
    "key files": Target(
        _read_keys,
        _LIES,
        _given(encode_open((SIGNER,)), encode_open((SIGNER, Identity(b"g" * 32))), _sealed()),
    ),
    "fraud proofs": Target(decode_fraud, _LIES, _proof_files),
}
