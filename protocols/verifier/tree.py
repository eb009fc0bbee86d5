"""tree/1: prolly trees, the gap rule that cuts them, and the walks that read them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias, TypeVar

from .dag import (
    MAX_NODE,
    Cid,
    Value,
    as_bytes,
    as_int,
    as_link,
    as_list,
    cid_of,
    decode,
    encode,
    sha256,
)
from .errors import Refused
from .harness import NOTE, Case, Groups, Vectors, each, expect, none
from .keys import EVERYTHING, MAX_KEY, Range

MAX_VALUE: Final = 2_048
MAX_ITEMS: Final = 2_048
MAX_LEVEL: Final = 31
MAX_SALT: Final = 32
LEAST_MAX: Final = 4_096
GREATEST_MAX: Final = 32_768

# --- Nodes -------------------------------------------------------------------------------------------------

Content: TypeAlias = bytes | Cid


class Entry(NamedTuple):
    """A key of a tree and its value: bytes, or a link."""

    key: bytes
    content: Content


@dataclass(frozen=True)
class Leaf:
    """A node that has entries."""

    entries: tuple[Entry, ...]

    level = 0

    @property
    def keys(self) -> list[bytes]:
        """Its keys."""
        return [entry.key for entry in self.entries]

    @property
    def count(self) -> int:
        """How many entries it has."""
        return len(self.entries)

    def to_value(self) -> object:
        """What its chunk is the DAG-CBOR of."""
        return [0, self.keys, [entry.content for entry in self.entries]]


class Child(NamedTuple):
    """What an inner node says of a node below it."""

    key: bytes
    link: Cid
    entries: int


@dataclass(frozen=True)
class Inner:
    """A node that has children."""

    level: int
    children: tuple[Child, ...]

    @property
    def keys(self) -> list[bytes]:
        """The first keys of its children."""
        return [child.key for child in self.children]

    @property
    def count(self) -> int:
        """How many entries there are below it."""
        return sum(child.entries for child in self.children)

    def to_value(self) -> object:
        """What its chunk is the DAG-CBOR of."""
        links, counts = [child.link for child in self.children], [child.entries for child in self.children]
        return [self.level, self.keys, links, counts]

    def children_in(self, wanted: Range) -> list[Child]:
        """The children that may hold keys of a range."""
        first = self.child_for(wanted.low)
        behind = len(self.children)
        if wanted.high is not None:
            behind = next((i for i, child in enumerate(self.children) if child.key >= wanted.high), behind)
        return list(self.children[first:behind])

    def child_for(self, key: bytes) -> int:
        """Where the last child stands whose key is at most this one; the first child, if there is none."""
        return max((i for i, child in enumerate(self.children) if child.key <= key), default=0)


Node: TypeAlias = Leaf | Inner


def read_node(data: bytes) -> Node:
    """The node that a chunk holds, with all that can be told from the chunk alone."""
    if len(data) > MAX_NODE:
        raise Refused("a chunk of too many bytes")
    parts = as_list(decode(data), "node", 1, 4)
    level = as_int(parts[0], "level", 0, MAX_LEVEL)
    if len(parts) != (4 if level else 3):
        raise Refused("a node with too many parts, or too few")
    keys = [as_bytes(key, "key", 0, MAX_KEY) for key in as_list(parts[1], "keys", 0, MAX_ITEMS)]
    if any(later <= earlier for earlier, later in pairwise(keys)):
        raise Refused("keys that do not increase")
    seconds = as_list(parts[2], "values or links", 1 if level else 0, MAX_ITEMS)
    if len(seconds) != len(keys):
        raise Refused("lists of unequal lengths")
    if not level:
        return Leaf(tuple(Entry(key, read_content(value)) for key, value in zip(keys, seconds, strict=True)))
    links = [as_link(link, "child") for link in seconds]
    counts = [as_int(count, "count", 1) for count in as_list(parts[3], "counts", len(keys), len(keys))]
    return Inner(level, tuple(Child(*items) for items in zip(keys, links, counts, strict=True)))


def read_content(value: Value) -> Content:
    """The value of an entry."""
    return value if isinstance(value, Cid) else as_bytes(value, "value", 0, MAX_VALUE)


# --- Cutting -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """The salt and the MAX of the gap rule."""

    salt: bytes
    max_weight: int


def priority(salt: bytes, level: int, key: bytes) -> bytes:
    """The priority of the gap before an item."""
    return sha256(salt + bytes([level]) + key)[:8]


def cut_before(rule: Rule, level: int, keys: Sequence[bytes], weights: Sequence[int]) -> list[int]:
    """The items of a level before which it is cut, found in one pass with a stack."""
    sums = [0]
    for weight in weights:
        sums.append(sums[-1] + weight)
    # Of equal priorities the earlier item's is the lower.
    gaps = [(priority(rule.salt, level, key), position) for position, key in enumerate(keys)]
    stack: list[int] = []
    found: list[int] = []

    def take_off(end: int) -> None:
        gap = stack.pop()
        begin = stack[-1] if stack else 0
        if sums[end] - sums[begin] > rule.max_weight:
            found.append(gap)

    for item in range(1, len(keys)):
        while stack and gaps[stack[-1]] > gaps[item]:
            take_off(item)
        stack.append(item)
    while stack:
        take_off(len(keys))
    return sorted(found)


def cut_before_by_the_rule(rule: Rule, level: int, keys: Sequence[bytes], weights: Sequence[int]) -> list[int]:
    """The same as the rule says it: runs that are too heavy, each cut at its lowest gap."""
    found: list[int] = []
    runs = [(0, len(keys))]
    while runs:
        begin, end = runs.pop()
        if sum(weights[begin:end]) > rule.max_weight and end - begin >= 2:
            cut = min(range(begin + 1, end), key=lambda item: (priority(rule.salt, level, keys[item]), item))
            found.append(cut)
            runs += [(begin, cut), (cut, end)]
    return sorted(found)


_Item = TypeVar("_Item", Entry, Child)


@dataclass(frozen=True)
class Tree:
    """A tree as a manifest names it: its root, and how many entries it is said to have."""

    root: Cid
    count: int


def build(rule: Rule, entries: Iterable[Entry], store: dict[bytes, bytes]) -> Tree:
    """Build the tree of some entries, and keep its blocks by their digests."""
    items = sorted(entries)
    weights = [len(entry.key) + _weight(entry.content) + 16 for entry in items]
    nodes: list[Node] = [Leaf(tuple(run)) for run in _runs(rule, 0, items, weights)]
    while True:
        children = [Child(node.keys[0] if node.keys else b"", _keep(node, store), node.count) for node in nodes]
        if len(children) == 1:
            return Tree(children[0].link, children[0].entries)
        level = nodes[0].level + 1
        weights = [len(child.key) + 48 for child in children]
        nodes = [Inner(level, tuple(run)) for run in _runs(rule, level, children, weights)]


def _weight(content: Content) -> int:
    return 36 if isinstance(content, Cid) else len(content)


def _runs(rule: Rule, level: int, items: list[_Item], weights: list[int]) -> list[list[_Item]]:
    cuts: list[int] = cut_before(rule, level, [item.key for item in items], weights)
    return [items[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(items)], strict=True)]


def _keep(node: Node, store: dict[bytes, bytes]) -> Cid:
    data = encode(node.to_value())
    cid = cid_of(data)
    store[cid.digest] = data
    return cid


# --- Sources: where a walk gets what it needs -----------------------------------------------------------------


class Lacking(Exception):
    """A source has not the block that is needed next."""


class Source:
    """Gives blocks by their digests, and knows which have been needed, in order, each once."""

    def __init__(self) -> None:
        self._seen: dict[bytes, bytes] = {}

    @property
    def blocks(self) -> list[bytes]:
        """The blocks that have been needed."""
        return list(self._seen.values())

    @property
    def digests(self) -> list[bytes]:
        """Their digests."""
        return list(self._seen)

    def need(self, digests: Iterable[bytes]) -> list[bytes]:
        """Blocks that are needed at once, in order."""
        return [self._need(digest) for digest in digests]

    def _need(self, digest: bytes) -> bytes:
        if digest not in self._seen:
            data = self.fetch(digest)
            if sha256(data) != digest:
                raise Refused("a block that is not the one needed next")
            self._seen[digest] = data
        return self._seen[digest]

    def fetch(self, digest: bytes) -> bytes:
        """Get a block that has not been needed before, or raise `Lacking`."""
        raise NotImplementedError


class Store(Source):
    """Blocks kept by their digests."""

    def __init__(self, kept: dict[bytes, bytes]) -> None:
        super().__init__()
        self._kept = kept

    def fetch(self, digest: bytes) -> bytes:
        """Get a block that is kept."""
        if digest not in self._kept:
            raise Lacking(f"no block {Cid(digest)}")
        return self._kept[digest]


# --- Walks -------------------------------------------------------------------------------------------------


def need_root(source: Source, tree: Tree) -> Node:
    """The root of a tree, checked."""
    node = read_node(source.need([tree.root.digest])[0])
    if node.count != tree.count:
        raise Refused("a root whose count is not the tree's")
    if isinstance(node, Inner) and len(node.children) < 2:
        raise Refused("a root with a single child")
    return node


def need_children(source: Source, level: int, children: Sequence[Child]) -> list[Node]:
    """Nodes of one level that are needed at once, checked against what their parents say of them."""
    nodes = [read_node(data) for data in source.need(child.link.digest for child in children)]
    for node, child in zip(nodes, children, strict=True):
        if node.level != level or node.count != child.entries or node.keys[:1] != [child.key]:
            raise Refused("a node that is not what its parent says")
    return nodes


def walk_entries(source: Source, tree: Tree, wanted: Range, reverse: bool) -> Iterator[list[Entry]]:
    """The entries of a range, leaf by leaf."""
    if not wanted.is_empty() and tree.count:
        yield from _walk_below(source, need_root(source, tree), wanted, reverse)


def _walk_below(source: Source, node: Node, wanted: Range, reverse: bool) -> Iterator[list[Entry]]:
    if isinstance(node, Leaf):
        entries = [entry for entry in node.entries if wanted.holds(entry.key)]
        yield entries[::-1] if reverse else entries
        return
    children = node.children_in(wanted)
    for child in reversed(children) if reverse else children:
        (below,) = need_children(source, node.level - 1, [child])
        yield from _walk_below(source, below, wanted, reverse)


def walk_count(source: Source, tree: Tree, wanted: Range) -> int:
    """The count of a range."""
    if wanted == EVERYTHING:
        return tree.count
    if wanted.is_empty() or not tree.count:
        return 0
    total = 0
    nodes = [need_root(source, tree)]
    while nodes:
        needed: list[Child] = []
        for node in nodes:
            if isinstance(node, Leaf):
                total += sum(wanted.holds(key) for key in node.keys)
                continue
            for child in node.children_in(wanted):
                if _is_within(node, child, wanted):
                    total += child.entries
                else:
                    needed.append(child)
        nodes = need_children(source, nodes[0].level - 1, needed)
    return total


def _is_within(node: Inner, child: Child, wanted: Range) -> bool:
    """Whether a child's entries are all certain to lie in the range."""
    if child.key < wanted.low:
        return False
    later = node.children[node.children.index(child) + 1 :]
    return wanted.high is None or (bool(later) and later[0].key <= wanted.high)


