"""ask/1: a query in, the proof of its answer back."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .dag import (
    MAX_COUNT,
    Cid,
    Value,
    as_bool,
    as_bytes,
    as_fields,
    as_int,
    as_link,
    cid_of,
)
from .errors import Mismatch, Refused
from .harness import NOTE, Case, Groups, Vectors, each, expect, expect_values, given, none, whole
from .head import MAX_ENVELOPE, Address, read_address, read_head
from .keys import MAX_KEY
from .manifest import Collection, Dataset, load_dataset, read_manifest
from .message import Blocks, End, Event, Failure, Open, Request, read_request, shown_replies, shown_request
from .plan import Walk
from .query import (
    MAX_QUERY,
    Candidate,
    Plan,
    Query,
    candidates,
    collection_of,
    find_candidate,
    read_plan,
    read_query,
)
from .records import values_at
from .tree import Lacking, Source, Store

MAX_BUDGET: Final = 4_194_304

# --- The request -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ask:
    """What is asked."""

    dataset: Address
    query: Query
    manifest: Cid | None
    known: bool
    plan: Plan | None
    after: bytes | None
    limit: int | None
    budget: int
    scan: bool


def read_ask(request: Request) -> Ask:
    """The fields of a request, each as the specification has it."""
    names = ("dataset", "query", "manifest", "known", "plan", "after", "limit", "budget", "scan")
    dataset, query, manifest, known, plan, after, limit, budget, scan = as_fields(request.fields, "ask", names)
    if not isinstance(dataset, str):
        raise Refused("an address that is no text")
    return Ask(
        read_address(dataset),
        read_query(as_bytes(query, "query", 1, MAX_QUERY)),
        None if manifest is None else as_link(manifest, "manifest"),
        as_bool(known, "known"),
        None if plan is None else read_plan(plan),
        None if after is None else as_bytes(after, "after", 0, MAX_KEY),
        None if limit is None else as_int(limit, "limit", 0, MAX_COUNT),
        min(as_int(budget, "budget"), MAX_BUDGET),
        as_bool(scan, "scan"),
    )


# --- The asker ---------------------------------------------------------------------------------------------


class Proof(Source):
    """The blocks that come in an answer, each taken for what the walk needs next."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        super().__init__()
        self._left = list(blocks)[::-1]

    def fetch(self, digest: bytes) -> bytes:
        """The next block, whatever it is: whether it is the right one is checked next."""
        if not self._left:
            raise Lacking("no more blocks")
        return self._left.pop()

    def is_used_up(self) -> bool:
        """Whether no block is left."""
        return not self._left


@dataclass(frozen=True, eq=False)
class Answer:
    """What an asker has got: a walk, and whether it ended."""

    collection: Collection
    walk: Walk
    complete: bool


class Asker:
    """Reads the replies to a request and believes nothing of them."""

    def __init__(self, ask: Ask, kept: dict[bytes, bytes], time_ms: int) -> None:
        self._ask = ask
        self._kept = kept
        self._time = time_ms
        self._blocks: list[bytes] = []
        self._opened: tuple[Collection, Candidate] | None = None

    def read(self, events: Iterable[Event]) -> Answer | Failure:
        """The whole answer, or the error that came instead."""
        outcome: Answer | Failure | None = None
        for event in events:  # to the very last one: behind the end nothing may come
            if isinstance(event, Open):
                self._open(event.fields)
            elif isinstance(event, Blocks):
                self._take(event.blocks)
            elif isinstance(event, End):
                outcome = self._end(event.fields)
            else:
                outcome = event
        if outcome is None:
            raise Refused("an answer without an end")
        return outcome

    def _open(self, fields: dict[str, Value]) -> None:
        if self._opened is not None:
            raise Refused("two openings")
        envelope, block, plan = as_fields(fields, "opening", ("head", "manifest", "plan"))
        head = read_head(as_bytes(envelope, "head", 1, MAX_ENVELOPE))
        head.check_time(self._time)
        if head.address != self._ask.dataset or self._ask.manifest not in (None, head.manifest):
            raise Refused("the head of another dataset, or one that leads to another manifest")
        if (block is None) is not self._ask.known:
            raise Refused("a manifest that is known, or none though it is not known")
        data = self._kept.get(head.manifest.digest, b"") if block is None else as_bytes(block, "manifest")
        if cid_of(data) != head.manifest:
            raise Refused("a manifest that is not the head's")
        manifest = read_manifest(data)
        chosen = read_plan(plan)
        if self._ask.plan not in (None, chosen):
            raise Refused("another plan than was asked for")
        candidate = find_candidate(self._ask.query, manifest, chosen)
        self._opened = collection_of(self._ask.query, manifest), candidate

    def _take(self, blocks: Sequence[bytes | None]) -> None:
        if self._opened is None:
            raise Refused("blocks before the opening")
        for block in blocks:
            if block is None:
                raise Refused("null in an answer")
            self._blocks.append(block)
        if sum(map(len, self._blocks)) > self._ask.budget:
            raise Refused("more bytes than the budget")

    def _end(self, fields: dict[str, Value]) -> Answer:
        (said,) = as_fields(fields, "end", ("complete",))
        if self._opened is None:
            raise Refused("an end without an opening")
        collection, candidate = self._opened
        walk = Walk(self._ask.query, collection, candidate, self._ask.after, self._ask.limit)
        proof = Proof(self._blocks)
        complete = run_to_end(walk, proof)
        if not proof.is_used_up():
            raise Refused("more blocks than the walk needs")
        if as_bool(said, "complete") is not complete:
            raise Refused("an answer said to be complete that is not, or the other way round")
        if not complete and walk.position == self._ask.after:
            raise Refused("an answer that has reached no new position")
        return Answer(collection, walk, complete)


