"""Heads and manifests: what was signed is what is read, and every change is noticed."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.address import Address, peer_id_of, public_key_of
from rhizome_index.index.head import Identity, open_head, sign_head
from rhizome_index.index.manifest import decode_manifest, encode_manifest, new_manifest
from rhizome_index.index.schema import Collection, Index, SortPath
from rhizome_index.limits import HEAD_BYTES_MAX
from rhizome_index.query.parse import parse_index
from rhizome_index.tree.node import EMPTY_TREE

IDENTITY = Identity(b"seed" * 8)
HEAD = sign_head(IDENTITY, "main", 7, cid_of(b"manifest"), 1_700_000_000_000)


def test_a_head_comes_back() -> None:
    assert open_head(HEAD.envelope) == HEAD
    assert HEAD.address == Address(IDENTITY.peer_id, "main")


def test_nothing_of_a_key_but_its_seed_shows_the_seed() -> None:
    seed = bytes(range(128, 160))
    identity = Identity(seed)
    shown = [repr(identity), str(identity), format(identity), f"{[identity]}"]
    shown += [repr(getattr(identity, name)) for name in Identity.__slots__ if name != "seed"]
    number = int.from_bytes(seed, "little")
    for form in (repr(seed)[2:-1], seed.hex(), str(number), f"{number:x}", b64encode(seed).decode().rstrip("=")):
        assert not [text for text in shown if form in text]
    assert not hasattr(identity, "__dict__"), "which would show it"


EXPIRING = sign_head(IDENTITY, "main", 7, cid_of(b"manifest"), 1_700_000_000_000, 1_700_000_000_001)


def test_a_head_may_say_when_it_expires() -> None:
    assert open_head(EXPIRING.envelope) == EXPIRING and EXPIRING.expires_ms == 1_700_000_000_001
    assert HEAD.expires_ms is None
    for expires_ms in (1_700_000_000_000, 0, -1, 2**53):
        wrong = sign_head(IDENTITY, "main", 7, cid_of(b"manifest"), 1_700_000_000_000, expires_ms)
        with pytest.raises(IntegrityError):
            open_head(wrong.envelope)


def test_every_changed_byte_of_a_head_is_noticed() -> None:
    for head in (HEAD, EXPIRING):
        for place in range(len(head.envelope)):
            changed = bytearray(head.envelope)
            changed[place] ^= 0x10
            with pytest.raises(IntegrityError):
                open_head(bytes(changed))


def test_a_cut_or_longer_head_is_refused() -> None:
    for envelope in [HEAD.envelope[:end] for end in range(len(HEAD.envelope))] + [HEAD.envelope + b"\0", b"x" * 2000]:
        with pytest.raises(IntegrityError):
            open_head(envelope)


def test_a_head_larger_than_any_is_not_looked_at() -> None:
    for size, says in ((HEAD_BYTES_MAX, "not a signed envelope"), (HEAD_BYTES_MAX + 1, f"at most {HEAD_BYTES_MAX}")):
        with pytest.raises(IntegrityError, match=says):
            open_head(HEAD.envelope.ljust(size, b"\0"))


def test_another_payload_type_is_no_head() -> None:
    with pytest.raises(IntegrityError):
        open_head(HEAD.envelope.replace(b"/rhizome/head/1", b"/rhizome/peer/1"))


def test_addresses() -> None:
    assert Address.parse(str(HEAD.address)) == HEAD.address
    assert peer_id_of(public_key_of(IDENTITY.peer_id)) == IDENTITY.peer_id
    for text in (
        "",
        "rhizome:",
        "rhizome:x/main",
        f"rhizome:{IDENTITY.peer_id}",
        f"rhizome:{IDENTITY.peer_id}/A b",
        "main",
    ):
        with pytest.raises(UsageError):
            Address.parse(text)


def a_manifest() -> bytes:
    name, definition = parse_index("by_tag=tags,-created")
    index = Index(name, definition, EMPTY_TREE, (1, 0))
    posts = Collection("posts", "id", "created", (SortPath("created", True),), EMPTY_TREE, pmap({name: index}))
    manifest = new_manifest(HEAD.address).with_collection(posts)
    cid, data = encode_manifest(manifest)
    assert decode_manifest(data) == manifest and cid == cid_of(data)
    return data


POSTS = ("collections", "posts")
BY_TAG = (*POSTS, "indexes", "by_tag")


@pytest.mark.parametrize("wrong", [7, -1, "", "-", "a..b", [], [1], {}, b"", None, True, 1.5])
@pytest.mark.parametrize(
    "path",
    [
        ("version",),
        ("rule",),
        ("rule", "salt"),
        ("rule", "max_weight"),
        ("collections",),
        POSTS,
        (*POSTS, "key"),
        (*POSTS, "time"),
        (*POSTS, "order"),
        (*POSTS, "primary"),
        (*POSTS, "primary", 0),
        (*POSTS, "primary", 1),
        (*POSTS, "indexes"),
        BY_TAG,
        (*BY_TAG, "paths"),
        (*BY_TAG, "paths", 0),
        (*BY_TAG, "tree"),
        (*BY_TAG, "lists"),
        (*BY_TAG, "lists", 0),
    ],
)
def test_every_field_of_a_manifest_is_checked(path: tuple[Any, ...], wrong: object) -> None:
    allowed = {
        ("rule", "salt"): [b""],
        ("collections",): [{}],
        (*POSTS, "time"): [None],
        (*POSTS, "order"): [[]],
        (*POSTS, "primary", 1): [7],
        (*POSTS, "indexes"): [{}],
        (*BY_TAG, "lists", 0): [7],
    }
    if any(type(wrong) is type(fine) and wrong == fine for fine in allowed.get(path, [])):
        return
    body = cbor.decode(a_manifest())
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    with pytest.raises(IntegrityError):
        decode_manifest(cbor.encode(body))
    if isinstance(place, dict) and path not in (POSTS, BY_TAG):
        del place[path[-1]]
        with pytest.raises(IntegrityError):
            decode_manifest(cbor.encode(body))
