"""Gossip: topics, payloads and messages, and that the library reads and writes the same ones."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import signature_validator

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity, sign_head
from rhizome_index.limits import GOSSIP_ID_BYTES_MAX, HEAD_BYTES_MAX
from rhizome_index.wire import protobuf
from rhizome_index.wire.gossip import Message, Rpc, address_of, read_head, sign_message, topic_of

IDENTITY = Identity(b"g" * 32)
ADDRESS = Address(IDENTITY.peer_id, "main")
HEAD = sign_head(IDENTITY, "main", 7, cid_of(b"manifest"), 1000)

TOPICS = st.text(max_size=20)
NAMES = st.binary(min_size=1, max_size=20)
MESSAGES = st.builds(Message, NAMES, NAMES, TOPICS, NAMES, NAMES, NAMES)
RPCS = st.builds(
    Rpc,
    subscriptions=st.lists(st.tuples(TOPICS, st.booleans()), max_size=4),
    messages=st.lists(MESSAGES, max_size=3),
    have=st.lists(st.tuples(TOPICS, st.lists(NAMES, max_size=3)), max_size=3),
    want=st.lists(NAMES, max_size=3),
    graft=st.lists(TOPICS, max_size=3),
    prune=st.lists(st.tuples(TOPICS, st.integers(0, 2**40)), max_size=3),
)


@given(RPCS)
def test_what_is_said_comes_back(rpc: Rpc) -> None:
    assert Rpc.read(rpc.encode()) == rpc


@given(RPCS)
def test_the_library_understands_the_same(rpc: Rpc) -> None:
    found = rpc_pb2.RPC.FromString(rpc.encode())
    control = found.control
    assert [(item.topicid, item.subscribe) for item in found.subscriptions] == rpc.subscriptions
    assert [(item.from_id, item.seqno, item.data) for item in found.publish] == [
        (message.author, message.seqno, message.data) for message in rpc.messages
    ]
    assert [(item.topicID, list(item.messageIDs)) for item in control.ihave] == rpc.have
    assert [name for item in control.iwant for name in item.messageIDs] == rpc.want
    assert [item.topicID for item in control.graft] == rpc.graft
    assert [(item.topicID, item.backoff) for item in control.prune] == rpc.prune
    found.senderRecord = b"which only the library sends"
    assert Rpc.read(found.SerializeToString()) == rpc


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    with suppress(IntegrityError):
        Rpc.read(data)


def test_topics_and_addresses_belong_to_each_other() -> None:
    topic = topic_of(ADDRESS)
    assert topic == f"/rhizome/gossip/1/{IDENTITY.peer_id}/main" and address_of(topic) == ADDRESS
    for other in ("", "main", f"{topic}/more", topic[:-5], topic.upper(), f"/rhizome/gossip/2/{IDENTITY.peer_id}/main"):
        assert address_of(other) is None


def test_a_payload_is_a_signed_head_of_that_very_dataset() -> None:
    assert read_head(ADDRESS, HEAD.envelope) == HEAD
    forged = HEAD.envelope[:-1] + bytes([HEAD.envelope[-1] ^ 1])
    others = (
        sign_head(IDENTITY, "other", 7, HEAD.manifest, 1),
        sign_head(Identity(b"o" * 32), "main", 7, HEAD.manifest, 1),
    )
    for payload in (b"", forged, HEAD.envelope + b"\0", bytes(HEAD_BYTES_MAX + 1), *(head.envelope for head in others)):
        with pytest.raises(IntegrityError):
            read_head(ADDRESS, payload)


def test_messages_are_signed_as_the_library_expects() -> None:
    message = sign_message(IDENTITY, bytes(8), topic_of(ADDRESS), HEAD.envelope)
    message.verify()
    assert signature_validator(rpc_pb2.Message.FromString(message.encode()))
    for changed in (
        replace(message, data=b"other"),
        replace(message, seqno=b"11111111"),
        replace(message, topic="other"),
        replace(message, signature=b""),
        replace(message, author=message.author[:-1] + b"\0"),
        replace(message, author=b"nobody"),
    ):
        with pytest.raises(IntegrityError):
            changed.verify()


def test_an_author_of_another_kind_has_no_key_for_us() -> None:
    message = sign_message(IDENTITY, bytes(8), "topic", b"data")
    assert message.author_key == IDENTITY.public_key
    assert replace(message, author=b"\x12\x20" + bytes(32)).author_key is None


def test_a_name_at_the_limit_and_one_past_it() -> None:
    longest = Message(bytes(GOSSIP_ID_BYTES_MAX - 8), bytes(8), "topic", b"")
    assert Message.read(longest.encode()) == longest
    for wrong in (
        replace(longest, author=longest.author + b"\0"),
        replace(longest, seqno=b""),
        replace(longest, author=b""),
    ):
        with pytest.raises(IntegrityError, match="without a name"):
            Message.read(wrong.encode())


def test_a_number_where_a_topic_belongs_is_refused() -> None:
    for body in (protobuf.field(1, 7), protobuf.field(2, 7), protobuf.field(3, protobuf.field(1, 7))):
        with pytest.raises(IntegrityError):
            Rpc.read(body)
