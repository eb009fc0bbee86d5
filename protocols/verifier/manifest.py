"""manifest/1, the second half: collections, indexes and their entries, and the manifest that lists them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from .conditions import Condition, Junction, comparisons, meets_condition, read_condition
from .dag import (
    MAX_MANIFEST,
    Cid,
    Value,
    as_bytes,
    as_fields,
    as_int,
    as_link,
    as_list,
    as_map,
    cid_of,
    decode,
    encode,
    sha256,
)
from .errors import Mismatch, Refused
from .harness import Case, Groups, Vectors, each, expect, expect_values, none, whole
from .keys import MAX_KEY, component
from .records import (
    Record,
    SortPath,
    is_words,
    primary_key,
    projection,
    read_name,
    read_path,
    read_record,
    read_sort_path,
    read_sort_paths,
    values_at,
    words_of,
)
from .tree import GREATEST_MAX, LEAST_MAX, MAX_SALT, MAX_VALUE, Entry, Rule, Tree, build

MAX_ENTRIES: Final = 1_024
MAX_COLLECTIONS: Final = 256
MAX_INDEXES: Final = 64
MAX_PATHS: Final = 8

# --- Keys and entries --------------------------------------------------------------------------------------


def index_keys(record: Record, key: str, paths: Sequence[SortPath]) -> list[bytes]:
    """The keys of the entries that a record gives to an index."""
    keys = [b""]
    lists = 0
    for path, descending in paths:
        values, is_list = values_at(record, path)
        lists += is_list
        components = {component(value, descending) for value in values}
        if lists > 1 or len(components) > MAX_ENTRIES:
            raise Refused("a record with lists at two of an index's paths, or with too many values at one")
        keys = [before + one for before in keys for one in components]
    own = primary_key(record, key)
    last = component(values_at(record, key).values[0], paths[-1].descending)
    keys = sorted(before + last for before in keys)
    if any(len(one) > MAX_KEY for one in keys) or len(own) > MAX_KEY:
        raise Refused("an index's key of too many bytes")
    return keys


# --- The manifest ------------------------------------------------------------------------------------------


EVERY_RECORD: Final = Junction("and", ())


@dataclass(frozen=True)
class Index:
    """What a manifest says of an index."""

    paths: tuple[SortPath, ...]
    tree: Tree
    lists: tuple[int, ...]
    condition: Condition = EVERY_RECORD
    include: tuple[str, ...] = ()
    unique: bool = False

    def to_value(self) -> object:
        """Its form in the manifest."""
        value: dict[str, object] = {
            "paths": [str(path) for path in self.paths],
            "tree": _tree_value(self.tree),
            "lists": self.lists,
        }
        if not _is_everything(self.condition):
            value["where"] = self.condition.to_value()
        if self.include:
            value["include"] = list(self.include)
        if self.unique:
            value["unique"] = True
        return value


def _is_everything(condition: Condition) -> bool:
    return condition.canonical() == EVERY_RECORD.canonical()


def index_entries(record: Record, key: str, index: Index) -> list[Entry]:
    """The entries that a record gives to an index, by their keys."""
    if not meets_condition(record, index.condition):
        return []
    value = sha256(encode(record))
    if index.include:
        value += encode(projection(record, index.include))
    if len(value) > MAX_VALUE:
        raise Refused("an entry that includes too many bytes")
    return [Entry(one, value) for one in index_keys(record, key, index.paths)]


@dataclass(frozen=True)
class Collection:
    """What a manifest says of a collection."""

    key: str
    time: str | None
    order: tuple[SortPath, ...]
    primary: Tree
    indexes: dict[str, Index]

    def to_value(self) -> object:
        """Its form in the manifest."""
        return {
            "key": self.key,
            "time": self.time,
            "order": [str(path) for path in self.order],
            "primary": _tree_value(self.primary),
            "indexes": {name: index.to_value() for name, index in self.indexes.items()},
        }


@dataclass(frozen=True)
class Manifest:
    """The block that lists a dataset."""

    rule: Rule
    collections: dict[str, Collection]

    def to_value(self) -> object:
        """What the block is the DAG-CBOR of."""
        return {
            "version": 1,
            "rule": {"salt": self.rule.salt, "max_weight": self.rule.max_weight},
            "collections": {name: collection.to_value() for name, collection in self.collections.items()},
        }


def _tree_value(tree: Tree) -> object:
    return [tree.root, tree.count]


def read_manifest(data: bytes) -> Manifest:
    """The manifest that a block is."""
    if len(data) > MAX_MANIFEST:
        raise Refused("a manifest of too many bytes")
    version, rule, collections = as_fields(decode(data), "manifest", ("version", "rule", "collections"))
    as_int(version, "version", 1, 1)
    salt, max_weight = as_fields(rule, "rule", ("salt", "max_weight"))
    named = as_map(collections, "collections")
    if len(named) > MAX_COLLECTIONS:
        raise Refused("too many collections")
    return Manifest(
        Rule(as_bytes(salt, "salt", 0, MAX_SALT), as_int(max_weight, "MAX", LEAST_MAX, GREATEST_MAX)),
        {read_name(name): _read_collection(value) for name, value in named.items()},
    )


def _read_collection(value: Value) -> Collection:
    names = ("key", "time", "order", "primary", "indexes")
    key, time, order, primary, indexes = as_fields(value, "collection", names)
    named = as_map(indexes, "indexes")
    if len(named) > MAX_INDEXES:
        raise Refused("too many indexes")
    return Collection(
        read_path(key),
        None if time is None else read_path(time),
        read_sort_paths(order, 0, MAX_PATHS),
        _read_tree(primary),
        {read_name(name): _read_index(item) for name, item in named.items()},
    )


def _read_index(value: Value) -> Index:
    named = as_map(value, "index")
    more = [name for name in ("where", "include", "unique") if name in named]
    fields = as_fields(value, "index", ("paths", "tree", "lists", *more))
    paths, tree, lists = fields[:3]
    sort_paths = read_sort_paths(paths, 1, MAX_PATHS)
    counts = as_list(lists, "lists", len(sort_paths), len(sort_paths))
    return Index(
        sort_paths,
        _read_tree(tree),
        tuple(as_int(count, "count of lists") for count in counts),
        read_where(named["where"]) if "where" in named else EVERY_RECORD,
        read_include(named["include"]) if "include" in named else (),
        _read_unique(named["unique"]) if "unique" in named else False,
    )


def read_where(value: Value) -> Condition:
    """The condition of an index."""
    condition = read_condition(value)
    if _is_everything(condition) or any(one.path == "time()" for one in comparisons(condition)):
        raise Refused("a condition that an index cannot have")
    return condition


def read_include(value: Value) -> tuple[str, ...]:
    """The paths that an index includes."""
    paths = tuple(read_path(path) for path in as_list(value, "included paths", 1, MAX_PATHS))
    if len(set(paths)) != len(paths) or any(is_words(path) for path in paths):
        raise Refused("one path included twice, or words")
    return paths


def _read_unique(value: Value) -> bool:
    if value is not True:
        raise Refused("unique, but not true")
    return True


def _read_tree(value: Value) -> Tree:
    root, count = as_list(value, "tree", 2, 2)
    return Tree(as_link(root, "root"), as_int(count, "count"))


# --- Publishing --------------------------------------------------------------------------------------------


def publish(rule: Rule, plan: Collection, records: Sequence[Record], store: dict[bytes, bytes]) -> Collection:
    """Build the trees of a collection, of which `plan` says everything but the trees."""
    primary: list[Entry] = []
    for record in records:
        data = encode(record)
        read_record(data)
        if len(data) > MAX_VALUE:
            store[sha256(data)] = data
        primary.append(Entry(primary_key(record, plan.key), cid_of(data) if len(data) > MAX_VALUE else data))
    if len({entry.key for entry in primary}) != len(records):
        raise Refused("two records with one primary key")
    indexes = {name: _publish_index(rule, plan.key, index, records, store) for name, index in plan.indexes.items()}
    return Collection(plan.key, plan.time, plan.order, build(rule, primary, store), indexes)


def _publish_index(rule: Rule, key: str, index: Index, records: Sequence[Record], store: dict[bytes, bytes]) -> Index:
    listed = [record for record in records if meets_condition(record, index.condition)]
    entries = [entry for record in listed for entry in index_entries(record, key, index)]
    lists = tuple(sum(values_at(record, path.path).is_list for record in listed) for path in index.paths)
    return Index(index.paths, build(rule, entries, store), lists, index.condition, index.include, index.unique)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A manifest, and everything that it leads to."""

    cid: Cid
    block: bytes
    manifest: Manifest
    records: list[Record]
    store: dict[bytes, bytes]


