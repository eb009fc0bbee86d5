"""Vectors of how datasets are found: topics and messages of gossip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rhizome_index.blocks.cid import cid_of
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity, sign_head
from rhizome_index.wire.gossip import Message, sign_message, topic_of
from tests.protocols.dataset import HEAD, IDENTITY

Vectors = dict[str, Any]

TELLER = Identity(bytes(range(32, 64)))
ADDRESSES = [HEAD.address, Address(TELLER.peer_id, "a.b-c_9")]
SEQNO = (7).to_bytes(8, "big")


# --- gossip/1 ---


def gossip_vectors() -> Vectors:
    topic = topic_of(HEAD.address)
    good = sign_message(TELLER, SEQNO, topic, HEAD.envelope)
    by_publisher = sign_message(IDENTITY, bytes(8), topic, HEAD.envelope)
    flipped = bytes([HEAD.envelope[-1] ^ 1])
    others = sign_head(TELLER, HEAD.address.name, 1, cid_of(b""), 0), sign_head(IDENTITY, "another", 1, cid_of(b""), 0)
    not_heads = {
        "no data": b"",
        "a signature that does not match": HEAD.envelope[:-1] + flipped,
        "bytes behind the envelope": HEAD.envelope + b"\0",
        "a head of another publisher": others[0].envelope,
        "a head of another dataset": others[1].envelope,
        "more than 1,024 bytes": HEAD.envelope + bytes(1024),
    }
    forged = {
        "not signed": replace(good, signature=b""),
        "signed by somebody else": replace(good, author=by_publisher.author),
        "signed for another number": replace(good, seqno=bytes(8)),
        "signed for another topic": replace(good, topic=topic_of(ADDRESSES[1])),
        "signed without the prefix": replace(good, signature=TELLER.sign(good.encode()[: -2 - len(good.signature)])),
    }
    return {
        "topics": [{"address": str(address), "topic": topic_of(address)} for address in ADDRESSES],
        "not_topics": [
            f"/rhizome/gossip/2/{HEAD.address.publisher}/{HEAD.address.name}",
            f"/rhizome/gossip/1/{HEAD.address.publisher}",
            f"/rhizome/gossip/1/{HEAD.address.publisher}/",
            f"/rhizome/gossip/1/{HEAD.address.publisher}/Upper",
            f"/rhizome/gossip/1/{HEAD.address.publisher[:-1]}/{HEAD.address.name}",
            str(HEAD.address),
        ],
        "messages": [
            {**_shown(item), "from": item.author.hex(), "seqno": item.seqno.hex(), "data": item.data.hex()}
            for item in (good, by_publisher)
        ],
        "not_heads": [
            {"name": name, **_shown(sign_message(TELLER, SEQNO, topic, data))} for name, data in not_heads.items()
        ],
        "not_messages": [{"name": name, **_shown(message)} for name, message in forged.items()],
    }


def _shown(message: Message) -> dict[str, Any]:
    return {"topic": message.topic, "message": message.encode().hex()}
