"""Vectors of the formats: blocks, keys, trees, manifests."""

from __future__ import annotations

import random
from hashlib import sha256
from typing import Any

from pyrsistent import pmap

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of, format_cid
from rhizome_index.errors import UsageError
from rhizome_index.index.condition import EVERYTHING, encode_expr
from rhizome_index.index.entries import entry_maker
from rhizome_index.index.keys import encode_component, encode_key, interval, successor
from rhizome_index.index.manifest import Manifest, encode_manifest
from rhizome_index.index.record import encode_record, parse_path, values_at
from rhizome_index.index.schema import Definition, primary_key
from rhizome_index.index.words import words_of
from rhizome_index.query.parse import parse_index
from rhizome_index.tree.boundary import Rule, find_cuts
from rhizome_index.tree.build import build
from rhizome_index.tree.cursor import Cursor, Span, count, get_many
from rhizome_index.tree.node import decode_node, encode_inner, encode_leaf
from tests.properties.records import SCALARS
from tests.protocols.dag_json import to_dag_json
from tests.protocols.dataset import MANIFEST, RECORDS

Vectors = dict[str, Any]

# --- block/1 ---

VALUES: list[Any] = [
    *SCALARS, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1, -(2**64), -24, -25,
    1.5, -1e-300, [], {}, [[], [[]]], {"b": 1, "a": [True, None], "aa": {"": 0}}, {"é": 1, "zz": 2, "~": 3},
    cbor.Link(cid_of(b"")), {"link": cbor.Link(cid_of(b"a")), "bytes": cid_of(b"a")},
]  # fmt: skip

NOT_CANONICAL = {
    "nothing": "",
    "bytes behind the value": "0000",
    "an integer in a longer form": "1800",
    "an integer in a longer form, 8 bytes": "1b0000000000000001",
    "a length in a longer form": "780161",
    "a float of 16 bits": "f93c00",
    "a float of 32 bits": "fa3f800000",
    "negative zero": "fb8000000000000000",
    "not a number": "fb7ff8000000000000",
    "infinity": "fb7ff0000000000000",
    "undefined": "f7",
    "another simple value": "f0",
    "a simple value of two bytes": "f820",
    "keys in the order of their bytes, not of their lengths first": "a26261610161620 2".replace(" ", ""),
    "keys out of order": "a2616201616102",
    "a key given twice": "a2616101616102",
    "a key that is no text": "a10102",
    "a key of bytes": "a1416101",
    "text that is not UTF-8": "62c328",
    "half a surrogate pair": "63eda080",
    "a list of indefinite length": "9f01ff",
    "a map of indefinite length": "bf616101ff",
    "text of indefinite length": "7f6161ff",
    "bytes of indefinite length": "5f4161ff",
    "a list that ends too early": "8201",
    "text that ends too early": "6361",
    "a tag that is not 42": "c000",
    "a big number": "c249010000000000000000",
    "a tag 42 around text": "d82a6161",
    "a link without its leading zero": "d82a5824" + cid_of(b"").hex(),
    "a link in a longer form": "d9002a582500" + cid_of(b"").hex(),
    "a link of another version": "d82a58250002711220" + sha256(b"").hexdigest(),
    "a link of another codec": "d82a58250001551220" + sha256(b"").hexdigest(),
    "a link with another hash": "d82a5825000171 1b20".replace(" ", "") + sha256(b"").hexdigest(),
    "a link that is too short": "d82a582400" + cid_of(b"").hex()[:-2],
    "a break alone": "ff",
    "a reserved length": "1c",
}

NOT_NAMES = [
    "",
    "bafyrei",
    format_cid(cid_of(b""))[:-1],
    format_cid(cid_of(b"")) + "a",
    format_cid(cid_of(b"")).upper(),
    format_cid(cid_of(b"")).replace("h", "H", 1),
    format_cid(cid_of(b""))[:-1] + "v",  # with bits left over
    f"f{cid_of(b'').hex()}",  # base16
    "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",  # raw
    "QmY7Yh4UquoXHLPFo2XbhXkhBvFoPwmQUSa92pxnxjQuPU",  # version 0
    "baguqeerasords4njcts6vs7qvdjfcvgnume4hqohf65zsfguprqphs3icwea",  # dag-json
]