def load_dataset(vectors: Vectors) -> Dataset:
    """The dataset of the vectors: its trees built from its records. Other protocols' vectors are about it too."""
    found = _load_dataset(vectors)
    if isinstance(found, str):
        raise Mismatch(f"the dataset of manifest/1: {found}")
    return found


@cache
def _load_dataset(vectors: Vectors) -> Dataset | str:
    """The dataset, or why there is none."""
    case = vectors.group("manifest", "dataset")
    try:
        block = case.hex("manifest")
        records = [_as_record(item) for item in case.items("records")]
        manifest = read_manifest(block)
        expect("collections", len(manifest.collections), 1)
        # The records as blocks of their own, too: whoever has an index needs them by their digests.
        store = {sha256(data): data for data in (block, *(encode(record) for record in records))}
        for shown in manifest.collections.values():
            built = publish(manifest.rule, shown, records, store)
            expect("primary", built.primary, shown.primary)
            for name, index in built.indexes.items():
                expect(name, index, shown.indexes[name])
        expect("manifest", encode(manifest.to_value()), block)
    except (Refused, Mismatch) as error:
        return str(error)
    return Dataset(cid_of(block), block, manifest, records, store)


# --- Vectors -----------------------------------------------------------------------------------------------


def _check_name(_: Vectors, case: Case) -> None:
    read_name(case.as_text())


