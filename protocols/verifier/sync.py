"""sync/1: what has changed in a dataset since a manifest that the asker holds.

The vectors show neither the manifest held nor its records. So an answer is checked here as far as it can be by itself;
that its changes, applied to what is held, lead to the roots of the manifest is not.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from .ask import MAX_BUDGET, now
from .dag import (
    MAX_COUNT,
    MAX_MANIFEST,
    Cid,
    Value,
    as_bool,
    as_bytes,
    as_fields,
    as_int,
    as_link,
    as_list,
    as_map,
    as_text,
    cid_of,
    decode,
    sha256,
)
from .errors import Refused
from .harness import Case, Groups, Vectors, each, expect, given, none
from .head import MAX_ENVELOPE, Address, read_address, read_head
from .keys import MAX_KEY
from .manifest import Manifest, read_manifest
from .message import Blocks, End, Event, Failure, Open, Request, read_request, shown_replies, shown_request
from .records import read_name
from .tree import Content, read_content

MAX_LIST: Final = 61_440
FORMS: Final = ("same", "delta", "chunks")

# --- The request -------------------------------------------------------------------------------------------

Place = tuple[str, bytes]
"""A collection and a key: places have the order in which changes come."""


@dataclass(frozen=True)
class Sync:
    """What is asked."""

    dataset: Address
    held: Cid | None
    manifest: Cid | None
    place: Place | None
    budget: int


def read_sync(request: Request) -> Sync:
    """The fields of a request, each as the specification has it."""
    names = ("dataset", "held", "manifest", "place", "budget")
    dataset, held, manifest, place, budget = as_fields(request.fields, "sync", names)
    return Sync(
        read_address(as_text(dataset, "address")),
        None if held is None else as_link(held, "held"),
        None if manifest is None else as_link(manifest, "manifest"),
        None if place is None else _read_place(place),
        min(as_int(budget, "budget", 0, MAX_COUNT), MAX_BUDGET),
    )


def _read_place(value: Value) -> Place:
    collection, key = as_list(value, "place", 2, 2)
    return read_name(collection), as_bytes(key, "key", 0, MAX_KEY + 1)


# --- The asker ---------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What an asker has got: how collections come, their changes, and how many records beside these."""

    forms: dict[str, str]
    changes: dict[str, list[tuple[bytes, Content | None]]] = field(default_factory=dict)
    records: int = 0
    complete: bool = False


