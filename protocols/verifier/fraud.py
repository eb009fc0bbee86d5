"""fraud/1: claims that a dataset contradicts itself, and the walks that judge them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from .attestation import disproven, read_attestation
from .conditions import meets_condition
from .dag import Cid, Value, as_bytes, as_fields, as_int, as_list, as_text, cid_of, decode, sha256
from .errors import Refused
from .harness import Case, Groups, Vectors, each, expect, none
from .head import Head, read_head
from .keys import MAX_KEY, Range, component_end, following, inverted, read_key
from .manifest import Collection, Index, Manifest, index_entries, read_manifest
from .records import Record, primary_key, read_record, values_at
from .tree import (
    MAX_LEVEL,
    MAX_VALUE,
    Inner,
    Lacking,
    Node,
    Rule,
    Source,
    Tree,
    need_children,
    need_root,
    priority,
    walk_count,
    walk_values,
)

MAX_PROOF: Final = 4_194_304
KIND: Final = "rhizome-fraud/1"

# --- Claims ------------------------------------------------------------------------------------------------

# Whether a claim of this kind names an index: it must, it must not, or it may.
_NAMES_INDEX: Final[dict[str, bool | None]] = {
    "entry": True,
    "record": False,
    "path": None,
    "cut": None,
    "lists": True,
    "unique": True,
}
_HAS_NUMBER: Final = ("cut", "lists")


@dataclass(frozen=True)
class Claim:
    """What is said to be wrong, in a collection and perhaps an index of it."""

    kind: str
    collection: Collection
    index: Index | None
    key: bytes
    number: int

    @property
    def tree(self) -> Tree:
        """The tree that it is about."""
        return self.collection.primary if self.index is None else self.index.tree


def read_claim(value: Value, manifest: Manifest) -> Claim:
    """A claim about what a manifest lists."""
    said, in_collection, in_index, key, number = as_list(value, "claim", 5, 5)
    kind = as_text(said, "kind")
    collection = manifest.collections.get(as_text(in_collection, "collection"))
    name = as_text(in_index, "index")
    if kind not in _NAMES_INDEX or collection is None:
        raise Refused("a claim of an unknown kind, or about no collection")
    named = _NAMES_INDEX[kind]
    if (named is not None and named != bool(name)) or (name and name not in collection.indexes):
        raise Refused("a claim about no index")
    index = collection.indexes[name] if name else None
    most = 0 if kind not in _HAS_NUMBER else MAX_LEVEL if index is None or kind == "cut" else len(index.paths) - 1
    if kind == "unique" and index is not None and not index.unique:
        raise Refused("a claim about an index that is not unique")
    return Claim(kind, collection, index, as_bytes(key, "key", 0, MAX_KEY), as_int(number, "number", 0, most))


# --- The walks ---------------------------------------------------------------------------------------------


def _taken_apart(index: Index, key: bytes) -> tuple[bytes, bytes] | None:
    """What stands in a key before the primary key, and the primary key; nothing if it cannot be taken apart."""
    at = 0
    try:
        for _ in index.paths:
            at = component_end(key, at)
    except Refused:
        return None
    if at == len(key):
        return None
    return key[:at], inverted(key[at:]) if index.paths[-1].descending else key[at:]


def _record_at(source: Source, claim: Claim, key: bytes) -> tuple[bytes, bool] | None:
    """The bytes at a primary key, and whether they are linked."""
    (content,) = walk_values(source, claim.collection.primary, [key])
    if isinstance(content, Cid):
        return source.need([content.digest])[0], True
    return None if content is None else (content, False)


def _entry(source: Source, claim: Claim, index: Index) -> bool:
    (content,) = walk_values(source, index.tree, [claim.key])
    parts = _taken_apart(index, claim.key)
    at = _record_at(source, claim, parts[1]) if parts else None
    given = index_entries(read_record(at[0]), claim.collection.key, index) if at else []
    return content != next((entry.content for entry in given if entry.key == claim.key), None)


def _record(source: Source, claim: Claim) -> bool:
    at = _record_at(source, claim, claim.key)
    if at is None:
        return False
    data, is_linked = at
    if is_linked and len(data) <= MAX_VALUE:
        return True
    record = read_record(data)
    if primary_key(record, claim.collection.key) != claim.key:
        return True
    for index in claim.collection.indexes.values():
        index_entries(record, claim.collection.key, index)  # which an index that cannot hold it refuses
    return False


def _lists(source: Source, claim: Claim, index: Index) -> bool:
    said, records = index.lists[claim.number], claim.collection.primary.count
    if said > records:
        return True
    at = _record_at(source, claim, claim.key)
    if at is None:
        return False
    return said == 0 if _has_list(read_record(at[0]), index, claim.number) else said == records


def _has_list(record: Record, index: Index, number: int) -> bool:
    return meets_condition(record, index.condition) and values_at(record, index.paths[number].path).is_list


def _unique(source: Source, claim: Claim, index: Index) -> bool:
    parts = _taken_apart(index, claim.key)
    if parts is None or any(one.value is None for one in read_key(parts[0])):
        return False
    return walk_count(source, index.tree, Range(parts[0], following(parts[0]))) >= 2


# --- The walk of a cut -------------------------------------------------------------------------------------


class _Step(NamedTuple):
    node: Inner
    at: int


@dataclass(frozen=True)
class _Place:
    """A node, and the way to it."""

    node: Node
    way: tuple[_Step, ...]

    def next_key(self) -> bytes | None:
        """The key behind it on its level."""
        later = [step.node.children[step.at + 1].key for step in self.way if step.at + 1 < len(step.node.children)]
        return later[-1] if later else None

    def has_left(self) -> bool:
        return any(step.at for step in self.way)

    def beside(self, source: Source, backwards: bool) -> "_Place":
        """The node before it or behind it."""
        depth = max(
            i for i, step in enumerate(self.way) if (step.at if backwards else step.at + 1 < len(step.node.children))
        )
        node, at = self.way[depth]
        place = _down(source, self.way[:depth], _Step(node, at - 1 if backwards else at + 1))
        while len(place.way) < len(self.way) and isinstance(place.node, Inner):
            last = len(place.node.children) - 1
            place = _down(source, place.way, _Step(place.node, last if backwards else 0))
        return place


def _down(source: Source, way: tuple[_Step, ...], step: _Step) -> _Place:
    """The node to which a way leads and one step more."""
    (node,) = need_children(source, step.node.level - 1, [step.node.children[step.at]])
    return _Place(node, (*way, step))


def _weights(node: Node) -> list[int]:
    if isinstance(node, Inner):
        return [len(key) + 48 for key in node.keys]
    return [len(key) + (36 if isinstance(content, Cid) else len(content)) + 16 for key, content in node.entries]


def _cut(source: Source, claim: Claim, rule: Rule) -> bool:
    place = _Place(need_root(source, claim.tree), ())
    if place.node.level < claim.number:
        return False
    while isinstance(place.node, Inner) and place.node.level > claim.number:
        step = _Step(place.node, place.node.child_for(claim.key))
        place = _down(source, place.way, step)
    keys, behind = place.node.keys, place.next_key()

    def gap(key: bytes) -> tuple[bytes, bytes]:
        return priority(rule.salt, claim.number, key), key

    if behind is not None and keys[-1] >= behind:
        return True
    if len(keys) >= 2 and sum(_weights(place.node)) > rule.max_weight:
        return True
    around = [*(keys[:1] if place.has_left() else []), *([] if behind is None else [behind])]
    if any(gap(inside) < gap(outside) for inside in keys[1:] for outside in around):
        return True
    if not place.has_left():
        return False
    return _weight_around(source, place, gap, rule.max_weight) <= rule.max_weight


def _weight_around(source: Source, place: _Place, gap: Callable[[bytes], tuple[bytes, bytes]], max_weight: int) -> int:
    """The weight of the run that there would be without the cut before a node; enough of it to exceed MAX."""
    own = gap(place.node.keys[0])
    weight = 0
    for key, more in _items(source, place, lambda behind: gap(behind) >= own):
        if gap(key) < own:
            break
        weight += more
        if weight > max_weight:
            return weight
    while place.has_left():
        place = place.beside(source, backwards=True)
        for key, more in zip(reversed(place.node.keys), reversed(_weights(place.node)), strict=True):
            weight += more
            if weight > max_weight or gap(key) <= own:
                return weight
    return weight


def _items(source: Source, place: _Place, goes_on: Callable[[bytes], bool]) -> Iterator[tuple[bytes, int]]:
    """The keys and weights of a node's items and of those behind it, as long as the next node's first key allows."""
    while True:
        yield from zip(place.node.keys, _weights(place.node), strict=True)
        behind = place.next_key()
        if behind is None or not goes_on(behind):
            return
        place = place.beside(source, backwards=False)


# --- The proof ---------------------------------------------------------------------------------------------


class _Proof(Source):
    """The blocks of a proof, which must be those that are needed, in order."""

    def __init__(self, blocks: Sequence[bytes]) -> None:
        super().__init__()
        self.left = list(blocks)

    def fetch(self, digest: bytes) -> bytes:
        """Get the next block, if it is the one needed."""
        if not self.left or sha256(self.left[0]) != digest:
            raise Lacking("a block that is missing, or not the one needed next")
        return self.left.pop(0)


class Convicted(NamedTuple):
    """The head that a proof convicts, or the two; and the peers who have attested what it disproves."""

    heads: list[Head]
    attesters: list[str]


def judge(blocks: Sequence[bytes]) -> Convicted:
    """Whom a proof convicts. Refuses one that convicts nobody."""
    if not blocks or sum(map(len, blocks)) > MAX_PROOF:
        raise Refused("a proof of no blocks, or of too many bytes")
    names = ("kind", "heads", "claim", "attestations")
    kind, envelopes, said, words = as_fields(decode(blocks[0]), "proof", names)
    if kind != KIND:
        raise Refused("no proof, or one of another version")
    signed = [as_bytes(one, "head") for one in as_list(envelopes, "heads", 1, 2)]
    heads = [read_head(one) for one in signed]
    attested = [read_attestation(as_bytes(one, "attestation")) for one in as_list(words, "attestations", 0, 16)]
    attesters = [one.peer for one in attested]
    if attesters != sorted(set(attesters)):
        raise Refused("attestations not in order of peers")
    if len(heads) == 2:
        if attested or said is not None or len(blocks) != 1 or signed[0] >= signed[1]:
            raise Refused("two heads, and more; or not in order")
        if heads[0].address != heads[1].address or not heads[0].contradicts(heads[1]):
            raise Refused("two heads that do not contradict each other")
        return Convicted(heads, [])
    if len(blocks) < 2 or cid_of(blocks[1]) != heads[0].manifest:
        raise Refused("no manifest of the head")
    manifest = read_manifest(blocks[1])
    claim = read_claim(said, manifest)
    if attested:
        _, collection, index, *_ = as_list(said, "claim")
        wrong = disproven(blocks[1], as_text(collection, "collection"), as_text(index, "index"))
        if claim.kind == "record" or any((one.given, one.tree, one.lists) != wrong for one in attested):
            raise Refused("attestations of what the claim does not disprove")
    proof = _Proof(blocks[2:])
    if not _convicts(proof, claim, manifest.rule) or proof.left:
        raise Refused("a claim that is not so, or blocks that the walk does not need")
    return Convicted(heads, attesters)


def _convicts(proof: _Proof, claim: Claim, rule: Rule) -> bool:
    """Walk the claim. Whatever contradiction is met on the way convicts as well."""
    try:
        return _walk(proof, claim, rule)
    except Lacking as error:
        raise Refused(str(error)) from error
    except Refused:
        return True


def _walk(proof: _Proof, claim: Claim, rule: Rule) -> bool:
    if claim.kind == "path":
        walk_values(proof, claim.tree, [claim.key])
        return False
    if claim.kind == "cut":
        return _cut(proof, claim, rule)
    if claim.index is None:
        return _record(proof, claim)
    walks = {"entry": _entry, "lists": _lists, "unique": _unique}
    return walks[claim.kind](proof, claim, claim.index)


# --- Vectors -----------------------------------------------------------------------------------------------


def _check_proof(_: Vectors, case: Case) -> None:
    blocks = case.hexes("blocks")
    heads, attesters = judge(blocks)
    expect("attesters", attesters, case.texts("attesters"))
    expect("cid", cid_of(blocks[0]), case.cid("cid"))
    expect("address", str(heads[0].address), case.text("address"))
    expect("sequence", heads[0].sequence, case.integer("sequence"))


def _check_not_proof(_: Vectors, case: Case) -> None:
    judge(case.hexes("blocks"))


GROUPS: Final[Groups] = {"proofs": each(_check_proof), "not_proofs": none(_check_not_proof)}
