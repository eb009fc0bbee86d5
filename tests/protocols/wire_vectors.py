"""Vectors of the wire: frames and messages, and whole conversations of ask, want and heads."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of, cid_of_digest
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, Identity, delegate, sign_head
from rhizome_index.index.keys import encode_component
from rhizome_index.index.manifest import Manifest
from rhizome_index.index.record import encode_record
from rhizome_index.index.schema import primary_key
from rhizome_index.query.expr import COUNT as COUNT_KIND
from rhizome_index.query.expr import Query, decode_query
from rhizome_index.query.plan import Candidate, candidates
from rhizome_index.tree.cursor import get
from rhizome_index.wire import ask, heads, want
from rhizome_index.wire import message as m
from rhizome_index.wire.ask import Ask
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.want import Want
from tests.driving import MemorySource
from tests.protocols.contradictions import contradictions
from tests.protocols.dag_json import to_dag_json
from tests.protocols.dataset import COLLECTION, HEAD, IDENTITY, MANIFEST, MANIFEST_CID, MANIFEST_DATA, RECORDS, SOURCE

Vectors = dict[str, Any]
NUMBER = 7


# --- message/1 ---

# Deflated once and for all: other versions of zlib give other bytes.
PACKED = bytes.fromhex("6b8e647e91380a4643603404867d087c03e6f5a451301a02a32130ec430000")
PACKED_TOO_MUCH = bytes.fromhex(
    "edc1010d00000803206b3e8ec19d2f026cfe060000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000a"
)  # [65,533 zeros]


def stored(value: Any, behind: bytes = b"") -> bytes:
    """A value as DEFLATE has it that leaves its bytes as they are (RFC 1951, 3.2.4)."""
    data = cbor.encode(value) + behind
    size = len(data).to_bytes(2, "little")
    return b"\1" + size + bytes(byte ^ 0xFF for byte in size) + data


def shown(blocks: list[bytes | None]) -> list[str | None]:
    return [None if block is None else block.hex() for block in blocks]


def message_vectors() -> Vectors:
    large = bytes(range(256)) * 300
    packer = m.BlockPacker(NUMBER)
    packed = [*packer.add(b"small"), *packer.add(None), *packer.add(large), *packer.add(b""), *packer.flush()]
    not_replies: dict[str, list[Any]] = {
        "no list": [{}],
        "a number alone": [[7]],
        "a negative number": [[-1, "end", {}]],
        "a number beyond 32 bits": [[2**32, "end", {}]],
        "a number that is true": [[True, "end", {}]],
        "an unknown kind": [[7, "more", {}]],
        "an end without fields": [[7, "end", None]],
        "an end of four parts": [[7, "end", {}, {}]],
        "an error with an unknown code": [[7, "error", "unlucky", ""]],
        "an error without a text": [[7, "error", "busy"]],
        "no blocks": [[7, "blocks", []]],
        "a block that is text": [[7, "blocks", ["a"]]],
        "a part of nothing": [[7, "part", b""]],
        "a part that is no bytes": [[7, "part", None]],
        "an end within a block": [[7, "part", b"a"], [7, "end", {}]],
        "null behind a part": [[7, "part", b"a"], [7, "blocks", [None]]],
        "packed, with nothing": [[7, "packed", b""]],
        "packed, and no bytes": [[7, "packed", [b"a"]]],
        "packed, and not deflated": [[7, "packed", cbor.encode([b"a"])]],
        "packed, with a checksum around it": [[7, "packed", zlib.compress(cbor.encode([b"a"]))]],
        "packed, and cut": [[7, "packed", stored([b"a"])[:-1]]],
        "packed, without its last block": [[7, "packed", b"\0" + stored([b"a"])[1:]]],
        "packed, with a byte behind it": [[7, "packed", stored([b"a"]) + b"\0"]],
        "packed, of another form": [[7, "packed", stored({})]],
        "packed, with no blocks": [[7, "packed", stored([])]],
        "packed, with a block that is text": [[7, "packed", stored(["a"])]],
        "packed, with a byte behind the list": [[7, "packed", stored([b"a"], b"\0")]],
        "packed, and 65,537 bytes long": [[7, "packed", PACKED_TOO_MUCH]],
        "packed, with null behind a part": [[7, "part", b"a"], [7, "packed", stored([None])]],
        "an end behind a part and something packed": [[7, "packed", stored([b"a"])], [7, "part", b"a"], [7, "end", {}]],
    }
    not_requests: dict[str, Any] = {
        "no list": {},
        "three parts": [7, {}, {}],
        "fields in a list": [7, []],
        "a number that is a float": [7.0, {}],
        "a number beyond 32 bits": [2**32, {}],
    }
    return {
        "frames": [{"body": body.hex(), "frame": encode_frame(body).hex()} for body in (b"\0", b"a" * 127, b"a" * 128)],
        "not_frames": [
            {"name": "an empty frame", "stream": "00"},
            {"name": "a length in a longer form", "stream": "810000"},
            {"name": "a frame that is too long", "stream": "818004"},
            {"name": "a length without an end", "stream": "808080"},
        ],
        "requests": [{"frame": m.encode_request(NUMBER, {"a": 1}).hex(), "number": NUMBER, "fields": {"a": 1}}],
        "not_requests": [{"name": name, "body": cbor.encode(body).hex()} for name, body in not_requests.items()],
        "blocks": [
            {
                "frames": [frame.hex() for frame in packed],
                "blocks": [b"small".hex(), None, cid_of(large).hex(), ""],
                "large": "the third block, of 76,800 bytes, is shown by its CID",
            }
        ],
        "packed": [
            {"body": cbor.encode([NUMBER, "packed", packed]).hex(), "blocks": shown(blocks)}
            for packed, blocks in [
                (stored([b"small", None, b""]), [b"small", None, b""]),
                (PACKED, [b"a" * 1000, None, b"b" * 1000]),
            ]
        ],
        "not_replies": [
            {"name": name, "bodies": [cbor.encode(body).hex() for body in bodies]}
            for name, bodies in not_replies.items()
        ],
    }


# --- ask/1 ---


class Peer(MemorySource):
    """An `ask.Answerer` over the dataset of the vectors."""

    def __init__(self, plan: int = 0) -> None:
        super().__init__(SOURCE.store)
        self._plan = plan

    def snapshot(self, address: Address, manifest: bytes | None) -> tuple[Head, bytes, Manifest]:
        return HEAD, MANIFEST_DATA, MANIFEST

    def choose(self, query: Query, manifest: Manifest, *, allow_scan: bool) -> Candidate:
        return candidates(query, manifest.collection(query.collection))[self._plan]


def an_ask(body: list[Any], **more: Any) -> Ask:
    query = decode_query(cbor.encode(body))
    return replace(Ask(HEAD.address, query, limit=query.limit), **more)


def replies_of(request: Ask, plan: int = 0) -> list[bytes]:
    return [frame for frame in ask.answer(NUMBER, request, Peer(plan)) if frame]


def exchange(request: Ask, replies: list[bytes]) -> Vectors:
    return {
        "request": m.encode_request(NUMBER, request.fields()).hex(),
        "replies": [reply.hex() for reply in replies],
    }


TAGGED: list[Any] = ["things", ["=", "tags", "a"], "newest", 3, False]
SORTED: list[Any] = ["things", ["=", "tags", "a"], ["m"], 4, False]
COUNT: list[Any] = ["things", ["=", "tags", "a"], "declared", None, True]
BY_KEY: list[Any] = ["things", ["and"], ["id"], None, False]
FILTERED: list[Any] = ["things", ["and", ["=", "tags", "a"], ["!=", "m", 1]], "newest", None, False]


def ask_vectors() -> Vectors:
    return {
        "dataset": "that of manifest/1; its head names sequence 3",
        "head": HEAD.envelope.hex(),
        "exchanges": list(exchanges()),
        "not_answers": list(not_answers()),
        "not_requests": list(not_requests()),
    }


def exchanges() -> Iterator[Vectors]:
    """Requests, the replies of an honest peer, and what the asker knows then."""
    whole = an_ask(TAGGED)
    plan = candidates(whole.query, COLLECTION)[0].access
    cases: list[tuple[str, Ask, int]] = [
        ("an answer in order", whole, 0),
        ("an answer that is sorted by the asker", an_ask(SORTED), 0),
        ("a count from inner nodes", an_ask(COUNT), 0),
        ("an answer with residual conditions", an_ask(FILTERED), 0),
        ("a scan of the primary, with large records", an_ask(TAGGED, scan=True), -1),
        ("a known manifest and a plan", an_ask(TAGGED, manifest=MANIFEST_CID, known=True, plan=plan), 0),
        ("a budget that ends the answer early", an_ask(BY_KEY, scan=True, budget=9000), -1),
        ("a plan that is no candidate", an_ask(TAGGED, plan=replace(plan, low=b"")), 0),
        ("a collection that is not there", an_ask(["others", *TAGGED[1:]]), 0),
    ]
    for name, request, place in cases:
        replies = replies_of(request, place)
        yield {"name": name, **exchange(request, replies), **outcome(request, replies)}


def outcome(request: Ask, replies: list[bytes]) -> Vectors:
    """What an asker makes of the replies. Raises IntegrityError where it refuses them."""
    opening = ask.Opening(HEAD, MANIFEST, MANIFEST_DATA) if request.known else None
    asking = ask.Asking(request, opening)
    reader = m.ReplyReader()
    for frame in FrameReader().feed(b"".join(replies)):
        reply = reader.read(frame)
        if reply is not None:
            asking.take(reply)
    if asking.failure is not None:
        return {"error": asking.failure.code}
    assert asking.answer is not None and asking.is_over
    position = asking.answer.position
    rows = [to_dag_json(row.record["id"]) for row in asking.answer.rows()]
    counted = asking.answer.count if request.query.kind == COUNT_KIND and asking.answer.is_complete else None
    return {
        "complete": asking.answer.is_complete,
        "rows": rows,
        "count": counted,
        "position": None if position is None else position.hex(),
    }


def not_answers() -> Iterator[Vectors]:
    """Replies that must be refused, each with the request that they pretend to answer."""
    request = an_ask(TAGGED)
    honest = [cbor.decode(body) for body in FrameReader().feed(b"".join(replies_of(request)))]
    (open_, blocks, end) = honest
    fields, proof = open_[2], blocks[2]
    other = sign_head(Identity(bytes(32)), "vectors", 3, MANIFEST_CID, HEAD.time_ms)
    named = sign_head(IDENTITY, "others", 3, MANIFEST_CID, HEAD.time_ms)
    elsewhere = sign_head(IDENTITY, "vectors", 3, cid_of(b""), HEAD.time_ms)
    lied = proof[-1][:-1] + bytes([proof[-1][-1] ^ 1])
    richer = cbor.encode({**cbor.decode(proof[-1]), "z": 1})
    index, low, high, reverse = fields["plan"]
    planless = {name: fields[name] for name in ("head", "manifest")}

    def opened(**changes: Any) -> list[Any]:
        return [NUMBER, "open", {**fields, **changes}]

    def sent(items: list[Any]) -> list[Any]:
        return [NUMBER, "blocks", items]

    cases: dict[str, list[Any]] = {
        "blocks before the opening": [blocks, open_, end],
        "two openings": [open_, open_, blocks, end],
        "no opening": [end],
        "an opening without a plan": [[NUMBER, "open", planless], blocks, end],
        "an opening with an unknown field": [opened(more=1), blocks, end],
        "the head of another publisher": [opened(head=other.envelope), blocks, end],
        "the head of another dataset": [opened(head=named.envelope), blocks, end],
        "a head that leads to another manifest": [opened(head=elsewhere.envelope), blocks, end],
        "no manifest": [opened(manifest=None), blocks, end],
        "a manifest with a byte changed": [opened(manifest=fields["manifest"][:-1] + b"\0"), blocks, end],
        "another index": [opened(plan=["by_n", low, high, reverse]), blocks, end],
        "an index that is not there": [opened(plan=["by_x", low, high, reverse]), blocks, end],
        "a narrower range": [opened(plan=[index, low + b"\0", high, reverse]), blocks, end],
        "the other direction": [opened(plan=[index, low, high, not reverse]), blocks, end],
        "a plan of three parts": [opened(plan=[index, low, high]), blocks, end],
        "a block dropped": [open_, sent(proof[1:]), end],
        "the last block dropped": [open_, sent(proof[:-1]), end],
        "no blocks": [open_, end],
        "two blocks exchanged": [open_, sent([*proof[:-2], proof[-1], proof[-2]]), end],
        "a block twice": [open_, sent([proof[0], *proof]), end],
        "a block changed": [open_, sent([*proof[:-1], lied]), end],
        "a record with a field more": [open_, sent([*proof[:-1], richer]), end],
        "a block null": [open_, sent([*proof[:-1], None]), end],
        "a block more": [open_, sent([*proof, b"\x80"]), end],
        "complete, said to be incomplete": [open_, blocks, [NUMBER, "end", {"complete": False}]],
        "incomplete, said to be complete": [open_, sent(proof[:1]), [NUMBER, "end", {"complete": True}]],
        "no progress": [open_, sent(proof[:1]), [NUMBER, "end", {"complete": False}]],
        "an end without a word": [open_, blocks, [NUMBER, "end", {}]],
        "blocks behind the end": [open_, blocks, end, blocks],
    }  # fmt: skip
    for name, bodies in cases.items():
        yield {"name": name, **exchange(request, [encode_frame(cbor.encode(body)) for body in bodies])}
    small = an_ask(TAGGED, budget=100)
    yield {"name": "more than the budget", **exchange(small, replies_of(request))}
    known = an_ask(TAGGED, manifest=MANIFEST_CID, known=True)
    yield {"name": "a manifest that is known", **exchange(known, replies_of(request))}
    for case in contradictions():
        fields = {"head": case.head.envelope, "manifest": case.manifest, "plan": case.plan}
        bodies = [[NUMBER, "open", fields], sent(case.blocks), end]
        frames = [encode_frame(cbor.encode(body)) for body in bodies]
        yield {"name": case.name, **exchange(an_ask(case.query, scan=True), frames)}


def not_requests() -> Iterator[Vectors]:
    good = an_ask(TAGGED).fields()
    changes: dict[str, dict[str, Any]] = {
        "an unknown field": {"more": 1},
        "a dataset that is none": {"dataset": "main"},
        "a query that is none": {"query": b"\x80"},
        "a manifest that is plain bytes": {"manifest": MANIFEST_CID},
        "known as a number": {"known": 0},
        "a plan that is none": {"plan": []},
        "a position that is too long": {"after": bytes(1025)},
        "a limit below 0": {"limit": -1},
        "no budget": {"budget": None},
        "scan as null": {"scan": None},
    }
    for name, change in changes.items():
        yield {"name": name, "body": cbor.encode([NUMBER, {**good, **change}]).hex()}
    del good["scan"]
    yield {"name": "a missing field", "body": cbor.encode([NUMBER, good]).hex()}


# --- want/1 ---


def want_vectors() -> Vectors:
    root = COLLECTION.primary.root
    some = [record for record in RECORDS if "large" in record][:1] + RECORDS[:2]
    keys = [primary_key(record, ("id",)) for record in some]
    digests = [cid_of(encode_record(record)) for record in some]
    absent = cid_of(b"absent")
    cases = [
        (Want(None, (root, absent, MANIFEST_CID)), [root, absent, MANIFEST_CID]),
        (Want(root, (*keys, encode_component("nobody"))), [*digests, absent]),
        (Want(None, (root, MANIFEST_CID), budget=10), [root, MANIFEST_CID]),
    ]
    exchanges = []
    for wanted, cids in cases:
        replies = [frame for frame in want.answer(NUMBER, wanted, get_wanted) if frame]
        exchanges.append(
            {
                "request": m.encode_request(NUMBER, wanted.fields()).hex(),
                "wanted": [cid.hex() for cid in cids],
                "replies": [reply.hex() for reply in replies],
                "blocks": blocks_in(replies),
            }
        )
    exchanges.append(packed_exchange(root))
    return {"exchanges": exchanges, "not_answers": list(not_wanted(root)), "not_requests": list(not_wants(root))}


def packed_exchange(root: bytes) -> Vectors:
    """Some blocks that come packed, some that do not: which, is the peer's affair."""
    absent = cid_of(b"absent")
    wanted = Want(None, (MANIFEST_CID, absent, root), packed=True)
    block = SOURCE.store.get(root)
    bodies = [
        [NUMBER, "packed", stored([MANIFEST_DATA, None])],
        [NUMBER, "blocks", [block]],
        [NUMBER, "end", {"sent": 3}],
    ]
    return {
        "request": m.encode_request(NUMBER, wanted.fields()).hex(),
        "wanted": [cid.hex() for cid in wanted.names],
        "replies": [encode_frame(cbor.encode(body)).hex() for body in bodies],
        "blocks": [MANIFEST_CID.hex(), None, root.hex()],
    }


