"""heads/1: the newest heads that a peer knows, and who else serves their datasets."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .dag import Value, as_bytes, as_fields, as_list, as_text
from .errors import Refused
from .harness import Case, Groups, Vectors, each, expect, given, none
from .head import MAX_ENVELOPE, Address, read_address, read_head, read_peer_id
from .message import End, Event, Failure, Open, Request, read_request, shown_replies, shown_request

MAX_DATASETS: Final = 256
MAX_HEADS: Final = 2
MAX_PROVIDERS: Final = 16
MAX_PROVIDER: Final = 512

# --- The request -------------------------------------------------------------------------------------------


def read_asked(request: Request) -> list[Address]:
    """The datasets that are asked about."""
    (datasets,) = as_fields(request.fields, "request", ("datasets",))
    return [read_address(as_text(one, "address")) for one in as_list(datasets, "datasets", 0, MAX_DATASETS)]


# --- The asker ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What a peer knows of a dataset."""

    heads: tuple[bytes, ...]
    providers: tuple[str, ...]

    def to_value(self, address: Address) -> list[Value]:
        """The entry that says it."""
        return [str(address), list(self.heads), list(self.providers)]


def read_answer(asked: list[Address], events: Iterable[Event]) -> dict[Address, Known] | Failure:
    """What a peer tells, or the error that ended it."""
    found: dict[Address, Known] = {}
    outcome: dict[Address, Known] | Failure | None = None
    for event in events:  # to the very last one: behind the end nothing may come
        if isinstance(event, Open):
            (entries,) = as_fields(event.fields, "opening", ("datasets",))
            for entry in as_list(entries, "entries", 1, MAX_DATASETS):
                address, known = _read_entry(entry)
                if address in found or (asked and address not in asked) or len(found) == MAX_DATASETS:
                    raise Refused("a dataset twice, one that was not asked about, or too many")
                found[address] = known
        elif isinstance(event, End):
            as_fields(event.fields, "end", ())
            outcome = found
        elif isinstance(event, Failure):
            outcome = event
        else:
            raise Refused("blocks where there are none")
    if outcome is None:
        raise Refused("an answer without an end")
    return outcome


def _read_entry(value: Value) -> tuple[Address, Known]:
    dataset, envelopes, providers = as_list(value, "entry", 3, 3)
    address = read_address(as_text(dataset, "address"))
    sealed = [as_bytes(one, "head", 1, MAX_ENVELOPE) for one in as_list(envelopes, "heads", 0, MAX_HEADS)]
    heads = [read_head(envelope) for envelope in sealed]
    if any(head.address != address for head in heads):
        raise Refused("the head of another dataset")
    if len(heads) == 2 and not heads[0].contradicts(heads[1]):
        raise Refused("two heads that do not contradict each other")
    named = [_read_provider(one) for one in as_list(providers, "providers", 0, MAX_PROVIDERS)]
    return address, Known(tuple(sealed), tuple(named))


def _read_provider(value: Value) -> str:
    provider = as_text(value, "provider")
    before, mark, peer = provider.rpartition("/p2p/")
    if len(provider) > MAX_PROVIDER or not mark or not before.startswith("/"):
        raise Refused("not a full multiaddr")
    read_peer_id(peer)
    return provider


# --- The peer that answers ---------------------------------------------------------------------------------


def serve(asked: list[Address], known: Mapping[Address, Known]) -> Iterator[Value]:
    """The entries that a peer tells that knows this."""
    for address in asked or list(known)[:MAX_DATASETS]:
        if address in known:
            yield known[address].to_value(address)


# --- Vectors -----------------------------------------------------------------------------------------------


def _check_exchange(_: Vectors, case: Case) -> None:
    with given("the request"):
        request = shown_request(case)
        asked = read_asked(request)
    events = list(shown_replies(case, request))
    shown: dict[Address, Known] = {}
    for item in case.items("known"):
        providers = tuple(provider.as_text() for provider in item.items("providers"))
        shown[read_address(item.text("address"))] = Known(tuple(item.hexes("heads")), providers)
    expect("what the asker knows then", read_answer(asked, events), shown)
    told: list[Value] = []
    for event in events:
        if isinstance(event, Open):
            told += as_list(event.fields["datasets"], "datasets")
    expect("entries", list(serve(asked, shown)), told)
    expect("end", events[-1], End({}))


def _check_not_answer(_: Vectors, case: Case) -> None:
    with given("the request"):
        request = shown_request(case)
        asked = read_asked(request)
    read_answer(asked, shown_replies(case, request))


def _check_not_request(_: Vectors, case: Case) -> None:
    with given("a request of another form"):
        request = read_request(case.hex("body"))
    read_asked(request)


GROUPS: Final[Groups] = {
    "exchanges": each(_check_exchange),
    "not_answers": none(_check_not_answer),
    "not_requests": none(_check_not_request),
}
