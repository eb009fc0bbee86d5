"""trust/1: what a peer has found out about a head, and what it attests."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from .attestation import ATTESTATION, Attestation, read_attestation
from .dag import Cid, Value, as_bytes, as_fields, as_link, as_list, as_text, encode, sha256
from .errors import Refused
from .fraud import judge
from .harness import Case, Groups, Vectors, each, expect, given, none
from .head import Address, read_address, seal
from .message import Blocks, End, Event, Failure, Request, read_request, shown_replies, shown_request
from .records import read_name

MAX_ATTESTATIONS: Final = 65  # the primary and its indexes


class Question(NamedTuple):
    """A head, and perhaps a collection whose indexes are to be attested."""

    address: Address
    manifest: Cid
    collection: str | None


def read_question(request: Request) -> Question:
    """What is asked."""
    names = ("dataset", "manifest", "collection")
    dataset, manifest, collection = as_fields(request.fields, "question", names)
    name = None if collection is None else read_name(collection)
    return Question(read_address(as_text(dataset, "dataset")), as_link(manifest, "manifest"), name)


class Answer(NamedTuple):
    """Whether the head is convicted, and what the peer attests."""

    is_convicted: bool
    attestations: tuple[Attestation, ...]


def read_answer(about: Question, peer: str, events: Iterable[Event]) -> Answer | Failure:
    """What a peer answers, or the error that ended its answer."""
    blocks: list[bytes] = []
    outcome: Answer | Failure | None = None
    for event in events:  # to the very last one: behind the end nothing may come
        if isinstance(event, Blocks):
            for block in event.blocks:
                if block is None:
                    raise Refused("null instead of a block")
                blocks.append(block)
        elif isinstance(event, End):
            (envelopes,) = as_fields(event.fields, "end", ("attestations",))
            found = as_list(envelopes, "attestations", 0, MAX_ATTESTATIONS)
            if found and (blocks or about.collection is None):
                raise Refused("attestations beside a proof, or that were not asked for")
            outcome = Answer(_is_convicted(about, blocks), _attested(peer, found))
        elif isinstance(event, Failure):
            outcome = event
        else:
            raise Refused("an opening where there is none")
    if outcome is None:
        raise Refused("an answer without an end")
    return outcome


def _attested(peer: str, envelopes: list[Value]) -> tuple[Attestation, ...]:
    found = tuple(read_attestation(as_bytes(one, "attestation")) for one in envelopes)
    if any(one.peer != peer for one in found):
        raise Refused("another peer's word")
    if len({one.given for one in found}) < len(found):
        raise Refused("two attestations of one index")
    return found


def _is_convicted(about: Question, blocks: list[bytes]) -> bool:
    if not blocks:
        return False
    heads = judge(blocks).heads
    if [(head.address, head.manifest) for head in heads] != [about[:2]]:
        raise Refused("a proof against another head, or two")
    return True


def _check_exchange(_: Vectors, case: Case) -> None:
    request = shown_request(case)
    answer = read_answer(read_question(request), case.text("peer_id"), shown_replies(case, request))
    if isinstance(answer, Failure):
        raise Refused("an answer that is an error")
    expect("convicted", answer.is_convicted, case.flag("convicted"))
    expect("attested", [one.given for one in answer.attestations], case.hexes("attested"))


def _check_attestation(_: Vectors, case: Case) -> None:
    envelope = case.hex("envelope")
    attestation = read_attestation(envelope)
    expect("peer id", attestation.peer, case.text("peer_id"))
    expect("given", attestation.given, sha256(encode(case.value("made_of"))))
    expect("tree", list(attestation.tree), case.value("tree"))
    expect("lists", list(attestation.lists), case.value("lists"))
    expect("envelope signed again", seal(case.hex("seed"), ATTESTATION, attestation.payload()), envelope)


def _check_not_attestation(_: Vectors, case: Case) -> None:
    read_attestation(case.hex("envelope"))


def _check_not_answer(_: Vectors, case: Case) -> None:
    with given("the request"):
        request = shown_request(case)
        about = read_question(request)
    read_answer(about, case.text("peer_id"), shown_replies(case, request))


def _check_not_request(_: Vectors, case: Case) -> None:
    with given("a request of another form"):
        request = read_request(case.hex("body"))
    read_question(request)


GROUPS: Final[Groups] = {
    "attestations": each(_check_attestation),
    "not_attestations": none(_check_not_attestation),
    "exchanges": each(_check_exchange),
    "not_answers": none(_check_not_answer),
    "not_requests": none(_check_not_request),
}