def get_wanted(wanted: Want, name: bytes) -> bytes | None:
    if wanted.root is None:
        return MANIFEST_DATA if name == MANIFEST_CID else SOURCE.store.get(name)
    value = SOURCE.run(get(COLLECTION.primary, name))
    found: bytes | None = SOURCE.store.get(bytes(value)) if type(value) is cbor.Link else value
    return found


def blocks_in(replies: list[bytes]) -> list[str | None]:
    reader = m.ReplyReader()
    found: list[str | None] = []
    for frame in FrameReader().feed(b"".join(replies)):
        reply = reader.read(frame)
        if isinstance(reply, m.Blocks):
            found += [None if block is None else cid_of(block).hex() for block in reply.blocks]
    return found


def not_wanted(root: bytes) -> Iterator[Vectors]:
    wanted = Want(None, (root, MANIFEST_CID))
    one, two = SOURCE.store.get(root), MANIFEST_DATA
    assert one is not None
    cases: dict[str, list[Any]] = {
        "blocks exchanged": [[NUMBER, "blocks", [two, one]], [NUMBER, "end", {"sent": 2}]],
        "a block changed": [[NUMBER, "blocks", [one, two + b"\0"]], [NUMBER, "end", {"sent": 2}]],
        "a block more": [[NUMBER, "blocks", [one, two, two]], [NUMBER, "end", {"sent": 3}]],
        "another number": [[NUMBER, "blocks", [one]], [NUMBER, "end", {"sent": 2}]],
        "nothing": [[NUMBER, "end", {"sent": 0}]],
        "an opening": [[NUMBER, "open", {}], [NUMBER, "end", {"sent": 2}]],
        "packed, which nobody asked for": [[NUMBER, "packed", stored([one, two])], [NUMBER, "end", {"sent": 2}]],
    }
    for name, bodies in cases.items():
        yield {
            "name": name,
            "request": m.encode_request(NUMBER, wanted.fields()).hex(),
            "wanted": [cid.hex() for cid in wanted.names],
            "replies": [encode_frame(cbor.encode(body)).hex() for body in bodies],
        }