class Asker:
    """Reads the replies to a request."""

    def __init__(self, sync: Sync, time: int) -> None:
        self._sync = sync
        self._time = time
        self._answer: Answer | None = None
        self._place: Place | None = None  # of the last change
        self._linked: deque[Cid] = deque()  # the records that have to come next
        self._bytes = 0

    def read(self, events: Iterable[Event]) -> Answer | Failure:
        """The whole answer, or the error that came instead."""
        outcome: Answer | Failure | None = None
        for event in events:  # to the very last one: behind the end nothing may come
            if isinstance(event, Open):
                self._open(event.fields)
            elif isinstance(event, Blocks):
                for block in event.blocks:
                    self._take(self._opened(), block)
            elif isinstance(event, End):
                outcome = self._end(self._opened(), event.fields)
            else:
                outcome = event
        if outcome is None:
            raise Refused("an answer without an end")
        return outcome

    def _opened(self) -> Answer:
        if self._answer is None:
            raise Refused("an answer without an opening")
        return self._answer

    def _open(self, fields: dict[str, Value]) -> None:
        if self._answer is not None:
            raise Refused("two openings")
        envelope, block, forms = as_fields(fields, "opening", ("head", "manifest", "forms"))
        head = read_head(as_bytes(envelope, "head", 1, MAX_ENVELOPE))
        head.check_time(self._time)
        if head.address != self._sync.dataset or self._sync.manifest not in (None, head.manifest):
            raise Refused("the head of another dataset, or one that leads to another manifest")
        data = as_bytes(block, "manifest", 1, MAX_MANIFEST)
        if cid_of(data) != head.manifest:
            raise Refused("a manifest that is not the head's")
        self._answer = Answer(_read_forms(forms, read_manifest(data), self._sync.held))

    def _take(self, answer: Answer, block: bytes | None) -> None:
        if block is None:
            raise Refused("null in an answer")
        self._bytes += len(block)
        if self._bytes > self._sync.budget:
            raise Refused("more bytes than the budget")
        if not self._linked:
            self._take_list(answer, block)
        elif sha256(block) != self._linked.popleft().digest:
            raise Refused("a record that is not the one linked next")
        else:
            answer.records += 1

    def _take_list(self, answer: Answer, block: bytes) -> None:
        if len(block) > MAX_LIST:
            raise Refused("a list of changes of too many bytes")
        name, items = as_list(decode(block), "list of changes", 2, 2)
        collection = as_text(name, "collection")
        if answer.forms.get(collection) != "delta":
            raise Refused("changes of a collection that does not come so")
        for item in as_list(items, "changes", 1):
            key, value = as_list(item, "change", 2, 2)
            place = collection, as_bytes(key, "key", 0, MAX_KEY)
            if self._place is not None and place <= self._place:
                raise Refused("changes out of order")
            if self._sync.place is not None and place < self._sync.place:
                raise Refused("a change below the place")
            self._place = place
            content = None if value is None else read_content(value)
            answer.changes.setdefault(collection, []).append((place[1], content))
            if isinstance(content, Cid):
                self._linked.append(content)

    def _end(self, answer: Answer, fields: dict[str, Value]) -> Answer:
        (complete,) = as_fields(fields, "end", ("complete",))
        answer.complete = as_bool(complete, "complete")
        if self._linked:
            raise Refused("an end between a list and its records")
        if not answer.complete and self._place is None:
            raise Refused("an answer that is not complete and has no list")
        return answer


def _read_forms(value: Value, manifest: Manifest, held: Cid | None) -> dict[str, str]:
    forms = {name: as_text(form, "form") for name, form in as_map(value, "forms").items()}
    if forms.keys() != manifest.collections.keys():
        raise Refused("a collection without a form, or a form without a collection")
    for name, form in forms.items():
        if form not in FORMS:
            raise Refused("an unknown form")
        # Who holds nothing holds no collection: so there are no changes, and only what is empty is the same.
        if held is None and (form == "delta" or (form == "same" and manifest.collections[name].primary.count)):
            raise Refused("changes since nothing")
    return forms


# --- Vectors -----------------------------------------------------------------------------------------------


def _read_given(case: Case) -> tuple[Request, Sync]:
    with given("the request"):
        request = shown_request(case)
        return request, read_sync(request)


def _check_exchange(_: Vectors, case: Case) -> None:
    request, sync = _read_given(case)
    answer = Asker(sync, now()).read(shown_replies(case, request))
    if isinstance(answer, Failure):
        expect("error", answer.code, case.text("error"))
        return
    expect("complete", answer.complete, case.flag("complete"))
    expect("forms", answer.forms, case.value("forms"))
    expect("records", answer.records, case.integer("records"))
    found = {name: [_shown(*change) for change in changes] for name, changes in answer.changes.items()}
    expect("changes", found, case.value("changes"))


def _shown(key: bytes, content: Content | None) -> Sequence[str | None]:
    """How the vectors show a change: a link as the 36 bytes of its CID."""
    return [key.hex(), None if content is None else bytes(content).hex()]


def _check_not_answer(_: Vectors, case: Case) -> None:
    request, sync = _read_given(case)
    Asker(sync, now()).read(shown_replies(case, request))


def _check_not_request(_: Vectors, case: Case) -> None:
    with given("a request of another form"):
        request = read_request(case.hex("body"))
    read_sync(request)


GROUPS: Final[Groups] = {
    "exchanges": each(_check_exchange),
    "not_answers": none(_check_not_answer),
    "not_requests": none(_check_not_request),
}
