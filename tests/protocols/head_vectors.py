"""Vectors of signed heads: of their publisher's key, and of keys that sign in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of, format_cid
from rhizome_index.blocks.varint import uvarint
from rhizome_index.index.address import Address, peer_id_of
from rhizome_index.index.head import Delegation, Head, Identity, delegate, sign_head
from rhizome_index.limits import DELEGATIONS_MAX

Vectors = dict[str, Any]

SIGNED_MS = 1_700_000_000_000
SEEDS = [bytes(range(32)), *(bytes([number]) * 32 for number in range(1, 8))]
SIGNERS = [Identity(seed) for seed in SEEDS]
ADDRESS = Address(SIGNERS[0].peer_id, "main")

NEUTRAL = b"\1" + bytes(31)  # the neutral element of the curve


def a_chain(*scopes: Address | None) -> list[Delegation]:
    """From the first key to those behind it, from sequence 5 on, each one later."""
    return [
        delegate(SIGNERS[place], scope, 5 + place, SIGNERS[place + 1].public_key) for place, scope in enumerate(scopes)
    ]


def a_head(
    sequence: int, chain: Sequence[Delegation] = (), key: int | None = None, manifest: bytes = b"manifest"
) -> Head:
    """A head of the first key's dataset, signed by the last of a chain."""
    signer = SIGNERS[len(chain) if key is None else key]
    return sign_head(signer, "main", sequence, cid_of(manifest), SIGNED_MS, None, chain)


def head_vectors() -> Vectors:
    identity = SIGNERS[0]
    manifest = cid_of(b"manifest")
    heads = [sign_head(identity, name, sequence, manifest, *times) for name, sequence, *times in (
        ("main", 1, SIGNED_MS), ("a" * 64, 2**53 - 1, 0), ("x", 0, 2**53 - 1),
        ("main", 2, SIGNED_MS, SIGNED_MS + 1), ("a" * 64, 2**53 - 1, 2**53 - 2, 2**53 - 1),
    )]  # fmt: skip
    long = Address(identity.peer_id, "a" * 64)
    most = [delegate(SIGNERS[n], long, 2**53 - 1, SIGNERS[n + 1].public_key) for n in range(DELEGATIONS_MAX)]
    heads += [
        a_head(5, a_chain(None)),
        a_head(6, a_chain(ADDRESS)),
        a_head(9, a_chain(ADDRESS, None, ADDRESS)),
        sign_head(SIGNERS[DELEGATIONS_MAX], long.name, 2**53 - 1, manifest, 2**53 - 2, 2**53 - 1, most),
    ]
    return {
        "identity": {"seed": identity.seed.hex(), "public_key": identity.public_key.hex(), "peer_id": identity.peer_id},
        "heads": list(map(head_case, heads)),
        "contradictions": [
            {"name": name, "heads": [one.envelope.hex(), other.envelope.hex()], "contradict": contradict}
            for name, one, other, contradict in contradictions_of_heads()
        ],
        "not_heads": not_heads(identity, heads[0].envelope),
        "not_addresses": [
            "",
            "rhizome:",
            f"rhizome:{identity.peer_id}",
            f"rhizome:{identity.peer_id}/",
            f"rhizome:{identity.peer_id}/Main",
            f"rhizome:{identity.peer_id}/a/b",
            f"rhizome:{identity.peer_id} /main",
            f"Rhizome:{identity.peer_id}/main",
            f"{identity.peer_id}/main",
            f"rhizome:{identity.peer_id[:-1]}/main",
            f"rhizome:1{identity.peer_id}/main",
            f"rhizome:{identity.peer_id[:-1]}0/main",
            "rhizome:QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N/main",
        ],
    }


def head_case(head: Head) -> Vectors:
    words = [
        {"key": peer_id_of(word.key), "all": word.dataset is None, "from": word.start, "to": peer_id_of(word.successor)}
        for word in head.delegations
    ]
    return {
        "envelope": head.envelope.hex(),
        "address": str(head.address),
        "sequence": head.sequence,
        "time": head.time_ms,
        **({} if head.expires_ms is None else {"expires": head.expires_ms}),
        **({"delegations": words, "seed": SEEDS[len(words)].hex()} if words else {}),
        "manifest": format_cid(head.manifest),
    }