def block_vectors() -> Vectors:
    blocks = [b"", b"\x80", cbor.encode(VALUES[-1])]
    return {
        "names": [{"data": data.hex(), "cid": cid_of(data).hex(), "text": format_cid(cid_of(data))} for data in blocks],
        "not_names": NOT_NAMES,
        "values": [{"value": to_dag_json(value), "data": cbor.encode(value).hex()} for value in VALUES],
        "not_canonical": [{"name": name, "data": data} for name, data in NOT_CANONICAL.items()],
    }


# --- keys/1 ---

NUMBERS: list[Any] = [
    -1e308, -(2.0**63) * 2, -(2**63), -(2**63) + 1, -(2**53) - 2, -(2**53) - 1, -(2**53), -(2**53) + 1, -1.5, -1,
    -5e-324, 0, 5e-324, 0.5, 1, 1.5, 255, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**63 - 1025, 2**63 - 1, 2.0**63,
    1e308,
]  # fmt: skip
IN_ORDER: list[Any] = [
    None, False, True, *NUMBERS,
    "", "\0", "\0\0", "\0\1", "\1", "a", "a\0", "a\0b", "a\1", "ab", "b", "é", "\uffff", "\U0001f600",
    b"", b"\0", b"\0\0", b"\0\1", b"\0\xff", b"a", b"\xff", [], [None], {}, {"a": 1},
]  # fmt: skip

NOT_KEYS = {
    "an unknown type": "11",
    "a type that nothing has, descending": "80",
    "a number that ends too early": "20bff000000000",
    "a number without its rest": "20c340000000000000",
    "a number with half of its rest": "20c34000000000000000",
    "a rest that belongs to the next number": "20c3400000000000000002",
    "not a number": "20fff8000000000000",
    "infinity": "20fff0000000000000",
    "negative zero": "207fffffffffffffff",
    "text without an end": "3061",
    "text that ends with one byte": "306100",
    "text with an escape that is none": "3061000261 0001".replace(" ", ""),
    "text that is not UTF-8": "30c3280001",
    "a list that is text": "4861610001".replace("486161", "486161"),
    "a list that is not canonical": "489f00ffff0001",
    "bytes descending, with an end that is ascending": "c79e0001",
}


def keys_vectors() -> Vectors:
    components = [
        {"value": to_dag_json(value), "descending": flag, "key": encode_component(value, descending=flag).hex()}
        for value in IN_ORDER
        for flag in (False, True)
    ]
    tuples: list[tuple[list[Any], list[bool]]] = [
        ([], []),
        (["cats", 1700000000000, "p1"], [False, True, True]),
        (["a\0", b"\0", 2**53 + 1], [True, True, True]),
        ([None, True, [1, "a"]], [True, False, True]),
    ]
    ranges = []
    conditions: list[list[tuple[str, Any]]] = [
        [(operator, value)] for operator in ("=", "<", "<=", ">", ">=") for value in (None, True, False, 7, "a\0", b"")
    ]
    conditions += [[("starts with", "")], [("starts with", "a\0")], [(">", 1), ("<=", 5.5)], [(">=", "a"), ("<", 3)]]
    conditions += [[("starts with", "ab"), (">", "abc")], [("<", 5), (">", 6)]]
    for tests in conditions:
        met = interval(*tests[0])
        for test in tests[1:]:
            met = met.intersect(interval(*test))
        for prefix in (b"", encode_component("cats")):
            for descending in (False, True):
                low, high = met.bounds(prefix, descending=descending)
                case = {"conditions": to_dag_json(tests), "prefix": prefix.hex(), "descending": descending}
                ranges.append({**case, "low": low.hex(), "high": high.hex()})
    return {
        "in_order": [to_dag_json(value) for value in IN_ORDER],
        "components": components,
        "keys": [
            {"values": to_dag_json(values), "descending": flags, "key": encode_key(values, flags).hex()}
            for values, flags in tuples
        ],
        "not_keys": [{"name": name, "key": key} for name, key in NOT_KEYS.items()],
        "next": [{"prefix": key.hex(), "next": successor(key).hex()} for key in (b"a", b"a\xff", b"\0\xff\xff")],
        "ranges": ranges,
    }


