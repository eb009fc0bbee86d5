"""gossip/1: topics, and messages with heads in them."""

from dataclasses import dataclass
from typing import Final

from . import ed25519, protobuf
from .errors import Refused
from .harness import Case, Groups, Vectors, each, expect, none
from .head import Address, Head, peer_id, read_address, read_head

PREFIX: Final = "/rhizome/gossip/1/"
SIGNED: Final = b"libp2p-pubsub:"
PEER_PREFIX: Final = bytes.fromhex("002408011220")
MAX_NAME: Final = 64

# --- Topics ------------------------------------------------------------------------------------------------


def topic_of(address: Address) -> str:
    """The topic of a dataset."""
    return f"{PREFIX}{peer_id(address.key)}/{address.name}"


def read_topic(topic: str) -> Address:
    """The dataset of a topic."""
    if not topic.startswith(PREFIX):
        raise Refused("not a topic of a dataset")
    return read_address("rhizome:" + topic[len(PREFIX) :])


# --- Messages ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """What is published."""

    author: bytes
    data: bytes
    seqno: bytes
    topic: str
    signature: bytes

    def signed(self) -> bytes:
        """What its author has signed."""
        return SIGNED + protobuf.write([(1, self.author), (2, self.data), (3, self.seqno), (4, self.topic.encode())])


def read_message(data: bytes) -> Message:
    """A message, of which nothing is believed yet."""
    fields = list(protobuf.read(data))
    author, payload, seqno, topic, signature = (protobuf.content(fields, number) for number in (1, 2, 3, 4, 5))
    if not author or not seqno or len(author + seqno) > MAX_NAME:
        raise Refused("a message without a name")
    try:
        return Message(author, payload, seqno, topic.decode(), signature)
    except UnicodeDecodeError as error:
        raise Refused("a topic that is no text") from error


def accept(message: Message) -> Head:
    """The head in a message that may be passed on."""
    head = read_head(message.data)
    if head.address != read_topic(message.topic):
        raise Refused("a head of another dataset than the topic's")
    if len(message.author) != len(PEER_PREFIX) + 32 or not message.author.startswith(PEER_PREFIX):
        raise Refused("an author of another kind")
    ed25519.verify(message.author[len(PEER_PREFIX) :], message.signed(), message.signature)
    return head


# --- Vectors -----------------------------------------------------------------------------------------------


def _check_topic(_: Vectors, case: Case) -> None:
    address, topic = read_address(case.text("address")), case.text("topic")
    expect("topic", topic_of(address), topic)
    expect("address", read_topic(topic), address)


def _check_not_topic(_: Vectors, case: Case) -> None:
    read_topic(case.as_text())


def _check_message(_: Vectors, case: Case) -> None:
    data = case.hex("message")
    message = read_message(data)
    expect("from", message.author, case.hex("from"))
    expect("seqno", message.seqno, case.hex("seqno"))
    expect("topic", message.topic, case.text("topic"))
    expect("data", message.data, case.hex("data"))
    expect("message", message.signed()[len(SIGNED) :] + protobuf.write([(5, message.signature)]), data)
    expect("topic of the head in it", topic_of(accept(message).address), message.topic)


def _check_not_message(_: Vectors, case: Case) -> None:
    accept(read_message(case.hex("message")))


GROUPS: Final[Groups] = {
    "topics": each(_check_topic),
    "not_topics": none(_check_not_topic),
    "messages": each(_check_message),
    "not_heads": none(_check_not_message),
    "not_messages": none(_check_not_message),
}
