"""Gossip of heads: a topic for each dataset, and gossipsub's messages.

A message's payload is one head's signed envelope, nothing else. Who it comes from
says nothing: the head is its publisher's. Messages are signed all the same, for
gossipsub peers of other make expect it (StrictSign).

`mesh` decides who is told what; `node/gossip.py` has the streams.

Source: https://github.com/libp2p/specs/tree/master/pubsub, gossipsub v1.1
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import base58

from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.address import Address, public_key_of
from rhizome_index.index.envelope import verify_signature
from rhizome_index.index.head import Head, Identity, open_head
from rhizome_index.limits import GOSSIP_ID_BYTES_MAX
from rhizome_index.wire import protobuf

PROTOCOL = "/meshsub/1.1.0"

_TOPIC_PREFIX = "/rhizome/gossip/1/"
_SIGNED_PREFIX = b"libp2p-pubsub:"


def topic_of(address: Address) -> str:
    """The topic of a dataset."""
    return f"{_TOPIC_PREFIX}{address.publisher}/{address.name}"


def address_of(topic: str) -> Address | None:
    """The dataset that a topic belongs to; None for a topic that is not ours."""
    body = topic.removeprefix(_TOPIC_PREFIX)
    if body == topic:
        return None
    try:
        return Address.parse(f"rhizome:{body}")
    except UsageError:
        return None


def read_head(address: Address, payload: bytes) -> Head:
    """The head in a payload. Raises IntegrityError unless it is one, signed, and of that dataset."""
    head = open_head(payload)
    if head.address != address:
        raise IntegrityError("the head of another dataset")
    return head


@dataclass(frozen=True, slots=True)
class Message:
    """What is published.

    author     bytes of the peer id of whoever has put it into the network
    seqno      8 bytes that its author uses once
    signature  the author's
    """

    author: bytes
    seqno: bytes
    topic: str
    data: bytes
    signature: bytes = b""
    key: bytes = b""

    @property
    def id(self) -> bytes:
        return self.author + self.seqno

    def encode(self) -> bytes:
        ends = ((5, self.signature), (6, self.key))
        return self._body() + b"".join(protobuf.field(number, value) for number, value in ends if value)

    def signed_part(self) -> bytes:
        """What the signature is over."""
        return _SIGNED_PREFIX + self._body()

    def _body(self) -> bytes:
        values = ((1, self.author), (2, self.data), (3, self.seqno), (4, self.topic))
        return b"".join(protobuf.field(number, value) for number, value in values)

    @classmethod
    def read(cls, data: bytes) -> Message:
        """Raises IntegrityError for what is no message."""
        found = _last_of_each(data)
        author, payload, seqno, signature, key = (
            protobuf.bytes_of(found.get(number, b"")) for number in (1, 2, 3, 5, 6)
        )
        message = cls(author, seqno, protobuf.text_of(found.get(4, b"")), payload, signature, key)
        if not author or not seqno or len(message.id) > GOSSIP_ID_BYTES_MAX:
            raise IntegrityError("a message without a name")
        return message

    @property
    def author_key(self) -> bytes | None:
        """The Ed25519 key in its author's peer id; None for authors of another kind, who are nobody of ours."""
        try:
            return public_key_of(base58.b58encode(self.author).decode())
        except UsageError:
            return None

    def verify(self) -> None:
        """Raise IntegrityError unless its author, who must have a key, has signed it."""
        key = self.author_key
        if key is None:
            raise IntegrityError("a message by nobody")
        verify_signature(key, self.signed_part(), self.signature)


def sign_message(identity: Identity, seqno: bytes, topic: str, data: bytes) -> Message:
    """A message of our own."""
    message = Message(base58.b58decode(identity.peer_id), seqno, topic, data)
    return replace(message, signature=identity.sign(message.signed_part()))


@dataclass(slots=True)
class Rpc:
    """What one peer tells another at once.

    subscriptions  topics, and whether they are subscribed to from now on
    have           messages that could be asked for: ids by topic
    want           ids of messages asked for
    graft          topics for which the peer is taken into the mesh
    prune          topics for which it is not, with the seconds for which it should not ask again
    """

    subscriptions: list[tuple[str, bool]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    have: list[tuple[str, list[bytes]]] = field(default_factory=list)
    want: list[bytes] = field(default_factory=list)
    graft: list[str] = field(default_factory=list)
    prune: list[tuple[str, int]] = field(default_factory=list)

    def encode(self) -> bytes:
        put = protobuf.field
        parts = [put(1, put(1, int(is_on)) + put(2, topic)) for topic, is_on in self.subscriptions]
        parts += [put(2, message.encode()) for message in self.messages]
        control = [put(1, put(1, topic) + b"".join(put(2, name) for name in names)) for topic, names in self.have]
        control += [put(2, b"".join(put(1, name) for name in self.want))] if self.want else []
        control += [put(3, put(1, topic)) for topic in self.graft]
        control += [put(4, put(1, topic) + put(3, seconds)) for topic, seconds in self.prune]
        parts += [put(3, b"".join(control))] if control else []
        return b"".join(parts)

    @classmethod
    def read(cls, data: bytes) -> Rpc:
        """Raises IntegrityError for what is none. Unknown fields are passed over, and so are peers to exchange."""
        rpc = cls()
        for number, value in protobuf.fields(data):
            if number == 1:
                found = _last_of_each(protobuf.bytes_of(value))
                is_on = bool(protobuf.number_of(found.get(1, 0)))
                rpc.subscriptions.append((protobuf.text_of(found.get(2, b"")), is_on))
            elif number == 2:
                rpc.messages.append(Message.read(protobuf.bytes_of(value)))
            elif number == 3:
                rpc._read_control(protobuf.bytes_of(value))
        return rpc

    def _read_control(self, data: bytes) -> None:
        for number, value in protobuf.fields(data):
            if number not in (1, 2, 3, 4):
                continue
            part = list(protobuf.fields(protobuf.bytes_of(value)))
            topic = protobuf.text_of(dict(part).get(1, b"")) if number != 2 else ""
            if number == 1:
                self.have.append((topic, [protobuf.bytes_of(name) for inner, name in part if inner == 2]))
            elif number == 2:
                self.want += [protobuf.bytes_of(name) for inner, name in part if inner == 1]
            elif number == 3:
                self.graft.append(topic)
            else:
                self.prune.append((topic, protobuf.number_of(dict(part).get(3, 0))))


def _last_of_each(data: bytes) -> dict[int, int | bytes]:
    """A message's fields by number: where one stands twice the last, as protobuf has it."""
    return dict(protobuf.fields(data))