def not_wants(root: bytes) -> Iterator[Vectors]:
    link = cbor.Link(root)
    cases: dict[str, dict[str, Any]] = {
        "nothing wanted": {"cids": [], "budget": 1, "packed": False},
        "plain bytes": {"cids": [root], "budget": 1, "packed": False},
        "no budget": {"cids": [link], "packed": False},
        "no word on packing": {"cids": [link], "budget": 1},
        "packed neither true nor false": {"cids": [link], "budget": 1, "packed": 1},
        "both forms": {"cids": [link], "root": link, "keys": [b"a"], "budget": 1, "packed": False},
        "keys without a root": {"keys": [b"a"], "budget": 1, "packed": False},
        "a key that is too long": {"root": link, "keys": [bytes(1025)], "budget": 1, "packed": False},
        "a key that is text": {"root": link, "keys": ["a"], "budget": 1, "packed": False},
    }
    for name, fields in cases.items():
        yield {"name": name, "body": cbor.encode([NUMBER, fields]).hex()}


# --- heads/1 ---


def heads_exchange(knows: list[heads.DatasetHeads]) -> Vectors:
    """A request for datasets, and what a peer answers that knows this."""
    request = heads.request_fields([item.address for item in knows])
    return {
        "request": m.encode_request(NUMBER, request).hex(),
        "replies": [frame.hex() for frame in heads.answer(NUMBER, knows) if frame],
        "known": [
            {
                "address": str(item.address),
                "heads": [head.envelope.hex() for head in item.heads],
                "providers": list(item.providers),
            }
            for item in knows
        ],
    }


