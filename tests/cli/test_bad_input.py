"""Wrong words, wrong records, wrong files: one clear line each, the right exit code, and nothing is changed by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.limits import RECORD_BYTES_MAX, RECORD_DEPTH_MAX
from tests.cli.terminal import Terminal, check_error, check_json_error

NOBODY = "12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC"


def nested(depth: int) -> bytes:
    """A record whose innermost map stands at a depth."""
    return b'{"id": 1, "a": ' * depth + b"{}" + b"}" * depth


def sized(size: int) -> bytes:
    """A record of so many canonical bytes."""
    return b'{"id": 1, "t": "' + b"x" * (size - 12) + b'"}'


WORDS = [
    (["qurey", "x"], "no such command 'qurey'. Did you mean 'query'?"),
    (["index", "ad"], "no such command 'ad'"),
    (["--nope"], "no such option '--nope'"),
    (["query", "first 1 posts", "--nope"], "no such option '--nope'"),
    (["query"], "missing argument 'TEXT'"),
    (["import", "posts"], "missing argument 'FILE'"),
    (["status", "now"], "unexpected extra argument (now)"),
    (["sample", "posts", "--count", "0"], "invalid value for '--count'"),
    (["sample", "posts", "--count", "many"], "invalid value for '--count'"),
    (["query", "frist 3 posts"], "'frist' does not belong here"),
    (["query", "first 3 posts where likes > #"], "'#' does not belong here"),
    (["query", ""], "the query"),
    (["query", "first 3 nothing"], "no collection called 'nothing'"),
    (["query", "first 3 posts order by -"], "the query"),
    (["query", "first 1 posts after x"], "'x' does not belong here; expected a cursor"),
    (["query", "first 1 posts", "--peer", "nonsense"], "not a peer's address"),
    (["query", "first 1 posts", "--from", "nonsense"], "not an address"),
    (["query", "first 1 posts", "--offline", "--peer", "x"], "contradict"),
    (["node", "--listen", "nonsense"], "cannot listen on 'nonsense'"),
    (["import", "posts", "-", "--index", "x"], "the index ends too early; expected ="),
    (["import", "new", "-", "--key", "a..b"], "not a path: 'a..b'"),
    (["import", "posts", "-", "--time", "other"], "was declared with key=id time=created"),
    (["import", "posts", "/no/such/file"], "cannot read /no/such/file"),
    (["import", "posts", "/"], "cannot read /"),
    (["import", "Posts", "-"], "not a name for a collection"),
    (["import", "posts", "-", "--dataset", "x y"], "not a name for a dataset"),
    (["index", "add", "posts", "by_tag=tags"], "'by_tag'"),
    (["index", "drop", "posts", "by_nothing"], "no index called 'by_nothing'"),
    (["get", "posts", "nothing"], "no record 'nothing'"),
    (["get", "posts", "[" * 5000], "a primary key of 5003 bytes"),
    (["get", "posts", "9" * 500], "no record"),
    (["get", "posts", "9" * 5000], "a primary key of 5003 bytes"),
    (["delete", "nothing", "a"], "no collection called 'nothing'"),
    (["inspect", "bafyx"], "not the CID"),
    (["verify", "/no/such/file"], "cannot read /no/such/file"),
    (["verify", "/"], "is a directory"),
    (["verify", "/no/such/file", "--publisher", "x"], "not the peer id of a publisher"),
    (["restore", "/no/such/file"], "cannot read /no/such/file"),
    (["export", "/no/such/folder/x.car"], "cannot write /no/such/folder/x.car"),
]

RECORDS = [
    (b"{", "not valid JSON"),
    (b'{"id": 2,}', "not valid JSON"),
    (b"{'id': 2}", "not valid JSON"),
    (b'{"id": 2} x', "not valid JSON"),
    (b"\xff", "not UTF-8"),
    (b'{"id": 2, "t": "\xff"}', "not UTF-8"),
    (b'{"id": 2, "t": "\\ud800"}', "half a surrogate pair"),
    (b'{"id": 2, "id": 3}', 'the name "id" is given twice'),
    (b"[]", "a record must be an object, not a list"),
    (b"3", "a record must be an object, not a number"),
    (b"null", "a record must be an object, not null"),
    (b'{"id": 2, "n": 9223372036854775808}', "does not fit in 64 bits"),
    (b'{"id": 2, "n": -9223372036854775809}', "does not fit in 64 bits"),
    (b'{"id": 2, "n": ' + b"9" * 5000 + b"}", "too many digits"),
    (b'{"id": 2, "n": 1e400}', "beyond the range"),
    (b'{"id": 2, "n": NaN}', "NaN is no JSON number"),
    (b"[" * 100_000, "nested too deeply"),
    (nested(RECORD_DEPTH_MAX + 1), "nested deeper than"),
    (sized(RECORD_BYTES_MAX + 1), "at most 1,048,576 fit"),
    (b'{"id": 2, "t": "' + b"x" * 3_000_000 + b'"}', "longer than 2,097,152 bytes"),
    (b'{"x": 2}', "no primary key: 'id' must be text, a number or bytes"),
    (b'{"id": null}', "no primary key"),
    (b'{"id": true}', "no primary key"),
    (b'{"id": ["x"]}', "no primary key"),
    (b'{"id": {"x": 1}}', "no primary key"),
    (b'{"id": "' + b"k" * 1100 + b'"}', "a primary key of 1103 bytes"),
    (b'{"id": 2, "tags": [' + b",".join(b"%d" % n for n in range(1025)) + b"]}", "1,025 elements"),
    (b'{"id": 2, "tags": ["' + b"k" * 1100 + b'"]}', "a value too long for the index 'by_tag'"),
    (b'{"id": 2, "tags": [1], "created": [2]}', "two lists in one record for the index 'by_tag'"),
]


def short(value: Any) -> str:
    text = value.decode(errors="replace") if type(value) is bytes else " ".join(value) if type(value) is list else value
    return str(text[:40])


@pytest.mark.parametrize(("words", "says"), WORDS, ids=short)
def test_wrong_words(published: Terminal, words: list[str], says: str) -> None:
    before = published.state()
    published.fails(*words, says=says)
    assert published.state() == before


READING = [["get", "posts", "a"], ["status"], ["id"], ["index", "list", "posts"], ["export", "x.car"], ["follows"]]


@pytest.mark.parametrize("words", READING, ids=short)
def test_reading_makes_no_home(rhizome: Terminal, words: list[str]) -> None:
    rhizome.fails(*words, says="there is no home in")
    assert not rhizome.home.exists()


def test_no_command_at_all(rhizome: Terminal) -> None:
    rhizome.fails(says="missing command")
    assert "Usage: rhizome index" in rhizome("index", code=2)[1]
    check_json_error(rhizome("--json", "index", code=2)[1], 2, "no command")


@pytest.mark.parametrize(("record", "says"), RECORDS, ids=short)
def test_a_wrong_record_is_not_put(published: Terminal, record: bytes, says: str) -> None:
    before = published.state()
    published.fails("put", "posts", "-", stdin=record, says=says)
    if len(record) < 100_000:
        published.fails("put", "posts", record.decode(errors="surrogateescape"), says=says)
    assert published.state() == before


@pytest.mark.parametrize(("record", "says"), RECORDS, ids=short)
def test_a_wrong_record_is_named_by_its_line_and_nothing_is_imported(
    published: Terminal, tmp_path: Path, record: bytes, says: str
) -> None:
    before = published.state()
    file = tmp_path / "records.jsonl"
    file.write_bytes(b'{"id": "c"}\n\n' + record + b'\n{"id": "d"}\n')
    published.fails("import", "posts", str(file), says=f"{file}:3: ")
    published.fails("import", "posts", str(file), says=says)
    assert published.state() == before
    published.fails("get", "posts", "c", says="no record 'c'")


def test_records_at_the_limit_are_put(published: Terminal) -> None:
    for record in (nested(RECORD_DEPTH_MAX), sized(RECORD_BYTES_MAX), b'{"id": 1, "n": 9223372036854775807}'):
        published("put", "posts", "-", stdin=record)
        assert json.loads(published("get", "posts", "1")[0]) == json.loads(record)


def cars(published: Terminal, folder: Path) -> dict[str, bytes]:
    """A dataset's file and a saved answer's, by the command that reads them."""
    published("export", str(folder / "dataset.car"))
    published("query", "first 2 posts tagged #cats", "--proof", str(folder / "answer.car"))
    return {"restore": (folder / "dataset.car").read_bytes(), "verify": (folder / "answer.car").read_bytes()}


@pytest.mark.parametrize("command", ["restore", "verify"])
def test_broken_cars(published: Terminal, tmp_path: Path, command: str) -> None:
    both = cars(published, tmp_path)
    whole, other = both[command], both["verify" if command == "restore" else "restore"]
    middle = len(whole) // 2
    before = published.state()
    wrong = {
        "ends in the middle of a block": whole[:-1],
        "do not match the block": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "rhizome: no saved answer and no fraud proof"
        if command == "verify"
        else "rhizome: not the file of a dataset": other,
        "rhizome: not a CAR file": b"hello, this is no CAR file at all\n" * 9,
        "rhizome: not a CAR file of version 1, or cut off": b"",
        "rhizome: not a CAR file of version 1, ": b"\xff\xff\xff\xff\x0f" + whole,
    }
    file = tmp_path / "x.car"
    for says, data in wrong.items():
        file.write_bytes(data)
        published.fails(command, str(file), code=4, says=says.removeprefix("rhizome: "))
        assert published.state() == before
    for cut in (1, 40, len(whole) // 2, len(whole) - 40):
        file.write_bytes(whole[:cut])
        published.fails(command, str(file), code=4)
    file.write_bytes(whole)
    published(command, str(file))
    assert published.state() == before


def test_an_answer_of_another_publisher(published: Terminal, tmp_path: Path) -> None:
    cars(published, tmp_path)
    published.fails("verify", str(tmp_path / "answer.car"), "--publisher", NOBODY, code=4, says="not by " + NOBODY)


def test_a_dataset_older_than_ours_is_not_restored(published: Terminal, tmp_path: Path) -> None:
    cars(published, tmp_path)
    published("put", "posts", '{"id": "c"}')
    published.fails("restore", str(tmp_path / "dataset.car"), says="the store has a newer head")
    assert published.state()[0]["sequence"] == 2


def test_a_place_in_a_query_is_pointed_at(rhizome: Terminal) -> None:
    rhizome("init")
    _, told = rhizome("query", "first 3 posts where likes >> 5", code=2)
    check_error(told, "")
    _, text, carets, *_ = told.splitlines()
    assert text == "  first 3 posts where likes >> 5" and carets.index("^") == text.index("> 5")


def test_nobody_has_it(published: Terminal) -> None:
    published.fails("query", "first 1 posts", "--from", f"rhizome:{NOBODY}/main", code=3, says="no such head")
    published.fails("export", "x.car", "--from", f"rhizome:{NOBODY}/main", code=3, says="no head of")
    published.fails("inspect", f"rhizome:{NOBODY}/main", code=3, says="no head of")
    missing = "bafyrei" + "a" * 51 + "q"
    published.fails("inspect", missing, code=3, says="is not here")
