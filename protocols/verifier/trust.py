"""trust/1: what a peer has found out about a head."""

from collections.abc import Iterable
from typing import Final

from .dag import Cid, as_fields, as_link, as_text
from .errors import Refused
from .fraud import judge
from .harness import Case, Groups, Vectors, each, expect, given, none
from .head import Address, read_address
from .message import Blocks, End, Event, Failure, Request, read_request, shown_replies, shown_request


def read_question(request: Request) -> tuple[Address, Cid]:
    """The dataset asked about, and the manifest of its head."""
    dataset, manifest = as_fields(request.fields, "question", ("dataset", "manifest"))
    return read_address(as_text(dataset, "dataset")), as_link(manifest, "manifest")


def read_answer(about: tuple[Address, Cid], events: Iterable[Event]) -> bool | Failure:
    """Whether the head is convicted, by a proof that was sent; or the error that ended the answer."""
    blocks: list[bytes] = []
    outcome: bool | Failure | None = None
    for event in events:  # to the very last one: behind the end nothing may come
        if isinstance(event, Blocks):
            for block in event.blocks:
                if block is None:
                    raise Refused("null instead of a block")
                blocks.append(block)
        elif isinstance(event, End):
            as_fields(event.fields, "end", ())
            outcome = _is_convicted(about, blocks)
        elif isinstance(event, Failure):
            outcome = event
        else:
            raise Refused("an opening where there is none")
    if outcome is None:
        raise Refused("an answer without an end")
    return outcome


def _is_convicted(about: tuple[Address, Cid], blocks: list[bytes]) -> bool:
    if not blocks:
        return False
    heads = judge(blocks)
    if [(head.address, head.manifest) for head in heads] != [about]:
        raise Refused("a proof against another head, or two")
    return True


def _check_exchange(_: Vectors, case: Case) -> None:
    request = shown_request(case)
    answer = read_answer(read_question(request), shown_replies(case, request))
    expect("convicted", answer, case.flag("convicted"))


def _check_not_answer(_: Vectors, case: Case) -> None:
    with given("the request"):
        request = shown_request(case)
        about = read_question(request)
    read_answer(about, shown_replies(case, request))


def _check_not_request(_: Vectors, case: Case) -> None:
    with given("a request of another form"):
        request = read_request(case.hex("body"))
    read_question(request)


GROUPS: Final[Groups] = {
    "exchanges": each(_check_exchange),
    "not_answers": none(_check_not_answer),
    "not_requests": none(_check_not_request),
}
