"""Vectors of how datasets are found: topics and messages of gossip, keys and messages of provider records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rhizome_index.blocks.cid import cid_of
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity, sign_head
from rhizome_index.wire import protobuf
from rhizome_index.wire.gossip import Message, sign_message, topic_of
from rhizome_index.wire.kad import ADD_PROVIDER, FIND_NODE, GET_PROVIDERS, Contact, key_of
from rhizome_index.wire.kad import Message as KadMessage
from rhizome_index.wire.kademlia import place_of, place_of_peer
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


# --- providers/1 ---


def providers_vectors() -> Vectors:
    key, peer = (
        key_of(HEAD.address),
        Contact.at(TELLER.peer_id, [_at("/ip4/192.0.2.7/tcp/4711"), _at("/dns4/a.example/tcp/443/wss")]),
    )
    other = Contact.at(IDENTITY.peer_id, [_at("/ip6/2001:db8::1/tcp/4712/ws", IDENTITY)])
    name = peer.encode()[2:40]
    number = protobuf.field(1, GET_PROVIDERS)
    good = [
        KadMessage(ADD_PROVIDER, key, (), (peer,)),
        KadMessage(GET_PROVIDERS, key),
        KadMessage(GET_PROVIDERS, key, (other, peer), (peer,)),
        KadMessage(FIND_NODE, name, (Contact(TELLER.peer_id),)),
    ]
    wrong = {
        "nothing": b"",
        "no key": number,
        "a key of 81 bytes": number + protobuf.field(2, bytes(81)),
        "a number for a key": number + protobuf.field(2, 7),
        "a type that is bytes": protobuf.field(1, b"3") + protobuf.field(2, key),
        "a type that is not spoken": protobuf.field(1, 0) + protobuf.field(2, key),
        "a peer without an id": number + protobuf.field(2, key) + protobuf.field(8, b""),
        "a peer with an id of 65 bytes": number
        + protobuf.field(2, key)
        + protobuf.field(9, protobuf.field(1, bytes(65))),
        "an end that comes too early": good[0].encode()[:-1],
    }
    return {
        "keys": [
            {"address": str(address), "key": key_of(address).hex(), "place": f"{place_of(key_of(address)):064x}"}
            for address in ADDRESSES
        ],
        "places": [{"peer": who.peer_id, "place": f"{place_of_peer(who.peer_id):064x}"} for who in (TELLER, IDENTITY)],
        "messages": [
            {
                "message": item.encode().hex(),
                "type": item.kind,
                "key": item.key.hex(),
                "closer": [_shown_contact(contact) for contact in item.closer],
                "providers": [_shown_contact(contact) for contact in item.providers],
            }
            for item in good
        ],
        "not_requests": [{"name": title, "message": data.hex()} for title, data in wrong.items()],
    }


def _at(place: str, who: Identity = TELLER) -> str:
    return f"{place}/p2p/{who.peer_id}"


def _shown_contact(contact: Contact) -> dict[str, Any]:
    return {"peer": contact.peer_id, "addresses": list(contact.addresses)}