# --- tree/1 ---

RULES = [Rule(b"", 4096), Rule(b"salt", 4096), Rule(bytes(range(32)), 8192)]


def entries_of(size: int) -> list[tuple[bytes, bytes]]:
    """The entries of a made-up tree; vectors describe them by their number."""
    keys = sorted(sha256(b"%d" % number).digest()[: 4 + number % 29] for number in range(size))
    return [(key, sha256(key).digest() * (1 + key[0] % 3)) for key in dict.fromkeys(keys)]


def tree_vectors() -> Vectors:
    trees, walks = [], []
    chunks: dict[str, bytes] = {}
    for rule in RULES:
        for size in (0, 1, 40, 400, 5000):
            blocks: dict[bytes, bytes] = {}
            tree = build(rule, entries_of(size), blocks.__setitem__)
            made = {"salt": rule.salt.hex(), "max_weight": rule.max_weight, "entries": size}
            trees.append({**made, "root": format_cid(tree.root), "count": tree.count})
            if rule is RULES[1] and size != 400:
                walks += [{**made, **walk} for walk in walks_of(tree, blocks, size)]
            if size == 400:
                chunks |= {format_cid(cid): data for cid, data in blocks.items() if len(chunks) < 2 or cid == tree.root}
    return {
        "entries": "entry i of a tree of n: key: the first 4 + i mod 29 bytes of SHA-256(i in decimal digits); "
        "value: SHA-256(key), repeated 1 + (first byte of key) mod 3 times; of equal keys one; sorted",
        "priorities": [
            {
                "salt": rule.salt.hex(),
                "level": level,
                "key": key.hex(),
                "priority": rule.priorities(level, [key])[0].hex(),
            }
            for rule in RULES
            for level in (0, 3)
            for key in (b"", b"key")
        ],
        "cuts": cuts(),
        "trees": trees,
        "chunks": [shown(cid, data) for cid, data in chunks.items()],
        "not_chunks": not_chunks(),
        "not_trees": not_trees(),
        "walks": walks,
    }


def cuts() -> list[Vectors]:
    random_ = random.Random(5)
    found = []
    for rule, weights in (
        (RULES[0], [4096] * 5),
        (RULES[0], [4097] * 5),
        (RULES[1], [2048] * 9),
        (RULES[1], [random_.randrange(16, 3000) for _ in range(60)]),
        (RULES[2], [random_.randrange(16, 900) for _ in range(150)]),
    ):
        keys = [b"%04d" % number for number in range(len(weights))]
        for level in (0, 1):
            positions = find_cuts(rule.priorities(level, keys), weights, rule.max_weight, before=False).positions
            made = {"salt": rule.salt.hex(), "max_weight": rule.max_weight, "level": level}
            found.append({**made, "keys": [key.hex() for key in keys], "weights": weights, "cuts": positions})
    return found