def contradictions_of_heads() -> Iterator[tuple[str, Head, Head, bool]]:
    """Two heads of one dataset, and whether they contradict each other."""
    chain, longer = a_chain(None), a_chain(None, ADDRESS)
    to_another = [delegate(SIGNERS[0], None, 5, SIGNERS[7].public_key)]
    from_another = [delegate(SIGNERS[0], None, 4, SIGNERS[1].public_key)]
    yield "one head twice", a_head(3), a_head(3), False
    yield "two sequences", a_head(3), a_head(4, manifest=b"other"), False
    yield "one sequence, two manifests", a_head(3), a_head(3, manifest=b"other"), True
    yield "one sequence, two manifests, by a second key", a_head(6, chain), a_head(6, chain, manifest=b"other"), True
    yield "the old key before its end", a_head(4), a_head(5, chain), False
    yield "the old key at its end", a_head(5), a_head(6, chain), True
    yield "the old key long after its end", a_head(99), a_head(5, chain), True
    yield "the second key before its end", a_head(5, chain), a_head(6, longer), False
    yield "the second key at its end", a_head(6, chain), a_head(7, longer), True
    yield "a key that names two others", a_head(8, chain), a_head(9, to_another, 7), True
    yield "a key that names another one from two sequences on", a_head(8, chain), a_head(9, from_another), True
    yield "a key that says it of all and of one", a_head(8, chain), a_head(9, a_chain(ADDRESS)), True
    yield "one chain that goes on", a_head(5, chain), a_head(9, longer, manifest=b"other"), False


def not_heads(identity: Identity, envelope: bytes) -> list[Vectors]:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2]) + uvarint(len(content)) + content

    def signed(
        payload: Any, *, domain: bytes = b"rhizome-head", kind: bytes = b"/rhizome/head/1", by: Identity = identity
    ) -> bytes:
        body = cbor.encode(payload)
        message = b"".join(uvarint(len(part)) + part for part in (domain, kind, body))
        key = bytes.fromhex("08011220") + by.public_key
        return field(1, key) + field(2, kind) + field(3, body) + field(5, by.sign(message))

    good = {"dataset": "main", "manifest": cbor.Link(cid_of(b"manifest")), "sequence": 1, "time": 1_700_000_000_000}
    assert signed(good) == envelope
    key, kind, payload = envelope[:38], envelope[38:55], envelope[55:-66]
    assert key + kind + payload + envelope[-66:] == envelope and payload[0] == 0x1A
    cases = {
        "nothing": b"",
        "a signature with one bit changed": envelope[:-1] + bytes([envelope[-1] ^ 1]),
        "a payload with one bit changed": envelope[:-67] + bytes([envelope[-67] ^ 1]) + envelope[-66:],
        "bytes behind the envelope": envelope + b"\0",
        "an envelope that ends too early": envelope[:-1],
        "fields in another order": kind + key + payload + envelope[-66:],
        "a field given twice": key + envelope,
        "a length in a longer form": envelope[:1] + b"\xa4\x00" + envelope[2:],
        "a signature for another domain": signed(good, domain=b"libp2p-peer-record"),
        "another payload type": signed(good, kind=b"/libp2p/peer-record"),
        "an unknown field": signed({**good, "more": 1}),
        "a missing field": signed({name: good[name] for name in ("dataset", "manifest", "sequence")}),
        "a manifest that is plain bytes": signed({**good, "manifest": cid_of(b"manifest")}),
        "a name that is none": signed({**good, "dataset": "Main"}),
        "a sequence that is negative": signed({**good, "sequence": -1}),
        "a sequence beyond 2^53": signed({**good, "sequence": 2**53}),
        "a sequence that is a float": signed({**good, "sequence": 1.0}),
        "a time that is true": signed({**good, "time": True}),
        "an expiry that is null": signed({**good, "expires": None}),
        "an expiry that is text": signed({**good, "expires": "never"}),
        "an expiry that is a float": signed({**good, "expires": 1_700_000_000_001.0}),
        "an expiry that is the time": signed({**good, "expires": 1_700_000_000_000}),
        "an expiry before the time": signed({**good, "expires": 0}),
        "an expiry beyond 2^53": signed({**good, "expires": 2**53}),
        "an expiry in the place of the time": signed({**{n: good[n] for n in good if n != "time"}, "expires": 1}),
        "a key of small order, which signs everything": field(1, bytes.fromhex("08011220") + NEUTRAL)
        + field(2, b"/rhizome/head/1")
        + field(3, cbor.encode(good))
        + field(5, NEUTRAL + bytes(32)),
        "a key of another type": b"\x0a\x24\x08\x02" + envelope[4:],
    }
    cases |= {name: signed({**good, **changes}, by=SIGNERS[key]) for name, (key, changes) in not_delegated().items()}
    full = [delegate(SIGNERS[n], None, 0, SIGNERS[n + 1].public_key) for n in range(DELEGATIONS_MAX + 1)]
    cases["one delegation too many"] = a_head(9, full).envelope
    return [{"name": name, "envelope": data.hex()} for name, data in cases.items()]