def walk_values(source: Source, tree: Tree, keys: Sequence[bytes]) -> list[Content | None]:
    """The values of keys, which are sorted; null of those that are not in the tree.

    Unlike a range's walk this one needs the root even of a tree that has no entries: so the vectors show.
    """
    found: dict[bytes, Content] = {}
    nodes: list[tuple[Node, list[bytes]]] = [(need_root(source, tree), list(keys))] if keys else []
    while nodes:
        needed: dict[Child, list[bytes]] = {}
        for node, wanted in nodes:
            if isinstance(node, Leaf):
                found.update(dict(node.entries))
                continue
            for key in wanted:
                needed.setdefault(node.children[node.child_for(key)], []).append(key)
        below = need_children(source, nodes[0][0].level - 1, list(needed))
        nodes = list(zip(below, needed.values(), strict=True))
    return [found.get(key) for key in keys]


# --- Vectors -----------------------------------------------------------------------------------------------


def _rule(case: Case) -> Rule:
    return Rule(case.hex("salt"), case.integer("max_weight"))


def entries_of(count: int) -> list[Entry]:
    """The entries of the vectors' trees, as their note "entries" says."""
    found: dict[bytes, Content] = {}
    for i in range(count):
        key = sha256(str(i).encode("ascii"))[: 4 + i % 29]
        found[key] = sha256(key) * (1 + key[0] % 3)
    return sorted(Entry(key, content) for key, content in found.items())


