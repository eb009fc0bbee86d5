"""`/rhizome/heads/1`: the newest heads a peer knows of some datasets, and who else serves them.

Asked about no dataset in particular, a peer tells of those it serves itself.
Two heads of one dataset that contradict each other are evidence that its publisher,
or somebody with a key of its publisher, equivocates: both are sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head, open_head
from rhizome_index.limits import (
    ADDRESS_BYTES_MAX,
    FRAME_PAYLOAD_BYTES,
    HEAD_BYTES_MAX,
    HEADS_DATASETS_MAX,
    PROVIDERS_MAX,
)
from rhizome_index.wire import message as m

PROTOCOL = "/rhizome/heads/1"


@dataclass(frozen=True, slots=True)
class DatasetHeads:
    """What a peer knows of one dataset.

    heads      the newest, or two that contradict each other; none if it knows none
    providers  full addresses of peers said to serve it: a hint, nothing more
    """

    address: Address
    heads: tuple[Head, ...]
    providers: tuple[str, ...] = ()


def request_fields(addresses: Sequence[Address]) -> dict[str, Any]:
    """The fields of a request; no addresses: whatever the peer serves."""
    return {"datasets": [str(address) for address in addresses]}


def read_request(fields: Any) -> tuple[Address, ...]:
    """Raises IntegrityError for a request that is none."""
    (datasets,) = m.read_fields(fields, datasets=m.list_of(m.is_text, HEADS_DATASETS_MAX))
    return tuple(_address(text) for text in datasets)


def answer(number: int, known: Iterable[DatasetHeads]) -> Iterator[bytes]:
    """The frames that answer a request; see `ask.answer` for empty ones."""
    batch: list[Any] = []
    size = 0
    for item in known:
        envelopes = [head.envelope for head in item.heads]
        providers = list(item.providers[:PROVIDERS_MAX])
        entry_size = 256 + sum(map(len, envelopes)) + sum(len(text.encode()) + 4 for text in providers)
        if batch and size + entry_size > FRAME_PAYLOAD_BYTES:
            yield m.encode_open(number, {"datasets": batch})
            batch, size = [], 0
        batch.append([str(item.address), envelopes, providers])
        size += entry_size
        yield b""
    if batch:
        yield m.encode_open(number, {"datasets": batch})
    yield m.encode_end(number, {})


class AskingHeads:
    """One request from the asker's side."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.known: dict[Address, DatasetHeads] = {}
        self.failure: m.Failure | None = None
        self.is_over = False
        self._wanted = frozenset(addresses)

    def take(self, reply: m.Reply) -> None:
        """Take one reply. Raises IntegrityError for anything that an honest peer does not send."""
        if self.is_over:
            raise IntegrityError("an answer that goes on behind its end")
        if isinstance(reply, m.Failure):
            self.failure, self.is_over = reply, True
        elif isinstance(reply, m.End):
            m.read_fields(reply.fields)
            self.is_over = True
        elif isinstance(reply, m.Open):
            (datasets,) = m.read_fields(reply.fields, datasets=m.list_of(m.is_anything, HEADS_DATASETS_MAX, 1))
            for entry in datasets:
                self._take_entry(entry)
        else:
            raise IntegrityError("blocks where heads belong")

    def _take_entry(self, entry: Any) -> None:
        if type(entry) is not list or len(entry) != 3 or not m.is_text(entry[0]):
            raise IntegrityError("heads must come as [dataset, heads, providers]")
        address = _address(entry[0])
        fits = m.list_of(lambda item: m.is_bytes(item) and len(item) <= HEAD_BYTES_MAX, 2)(entry[1])
        named = m.list_of(lambda item: m.is_text(item) and len(item) <= ADDRESS_BYTES_MAX, PROVIDERS_MAX)(entry[2])
        if not fits or not named or address in self.known or len(self.known) >= HEADS_DATASETS_MAX:
            raise IntegrityError("heads that cannot be read")
        if self._wanted and address not in self._wanted:
            raise IntegrityError("heads of a dataset that was not asked about")
        heads = tuple(open_head(envelope) for envelope in entry[1])
        if any(head.address != address for head in heads):
            raise IntegrityError("the head of another dataset")
        if len(heads) == 2 and not heads[0].contradicts(heads[1]):
            raise IntegrityError("two heads that do not contradict each other")
        self.known[address] = DatasetHeads(address, heads, tuple(entry[2]))


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except UsageError as error:
        raise IntegrityError(str(error)) from None