def replaced_key() -> heads.DatasetHeads:
    """A dataset whose key was replaced, and has signed since."""
    new = Identity(bytes([1]) * 32)
    word = delegate(IDENTITY, None, 4, new.public_key)
    head = sign_head(new, "vectors", 4, MANIFEST_CID, HEAD.time_ms, HEAD.time_ms + 1, [word])
    return heads.DatasetHeads(HEAD.address, (head, sign_head(IDENTITY, "vectors", 5, MANIFEST_CID, HEAD.time_ms)))


def heads_vectors() -> Vectors:
    other = sign_head(IDENTITY, "vectors", 3, cid_of_digest(bytes(32)), HEAD.time_ms)
    unknown = Address(IDENTITY.peer_id, "unknown")
    provider = f"/ip4/192.0.2.1/tcp/4001/p2p/{IDENTITY.peer_id}"
    knows = [
        heads.DatasetHeads(HEAD.address, (HEAD, other), (provider,)),
        heads.DatasetHeads(unknown, ()),
    ]
    request = m.encode_request(NUMBER, heads.request_fields([HEAD.address, unknown]))
    entry = [str(HEAD.address), [HEAD.envelope], []]
    newer = sign_head(IDENTITY, "vectors", 4, MANIFEST_CID, HEAD.time_ms)
    wrong = HEAD.envelope[:-1] + bytes([HEAD.envelope[-1] ^ 1])
    cases: dict[str, list[Any]] = {
        "a dataset that was not asked about": [[str(Address(IDENTITY.peer_id, "more")), [], []]],
        "a dataset twice": [entry, entry],
        "no entries": [],
        "an entry of two parts": [entry[:2]],
        "a head of another dataset": [[str(unknown), [HEAD.envelope], []]],
        "a head with a wrong signature": [[entry[0], [wrong], []]],
        "three heads": [[entry[0], [HEAD.envelope] * 3, []]],
        "two heads that do not contradict each other": [[entry[0], [HEAD.envelope, newer.envelope], []]],
        "one head twice": [[entry[0], [HEAD.envelope, HEAD.envelope], []]],
        "17 providers": [[entry[0], [], [provider] * 17]],
        "a provider that is too long": [[entry[0], [], ["a" * 513]]],
    }
    not_requests: dict[str, dict[str, Any]] = {
        "no field": {},
        "an address that is none": {"datasets": ["main"]},
        "text": {"datasets": entry[0]},
    }
    return {
        "exchanges": [heads_exchange(knows), heads_exchange([replaced_key()])],
        "not_answers": [
            {
                "name": name,
                "request": request.hex(),
                "replies": [m.encode_open(NUMBER, {"datasets": entries}).hex(), m.encode_end(NUMBER, {}).hex()],
            }
            for name, entries in cases.items()
        ],
        "not_requests": [
            {"name": name, "body": cbor.encode([NUMBER, fields]).hex()} for name, fields in not_requests.items()
        ],
    }