@cache
def _built(rule: Rule, entries: int) -> tuple[Tree, dict[bytes, bytes]]:
    store: dict[bytes, bytes] = {}
    return build(rule, entries_of(entries), store), store


def _check_priority(_: Vectors, case: Case) -> None:
    found = priority(case.hex("salt"), case.integer("level"), case.hex("key"))
    expect("priority", found, case.hex("priority"))


def _check_cuts(_: Vectors, case: Case) -> None:
    rule, level, keys = _rule(case), case.integer("level"), case.hexes("keys")
    weights = [item.as_integer() for item in case.items("weights")]
    shown = [item.as_integer() for item in case.items("cuts")]
    expect("cuts by the rule", cut_before_by_the_rule(rule, level, keys, weights), shown)
    expect("cuts in one pass", cut_before(rule, level, keys, weights), shown)


def _check_tree(_: Vectors, case: Case) -> None:
    rule, entries = _rule(case), case.integer("entries")
    tree, store = _built(rule, entries)
    expect("root", tree.root, case.cid("root"))
    expect("count", tree.count, case.integer("count"))
    found = [entry for leaf in walk_entries(Store(store), tree, EVERYTHING, reverse=False) for entry in leaf]
    expect("entries", found, entries_of(entries))


def _check_chunk(_: Vectors, case: Case) -> None:
    data = case.hex("data")
    node = read_node(data)
    expect("cid", cid_of(data), case.cid("cid"))
    expect("the node's chunk", encode(node.to_value()), data)
    expect("level", node.level, case.integer("level"))
    expect("keys", node.keys, case.hexes("keys"))
    if isinstance(node, Leaf):
        expect("values", [bytes(entry.content) for entry in node.entries], case.hexes("values"))
    else:
        # The links of an inner node are shown as its "values", each by the 36 bytes of its CID.
        expect("links", [bytes(child.link) for child in node.children], case.hexes("values"))
        counts = [item.as_integer() for item in case.items("counts")]
        expect("counts", [child.entries for child in node.children], counts)