def run_to_end(walk: Walk, source: Source) -> bool:
    """Walk as far as a source leads, and say whether that was to the end."""
    try:
        walk.run(source)
    except Lacking:
        return False
    return True


# --- The peer that answers ---------------------------------------------------------------------------------


class Budget(Store):
    """A store that pauses before the block with which what was needed would exceed a budget."""

    def __init__(self, kept: dict[bytes, bytes], budget: int) -> None:
        super().__init__(kept)
        self._budget = budget

    def fetch(self, digest: bytes) -> bytes:
        """Get a block that is kept, if it still fits."""
        data = super().fetch(digest)
        self._budget -= len(data)
        if self._budget < 0:
            raise Lacking("the budget is used up")
        return data


@dataclass(frozen=True)
class Served:
    """The content of an answer."""

    fields: dict[str, Value]
    blocks: list[bytes]
    complete: bool


def serve(ask: Ask, dataset: Dataset, envelope: bytes, choice: Plan | None) -> Served | str:
    """What a peer answers that has one dataset and would choose that plan: the content, or an error's code."""
    head = read_head(envelope)
    if ask.dataset != head.address or ask.manifest not in (None, head.manifest):
        return "unknown"
    try:
        known = candidates(ask.query, dataset.manifest)
    except Refused:
        return "refused"
    plan = ask.plan or choice or known[0].plan
    try:
        candidate = find_candidate(ask.query, dataset.manifest, plan)
    except Refused:
        return "malformed"
    walk = Walk(ask.query, collection_of(ask.query, dataset.manifest), candidate, ask.after, ask.limit)
    source = Budget(dataset.store, ask.budget)
    complete = run_to_end(walk, source)
    block = None if ask.known else dataset.block
    return Served({"head": envelope, "manifest": block, "plan": plan.to_value()}, source.blocks, complete)


# --- Vectors -----------------------------------------------------------------------------------------------


def now() -> int:
    """The time in milliseconds, as heads give it."""
    return time.time_ns() // 1_000_000


def _read_given(case: Case) -> tuple[Request, Ask]:
    with given("the request"):
        request = shown_request(case)
        return request, read_ask(request)


def _check_exchange(vectors: Vectors, case: Case) -> None:
    dataset = load_dataset(vectors)
    request, ask = _read_given(case)
    events = list(shown_replies(case, request))
    answer = Asker(ask, dataset.store, now()).read(events)
    _check_served(vectors, ask, events)
    if isinstance(answer, Failure):
        expect("error", answer.code, case.text("error"))
        return
    walk, query = answer.walk, answer.walk.query
    rows: list[Value] = [values_at(row.record, answer.collection.key).values[0] for row in walk.answer()]
    expect("complete", answer.complete, case.flag("complete"))
    expect_values("rows", rows, case.value("rows"))
    expect("count", walk.count() if query.count else None, case.integer_or_null("count"))
    expect("position", walk.position, case.hex_or_null("position"))


def _check_served(vectors: Vectors, ask: Ask, events: Sequence[Event]) -> None:
    """The peer's side: all that the replies hold follows from the request, but for the plan that it may choose."""
    first = events[0]
    choice = read_plan(first.fields["plan"]) if isinstance(first, Open) else None
    served = serve(ask, load_dataset(vectors), vectors.group("ask", "head").as_hex(), choice)
    if isinstance(served, str):
        expect("the only reply", [served], [event.code for event in events if isinstance(event, Failure)])
        expect("number of replies", len(events), 1)
        return
    if not isinstance(first, Open):
        raise Mismatch("an error, though there is an answer")
    expect_values("opening", served.fields, first.fields)
    sent = [block for event in events if isinstance(event, Blocks) for block in event.blocks]
    expect("blocks", served.blocks, sent)
    expect("end", events[-1], End({"complete": served.complete}))


def _check_not_answer(vectors: Vectors, case: Case) -> None:
    dataset = load_dataset(vectors)
    request, ask = _read_given(case)
    Asker(ask, dataset.store, now()).read(shown_replies(case, request))


def _check_not_request(_: Vectors, case: Case) -> None:
    with given("a request of another form"):
        request = read_request(case.hex("body"))
    read_ask(request)


def _check_head(vectors: Vectors, case: Case) -> None:
    """The head that all answers are from: that of the dataset of manifest/1, and the third."""
    head = read_head(case.as_hex())
    expect("manifest", head.manifest, load_dataset(vectors).cid)
    expect("sequence", head.sequence, 3)


GROUPS: Final[Groups] = {
    "dataset": NOTE,
    "head": whole(_check_head),
    "exchanges": each(_check_exchange),
    "not_answers": none(_check_not_answer),
    "not_requests": none(_check_not_request),
}