def not_delegated() -> dict[str, tuple[int, Vectors]]:
    """What must not stand in a head in the place of delegations, and which key has signed it."""
    one, two = a_chain(ADDRESS, None)
    back = delegate(SIGNERS[1], None, 6, SIGNERS[0].public_key)
    itself = delegate(SIGNERS[0], None, 5, SIGNERS[0].public_key)
    elsewhere = delegate(SIGNERS[0], Address(SIGNERS[0].peer_id, "other"), 5, SIGNERS[1].public_key)
    as_head = SIGNERS[0].sign(b"".join(uvarint(len(p)) + p for p in (b"rhizome-head", b"/rhizome/head/1", one.payload)))

    def said(*words: Delegation, sequence: int = 9) -> Vectors:
        return {"sequence": sequence, "delegations": [[w.key, w.dataset is None, w.start, w.signature] for w in words]}

    def changed(place: int, part: Any) -> Vectors:
        link = [one.key, False, one.start, one.signature]
        link[place] = part
        return {"sequence": 9, "delegations": [link]}

    return {
        "no delegations": (0, said()),
        "delegations that are null": (0, {"delegations": None}),
        "delegations in a map": (0, {"delegations": {}}),
        "a delegation of three parts": (1, {"sequence": 9, "delegations": [[one.key, False, one.start]]}),
        "a delegation of five parts": (
            1,
            {"sequence": 9, "delegations": [[one.key, False, one.start, one.signature, 0]]},
        ),
        "a delegation of another dataset": (1, said(elsewhere)),
        "a delegation of one dataset, said to be of all": (1, changed(1, True)),
        "a delegation from an earlier sequence": (1, changed(2, 4)),
        "a delegation by another key": (1, changed(0, SIGNERS[2].public_key)),
        "a delegation with another signature": (1, changed(3, two.signature)),
        "a delegation signed as a head is": (1, changed(3, as_head)),
        "a delegation to another key": (2, said(one)),
        "a delegation whose key is cut": (1, changed(0, one.key[:-1])),
        "a delegation whose signature is cut": (1, changed(3, one.signature[:-1])),
        "a delegation from no number": (1, changed(2, None)),
        "a delegation from a negative sequence": (1, changed(2, -1)),
        "a delegation from beyond 2^53": (1, changed(2, 2**53)),
        "a delegation of 1 for false": (1, changed(1, 0)),
        "a head before its key's turn": (1, said(one, sequence=4)),
        "a head before its second key's turn": (2, said(one, two, sequence=5)),
        "delegations in another order": (2, said(two, one)),
        "a delegation left out": (2, said(a_chain(ADDRESS, ADDRESS)[1])),
        "delegations in a circle": (0, said(one, back)),
        "a key that delegates to itself": (0, said(itself)),
        "a delegation twice": (1, said(one, one)),
    }