def _check_not_chunk(_: Vectors, case: Case) -> None:
    read_node(case.hex("data"))


def _check_not_tree(_: Vectors, case: Case) -> None:
    tree = Tree(case.cid("root"), case.integer("count"))
    blocks = {sha256(data): data for data in case.hexes("blocks")}
    for _leaf in walk_entries(Store(blocks), tree, EVERYTHING, reverse=False):
        pass


def _check_walk(_: Vectors, case: Case) -> None:
    tree, store = _built(_rule(case), case.integer("entries"))
    source = Store(store)
    kind = case.text("walk")
    if kind == "values":
        keys = case.hexes("keys")
        shown = [None if item.is_null() else item.as_hex() for item in case.items("values")]
        expect("values", walk_values(source, tree, keys), shown)
    else:
        wanted = Range(case.hex("low"), case.hex_or_null("high"))
        inside = [entry for entry in entries_of(case.integer("entries")) if wanted.holds(entry.key)]
        expect("entries in the range", len(inside), case.integer("count"))
        if kind == "count":
            expect("count", walk_count(source, tree, wanted), len(inside))
        else:
            expect("kind of walk", kind, "entries")
            reverse = case.flag("reverse")
            found = [entry for leaf in walk_entries(source, tree, wanted, reverse) for entry in leaf]
            expect("entries", found, inside[::-1] if reverse else inside)
    expect("needs", [str(Cid(digest)) for digest in source.digests], [item.as_text() for item in case.items("needs")])


GROUPS: Final[Groups] = {
    "entries": NOTE,
    "priorities": each(_check_priority),
    "cuts": each(_check_cuts),
    "trees": each(_check_tree),
    "chunks": each(_check_chunk),
    "not_chunks": none(_check_not_chunk),
    "not_trees": none(_check_not_tree),
    "walks": each(_check_walk),
}
