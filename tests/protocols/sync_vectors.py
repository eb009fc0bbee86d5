"""Vectors of sync: what has changed between two manifests, and answers that must be refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.wire import message as m
from rhizome_index.wire import sync
from rhizome_index.wire.frame import FrameReader, encode_frame
from rhizome_index.wire.sync import Sync, Syncing
from tests.properties.syncing import LIES, PEER, REQUEST

Vectors = dict[str, Any]
NUMBER = 1  # that of the answers in LIES


def sync_vectors() -> Vectors:
    return {
        "exchanges": list(exchanges()),
        "not_answers": [
            {
                "name": name,
                "request": m.encode_request(NUMBER, REQUEST.fields()).hex(),
                "replies": [encode_frame(cbor.encode(body)).hex() for body in bodies],
            }
            for name, bodies in LIES.items()
        ],
        "not_requests": list(not_requests()),
    }


def exchanges() -> Iterator[Vectors]:
    """Requests, the replies of an honest peer, and what the asker has then."""
    held, newest = (head.manifest for head in PEER.heads)
    cases = {
        "changes since a manifest": REQUEST,
        "nothing held": Sync(REQUEST.address),
        "nothing new": Sync(REQUEST.address, newest),
        "the rest, from a place on": Sync(REQUEST.address, held, newest, ("a", b"\x30\x79")),
        "a manifest that the peer does not know": Sync(REQUEST.address, cid_of(b"unknown")),
    }
    for name, request in cases.items():
        replies = list(sync.answer(NUMBER, request, PEER))
        syncing = Syncing(request)
        reader = m.ReplyReader()
        for body in FrameReader().feed(b"".join(replies)):
            reply = reader.read(body)
            if reply is not None:
                syncing.take(reply)
        if syncing.failure is not None:
            outcome: Vectors = {"error": syncing.failure.code}
        else:
            outcome = {
                "complete": syncing.is_complete,
                "forms": syncing.forms,
                "changes": {
                    label: [[key.hex(), None if value is None else bytes(value).hex()] for key, value in delta.changes]
                    for label, delta in syncing.deltas.items()
                },
                "records": sum(len(delta.records) for delta in syncing.deltas.values()),
            }
        shown = {
            "request": m.encode_request(NUMBER, request.fields()).hex(),
            "replies": [r.hex() for r in replies if r],
        }
        yield {"name": name, **shown, **outcome}


def not_requests() -> Iterator[Vectors]:
    good = REQUEST.fields()
    changes: dict[str, dict[str, Any]] = {
        "an unknown field": {"more": 1},
        "a dataset that is none": {"dataset": "main"},
        "a manifest that is plain bytes": {"held": REQUEST.held},
        "a place that is a text": {"place": "a"},
        "a place of three parts": {"place": ["a", b"", 1]},
        "a place that is too long": {"place": ["a", bytes(1026)]},
        "no budget": {"budget": None},
    }
    for name, change in changes.items():
        yield {"name": name, "body": cbor.encode([NUMBER, {**good, **change}]).hex()}
    del good["held"]
    yield {"name": "a missing field", "body": cbor.encode([NUMBER, good]).hex()}
