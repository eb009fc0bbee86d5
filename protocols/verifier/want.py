"""want/1: blocks by name, records by primary key."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .ask import MAX_BUDGET
from .dag import Cid, Value, as_bool, as_bytes, as_fields, as_int, as_link, as_list, cid_of, read_cid
from .errors import Refused
from .harness import Case, Groups, Vectors, each, expect, given, none
from .keys import MAX_KEY
from .manifest import Dataset, load_dataset
from .message import Blocks, End, Event, Failure, Request, read_request, shown_replies, shown_request
from .tree import Store, walk_values

MAX_WANTED: Final = 1_024

# --- The request -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Want:
    """What is wanted: blocks by name, or, below a root, records by primary key."""

    cids: tuple[Cid, ...]
    root: Cid | None
    keys: tuple[bytes, ...]
    budget: int
    packed: bool

    @property
    def things(self) -> int:
        """How many things are wanted."""
        return len(self.keys if self.root else self.cids)


def read_want(request: Request) -> Want:
    """The fields of a request, in one of its two forms."""
    if "cids" in request.fields:
        cids, budget, packed = as_fields(request.fields, "want", ("cids", "budget", "packed"))
        links = [as_link(link, "cid") for link in as_list(cids, "cids", 1, MAX_WANTED)]
        return Want(tuple(links), None, (), _read_budget(budget), as_bool(packed, "packed"))
    root, keys, budget, packed = as_fields(request.fields, "want", ("root", "keys", "budget", "packed"))
    wanted = [as_bytes(key, "key", 0, MAX_KEY) for key in as_list(keys, "keys", 1, MAX_WANTED)]
    return Want((), as_link(root, "root"), tuple(wanted), _read_budget(budget), as_bool(packed, "packed"))


def _read_budget(value: Value) -> int:
    return min(as_int(value, "budget"), MAX_BUDGET)


# --- The asker ---------------------------------------------------------------------------------------------


def read_answer(want: Want, wanted: Sequence[Cid], events: Iterable[Event]) -> list[bytes | None] | Failure:
    """The items of an answer, or the error that ended it. The asker knows the digests of all that it wants."""
    items: list[bytes | None] = []
    outcome: list[bytes | None] | Failure | None = None
    for event in events:  # to the very last one: behind the end nothing may come
        if isinstance(event, Blocks):
            if event.packed and not want.packed:
                raise Refused("packed blocks where none may be")
            for item in event.blocks:
                _take(want, wanted, items, item)
        elif isinstance(event, End):
            (sent,) = as_fields(event.fields, "end", ("sent",))
            if as_int(sent, "sent", 1, MAX_WANTED) != len(items):
                raise Refused("another number of items than was said")
            outcome = items
        elif isinstance(event, Failure):
            outcome = event
        else:
            raise Refused("an opening where there is none")
    if outcome is None:
        raise Refused("an answer without an end")
    return outcome


def _take(want: Want, wanted: Sequence[Cid], items: list[bytes | None], item: bytes | None) -> None:
    position = len(items)
    if position == want.things:
        raise Refused("more items than were wanted")
    if item is not None and cid_of(item) != wanted[position]:
        raise Refused(f"item {position} has another digest than what was wanted")
    items.append(item)
    if position and sum(len(one) for one in items if one is not None) > want.budget:
        raise Refused("more bytes than the budget behind the first item")


# --- The peer that answers ---------------------------------------------------------------------------------


def serve(want: Want, dataset: Dataset) -> list[bytes | None]:
    """The items that a peer sends that has one dataset."""
    items: list[bytes | None] = []
    size = 0
    for item in _all_items(want, dataset):
        size += len(item or b"")
        if items and size > want.budget:
            break
        items.append(item)
    return items


def _all_items(want: Want, dataset: Dataset) -> list[bytes | None]:
    if want.root is None:
        return [dataset.store.get(cid.digest) for cid in want.cids]
    trees = [one.primary for one in dataset.manifest.collections.values() if one.primary.root == want.root]
    if not trees:
        return [None] * len(want.keys)
    source = Store(dataset.store)
    ordered = sorted(set(want.keys))
    contents = dict(zip(ordered, walk_values(source, trees[0], ordered), strict=True))
    items: list[bytes | None] = []
    for key in want.keys:
        content = contents[key]
        items.append(dataset.store.get(content.digest) if isinstance(content, Cid) else content)
    return items


# --- Vectors -----------------------------------------------------------------------------------------------


def _read_given(case: Case) -> tuple[Request, Want, list[Cid]]:
    with given("the request"):
        request = shown_request(case)
        want = read_want(request)
        wanted = [read_cid(data) for data in case.hexes("wanted")]
    expect("digests known to the asker", len(wanted), want.things)
    return request, want, wanted


def _names(items: Iterable[bytes | None]) -> list[bytes | None]:
    return [None if item is None else bytes(cid_of(item)) for item in items]


def _check_exchange(vectors: Vectors, case: Case) -> None:
    request, want, wanted = _read_given(case)
    events = list(shown_replies(case, request))
    shown = [None if item.is_null() else item.as_hex() for item in case.items("blocks")]
    sent = [item for event in events if isinstance(event, Blocks) for item in event.blocks]
    expect("items that are sent", _names(sent), shown)
    expect("items that a peer sends", serve(want, load_dataset(vectors)), sent)
    expect("end", events[-1], End({"sent": len(sent)}))
    answer = read_answer(want, wanted, events)
    if isinstance(answer, Failure):
        raise Refused(f"an error: {answer.code}")
    expect("items", _names(answer), shown)


def _check_not_answer(_: Vectors, case: Case) -> None:
    request, want, wanted = _read_given(case)
    read_answer(want, wanted, shown_replies(case, request))


def _check_not_request(_: Vectors, case: Case) -> None:
    with given("a request of another form"):
        request = read_request(case.hex("body"))
    read_want(request)


GROUPS: Final[Groups] = {
    "exchanges": each(_check_exchange),
    "not_answers": none(_check_not_answer),
    "not_requests": none(_check_not_request),
}