def walks_of(tree: Any, blocks: dict[bytes, bytes], size: int) -> list[Vectors]:
    keys = [key for key, _ in entries_of(size)] or [b"x"]
    some = [None, keys[0], keys[len(keys) // 3], keys[-1], keys[-1] + b"\0"]
    found: list[Vectors] = []
    for low in some:
        for high in some:
            span = Span(low or b"", high)
            shown_span = {"low": span.low.hex(), "high": None if high is None else high.hex()}
            needs: list[str] = []
            total = drive(count(tree, span), blocks, needs)
            found.append({"walk": "count", **shown_span, "needs": needs, "count": total})
            for reverse in (False, True):
                needs = []
                total = len(drive(read_all(Cursor(tree, span, reverse=reverse)), blocks, needs))
                if len(needs) < 12:
                    found.append({"walk": "entries", **shown_span, "reverse": reverse, "needs": needs, "count": total})
    wanted = sorted({*keys[:: max(1, len(keys) // 7)], b"", keys[0] + b"\0", b"\xff"})
    needs = []
    values = drive(get_many(tree, wanted), blocks, needs)
    held = [None if value is None else value.hex() for value in values]
    found.append({"walk": "values", "keys": [key.hex() for key in wanted], "needs": needs, "values": held})
    return found


def read_all(cursor: Cursor) -> Any:
    keys: list[bytes] = []
    while (found := (yield from cursor.next_entries())) is not None:
        keys += found[0]
    return keys


def drive(walk: Any, blocks: dict[bytes, bytes], needs: list[str]) -> Any:
    reply = None
    while True:
        try:
            need = walk.send(reply)
        except StopIteration as stop:
            return stop.value
        needs += map(format_cid, need.cids)
        reply = [decode_node(blocks[cid]) for cid in need.cids]


def shown(cid: str, data: bytes) -> Vectors:
    level, keys, values, *counts = cbor.decode(data)
    node = {"level": level, "keys": [key.hex() for key in keys], "values": [bytes(value).hex() for value in values]}
    return {"cid": cid, "data": data.hex(), **node, **({"counts": counts[0]} if counts else {})}


def not_chunks() -> list[Vectors]:
    link = cbor.Link(cid_of(b""))
    cases: dict[str, Any] = {
        "not a list": {},
        "an empty list": [],
        "a leaf of four parts": [0, [], [], []],
        "an inner node of three parts": [1, [b"a"], [link]],
        "an inner node without children": [1, [], [], []],
        "a negative level": [-1, [b"a"], [link], [1]],
        "a level that is too high": [32, [b"a"], [link], [1]],
        "a level that is a float": [1.0, [b"a"], [link], [1]],
        "more keys than values": [0, [b"a", b"b"], [b""]],
        "more values than keys": [0, [b"a"], [b"", b""]],
        "a key that is text": [0, ["a"], [b""]],
        "a value that is text": [0, [b"a"], [""]],
        "a value that is null": [0, [b"a"], [None]],
        "keys in falling order": [0, [b"b", b"a"], [b"", b""]],
        "a key given twice": [0, [b"a", b"a"], [b"", b""]],
        "a key that is too long": [0, [b"a" * 1025], [b""]],
        "a value that is too long": [0, [b"a"], [b"a" * 2049]],
        "a child that is plain bytes": [1, [b"a"], [cid_of(b"")], [1]],
        "a child without a count": [1, [b"a", b"b"], [link, link], [1]],
        "a count of zero": [1, [b"a"], [link], [0]],
        "a count that is a float": [1, [b"a"], [link], [1.0]],
        "a count that is true": [1, [b"a"], [link], [True]],
        "keys of an inner node out of order": [1, [b"b", b"a"], [link, link], [1, 1]],
        "too many entries": [0, [b"%04d" % number for number in range(2049)], [b""] * 2049],
    }
    found = [{"name": name, "data": cbor.encode(value).hex()} for name, value in cases.items()]
    return [*found, {"name": "bytes behind the node", "data": (cbor.encode([0, [], []]) + b"\0").hex()}]


def not_trees() -> list[Vectors]:
    """Trees whose every chunk is sound, but not what its parent, or the manifest, says of it."""
    left, right = encode_leaf([b"a", b"b"], [b"1", b"2"]), encode_leaf([b"c"], [b"3"])
    one, two = cid_of(left), cid_of(right)
    middle = encode_inner(1, [b"a", b"c"], [one, two], [2, 1])
    cases: dict[str, tuple[bytes, int, list[bytes]]] = {
        "a count that the tree does not have": (middle, 4, [middle, left, right]),
        "a child with another count": (encode_inner(1, [b"a", b"c"], [one, two], [1, 2]), 3, [left, right]),
        "a child with another first key": (encode_inner(1, [b"a", b"bb"], [one, two], [2, 1]), 3, [left, right]),
        "a child of another level": (encode_inner(2, [b"a", b"c"], [one, two], [2, 1]), 3, [left, right]),
        "an inner node as a leaf": (
            encode_inner(1, [b"a", b"d"], [cid_of(middle), two], [3, 1]),
            4,
            [middle, left, right],
        ),
        "a root with a single child": (encode_inner(1, [b"a"], [one], [2]), 2, [left]),
        "an empty child": (
            encode_inner(1, [b"a", b"c"], [one, cid_of(encode_leaf([], []))], [2, 1]),
            3,
            [left, encode_leaf([], [])],
        ),
    }
    return [
        {
            "name": name,
            "root": format_cid(cid_of(root)),
            "count": total,
            "blocks": [block.hex() for block in [root, *rest]],
        }
        for name, (root, total, rest) in cases.items()
    ]


# --- manifest/1 ---

NAMES = ["a", "0", "posts", "by_tag", "a.b-c_d", "a" * 64]
NOT_NAMES_OF_INDEXES = ["", "A", "_a", "-a", ".a", "a b", "é", "a/b", "a" * 65, "a\n"]
PATHS = ["words(a.b)", "words", "a)", "a", "a.b", "tags", "A b", "é", "0", "a-b", "a" * 256]
NOT_PATHS = [
    "words()",
    "words(words(a))",
    "words(a..b)",
    "words(-a)",
    "time()",
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "-a",
    "a" * 257,
]

NOT_RECORDS: dict[str, Any] = {
    "a list": [],
    "text": "a",
    "an integer beyond 64 bits": {"a": 2**63},
    "an integer below 64 bits": {"a": [-(2**63) - 1]},
    "a link": {"a": cbor.Link(cid_of(b""))},
}


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def manifest_vectors() -> Vectors:
    not_records = [{"name": name, "data": cbor.encode(value).hex()} for name, value in NOT_RECORDS.items()]
    not_records.append({"name": "34 levels", "data": cbor.encode(nested(34)).hex()})
    sound = [RECORDS[0], {}, {"a": 2**63 - 1, "b": -(2**63)}, nested(33)]
    return {
        "names": NAMES,
        "not_names": NOT_NAMES_OF_INDEXES,
        "paths": PATHS,
        "not_paths": NOT_PATHS,
        "records": [
            {"data": encode_record(record).hex(), "digest": sha256(encode_record(record)).hexdigest()}
            for record in sound
        ],
        "not_records": not_records,
        "values_at": values_cases(),
        "primary_keys": primary_key_cases(),
        "entries": entries_cases(),
        "definitions": definition_cases(),
        "words": words_cases(),
        "manifests": manifest_cases(),
        "not_manifests": not_manifests(),
        "dataset": dataset_case(),
    }


def values_cases() -> list[Vectors]:
    record = {
        "a": {"b": [1, [2], {"c": 3}], "n": None},
        "l": [{"x": 1}, {"x": [2, 3]}, {"y": 4}, 5, [{"x": 6}], None],
        "e": [],
        "s": "text",
        "a.b": "a name with a dot is never met",
    }
    found = []
    for path in [
        "a",
        "a.b",
        "a.b.c",
        "a.n",
        "a.n.x",
        "a.zz",
        "zz",
        "zz.a",
        "l",
        "l.x",
        "l.x.y",
        "l.y",
        "e",
        "e.x",
        "s.x",
    ]:
        values, is_list = values_at(record, parse_path(path))
        found.append({"path": path, "values": to_dag_json(values), "list": is_list})
    return [{"record": to_dag_json(record), "cases": found}]


def primary_key_cases() -> list[Vectors]:
    found = []
    for key in ["a", "", 1, 1.0, b"a", None, True, [], ["a"], {}, "a" * 1021, "a" * 1022]:
        try:
            encoded = primary_key({"id": key}, ("id",)).hex()
        except UsageError:
            encoded = None
        found.append({"record": to_dag_json({"id": key}), "path": "id", "key": encoded})
    return found


def entries_cases() -> list[Vectors]:
    records: list[Any] = [
        {"id": "p", "tags": ["b", "a", "b"], "n": 1},
        {"id": "p", "tags": [], "n": 1},
        {"id": "p", "tags": "a"},
        {"id": 7, "tags": ["a", "b"], "n": [1]},
        {"id": "p", "tags": [1, 1.0, True, None, [1]], "n": {"x": 1}},
        {"id": "p", "tags": "a" * 1100},
        {"id": "p", "tags": list(range(1024))},
        {"id": "p", "tags": list(range(1025))},
    ]
    found = []
    for record in records:
        for paths in (["tags", "-n"], ["-tags"], ["n", "tags"], ["n"]):
            case = {"record": to_dag_json(record), "key": "id", "paths": paths}
            try:
                ((keys, _, _),) = entry_maker([("x", Definition.over(*paths))])(record, primary_key(record, ("id",)))
                entries = sorted(keys)
                if len(entries) > 1000:
                    digest = sha256(b"".join(entries)).hexdigest()
                    found.append({**case, "entries": len(entries), "digest": digest})
                else:
                    found.append({**case, "entries": [key.hex() for key in entries]})
            except UsageError:
                found.append({**case, "entries": None})
    return found


INDEXED: list[Any] = [
    {"id": "p", "n": 5, "tags": ["a", "b"], "a": {"b": 1, "c": 2}, "t": "The cat's hat"},
    {"id": "p", "n": 6, "tags": [], "a": [{"b": 1, "c": 2}, 3, {"c": 4}, {}], "t": ["One", 2, "two one"]},
    {"id": "p", "n": 4, "a": 7, "t": "caf\u00e9 STRASSE stra\u00dfe \u732b\u5b50"},
    {"id": "p", "n": 7, "t": "x" * 1990},
    {"id": "p", "n": 7, "t": "x" * 2007},
    {"id": "p", "n": 7, "t": "x" * 2008},
]
DEFINED = [
    "tags where n > 4",
    "n where not a.b = 1 include a.b, t",
    "-n include t",
    "words(t),n",
    "-words(t) where t exists include a",
    "n include a.c, a.b.c, a.b",
]


def definition_cases() -> list[Vectors]:
    """Entries of records in indexes with a condition, with included paths, and of words."""
    found = []
    for record in INDEXED:
        for text in DEFINED:
            _, definition = parse_index("x=" + text)
            case: Vectors = {"record": to_dag_json(record), "key": "id", "paths": list(map(str, definition.paths))}
            if definition.where != EVERYTHING:
                case["where"] = to_dag_json(encode_expr(definition.where))
            if definition.include:
                case["include"] = list(definition.include)
            try:
                ((keys, _, included),) = entry_maker([("x", definition)])(record, primary_key(record, ("id",)))
                value = sha256(encode_record(record)).digest() + included
                found.append({**case, "entries": [[key.hex(), value.hex()] for key in sorted(keys)]})
            except UsageError:
                found.append({**case, "entries": None})
    return found


TEXTS = [
    "", "...", "Cute cats, CUTE dogs!", "it's 3.14", "Stra\u00dfe STRASSE", "Caf\u00e9 cafe\u0301",
    "\ufb01ne \uff21\uff11", "\u03a3\u039f\u03a6\u039f\u03a3 \u03c3\u03bf\u03c6\u03bf\u03c2",
    "\u53ef\u7231\u7684\u732b cat", "\u30ab\u30bf\u30ab\u30ca \u3072\u3089", "\u00bd", "snake_case", "a\u0378b",
    "a\U00031350b", "\u0e41\u0e21\u0e27", "x" * 65, "\u0345\u0130\u1e9e",
]  # fmt: skip


def words_cases() -> list[Vectors]:
    return [{"text": text, "words": words_of(text)} for text in TEXTS]


def manifest_cases() -> list[Vectors]:
    empty = Manifest(Rule(b"", 4096), pmap())
    return [
        {"cid": format_cid(cid), "data": data.hex(), "manifest": to_dag_json(cbor.decode(data))}
        for cid, data in map(encode_manifest, (empty, MANIFEST))
    ]


def not_manifests() -> list[Vectors]:
    data = encode_manifest(MANIFEST)[1]

    def changed(*path: str, to: Any = None, remove: bool = False) -> bytes:
        body = cbor.decode(data)
        at = body
        for step in path[:-1]:
            at = at[step]
        if remove:
            del at[path[-1]]
        else:
            at[path[-1]] = to
        return cbor.encode(body)

    things = ("collections", "things")
    whole = cbor.decode(data)["collections"]["things"]
    link = cbor.Link(cid_of(b""))
    cases = {
        "no map": cbor.encode([]),
        "an unknown field": changed("more", to=1),
        "a missing field": changed("rule", remove=True),
        "another version": changed("version", to=2),
        "a version that is true": changed("version", to=True),
        "a salt that is text": changed("rule", "salt", to=""),
        "a salt that is too long": changed("rule", "salt", to=bytes(33)),
        "MAX too small": changed("rule", "max_weight", to=4095),
        "MAX too large": changed("rule", "max_weight", to=32769),
        "collections in a list": changed("collections", to=[]),
        "a collection's name that is none": changed("collections", "Things", to=whole),
        "a collection without a key": changed(*things, "key", remove=True),
        "a key that is null": changed(*things, "key", to=None),
        "a key that is no path": changed(*things, "key", to="a..b"),
        "a time that is a number": changed(*things, "time", to=1),
        "an order by one path twice": changed(*things, "order", to=["n", "-n"]),
        "an order by text": changed(*things, "order", to="n"),
        "an order by nine paths": changed(*things, "order", to=list("abcdefghi")),
        "a primary without a count": changed(*things, "primary", to=[link]),
        "a primary that is no link": changed(*things, "primary", to=[bytes(link), 1]),
        "a negative count": changed(*things, "primary", to=[link, -1]),
        "a count beyond 2^53": changed(*things, "primary", to=[link, 2**53]),
        "an index's name that is none": changed(*things, "indexes", "_x", to=whole["indexes"]["by_n"]),
        "an index without paths": changed(*things, "indexes", "by_n", "paths", to=[]),
        "an index with one path twice": changed(*things, "indexes", "by_n", "paths", to=["n", "-n"]),
        "an index with fewer lists than paths": changed(*things, "indexes", "by_n", "lists", to=[]),
        "an index with a list's count that is negative": changed(*things, "indexes", "by_n", "lists", to=[-1]),
        "an index with an unknown field": changed(*things, "indexes", "by_n", "more", to=True),
        "an index that is said not to be unique": changed(*things, "indexes", "by_n", "unique", to=False),
        "an index that is unique by a number": changed(*things, "indexes", "by_n", "unique", to=1),
        "an index that includes nothing": changed(*things, "indexes", "by_n", "include", to=[]),
        "an index that includes one path twice": changed(*things, "indexes", "by_n", "include", to=["a", "a"]),
        "an index that includes what is no path": changed(*things, "indexes", "by_n", "include", to=["a..b"]),
        "an index of everything, with a condition": changed(*things, "indexes", "by_n", "where", to=["and"]),
        "an index with a condition that is none": changed(*things, "indexes", "by_n", "where", to=["=", "n"]),
        "an index that includes null": changed(*things, "indexes", "by_n", "include", to=None),
        "an index with a condition that is null": changed(*things, "indexes", "by_n", "where", to=None),
        "an index that is unique by null": changed(*things, "indexes", "by_n", "unique", to=None),
        "bytes behind the manifest": data + b"\0",
    }  # fmt: skip
    return [{"name": name, "data": block.hex()} for name, block in cases.items()]


def dataset_case() -> Vectors:
    """The dataset over which the vectors of queries run."""
    cid, data = encode_manifest(MANIFEST)
    return {"records": [to_dag_json(record) for record in RECORDS], "manifest": data.hex(), "cid": format_cid(cid)}