def _check_path(_: Vectors, case: Case) -> None:
    path = case.as_text()
    read_path(path)
    expect("ascending", read_sort_path(path), SortPath(path, False))
    expect("descending", read_sort_path("-" + path), SortPath(path, True))


def _check_not_path(_: Vectors, case: Case) -> None:
    read_path(case.as_text())


def _check_record(_: Vectors, case: Case) -> None:
    data = case.hex("data")
    read_record(data)
    expect("digest", sha256(data), case.hex("digest"))


def _check_not_record(_: Vectors, case: Case) -> None:
    read_record(case.hex("data"))


def _check_values_at(_: Vectors, case: Case) -> None:
    record = case.value("record")
    for item in case.items("cases"):
        path = item.text("path")
        values, is_list = values_at(record, path)
        expect_values(path, values, item.value("values"))
        expect(f"{path}: a list", is_list, item.flag("list"))


def _as_record(case: Case) -> Record:
    record = case.as_value()
    if not isinstance(record, dict):
        raise Mismatch(f"{case.label}: a record that is no map")
    return record


def _check_primary_key(_: Vectors, case: Case) -> None:
    record, path, shown = _as_record(case.part("record")), case.text("path"), case.hex_or_null("key")
    try:
        found = primary_key(record, path)
    except Refused:
        expect("no primary key", None, shown)
    else:
        expect("primary key", found, shown)


def _check_entries(_: Vectors, case: Case) -> None:
    record, key = _as_record(case.part("record")), case.text("key")
    paths = [read_sort_path(item.as_text()) for item in case.items("paths")]
    shown = case.part("entries")
    try:
        found = index_keys(record, key, paths)
    except Refused:
        expect("no entries", None, shown.json)
        return
    if case.has("digest"):
        # Many entries are shown by their number and the SHA-256 of their keys, one after another.
        expect("number of entries", len(found), shown.as_integer())
        expect("digest of the entries", sha256(b"".join(found)), case.hex("digest"))
    else:
        expect("entries", found, [item.as_hex() for item in shown.items()])


def _check_definition(_: Vectors, case: Case) -> None:
    record, key = _as_record(case.part("record")), case.text("key")
    index = Index(
        tuple(read_sort_path(item.as_text()) for item in case.items("paths")),
        _NO_TREE,
        (),
        read_where(case.value("where")) if case.has("where") else EVERY_RECORD,
        read_include(case.value("include")) if case.has("include") else (),
    )
    shown = case.part("entries")
    try:
        found = index_entries(record, key, index)
    except Refused:
        expect("no entries", None, shown.json)
        return
    pairs = [[part.as_hex() for part in item.items()] for item in shown.items()]
    expect("entries", [[entry.key, entry.content] for entry in found], pairs)


_NO_TREE: Final = Tree(Cid(b""), 0)


def _check_words(_: Vectors, case: Case) -> None:
    found = sorted(words_of(case.text("text")), key=lambda word: word.encode())
    expect("words", found, [item.as_text() for item in case.items("words")])


def _check_manifest(_: Vectors, case: Case) -> None:
    data = case.hex("data")
    expect("cid", cid_of(data), case.cid("cid"))
    expect_values("manifest", decode(data), case.value("manifest"))
    expect("the manifest's block", encode(read_manifest(data).to_value()), data)


def _check_not_manifest(_: Vectors, case: Case) -> None:
    read_manifest(case.hex("data"))


def _check_dataset(vectors: Vectors, case: Case) -> None:
    dataset = load_dataset(vectors)
    records = [_as_record(item) for item in case.items("records")]
    expect("records", len(dataset.records), len(records))
    expect("manifest", dataset.block, case.hex("manifest"))
    expect("cid", dataset.cid, case.cid("cid"))


GROUPS: Final[Groups] = {
    "names": each(_check_name),
    "not_names": none(_check_name),
    "paths": each(_check_path),
    "not_paths": none(_check_not_path),
    "records": each(_check_record),
    "not_records": none(_check_not_record),
    "values_at": each(_check_values_at),
    "primary_keys": each(_check_primary_key),
    "entries": each(_check_entries),
    "definitions": each(_check_definition),
    "words": each(_check_words),
    "manifests": each(_check_manifest),
    "not_manifests": none(_check_not_manifest),
    "dataset": whole(_check_dataset),
}
