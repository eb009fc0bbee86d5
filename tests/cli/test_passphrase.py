"""Sealed keys on the command line: who is asked, who is not, and that no secret is ever shown."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from rhizome_index.index.head import Identity
from rhizome_index.limits import SCRYPT_LOG2_N_RANGE
from rhizome_index.node import keyfile
from rhizome_index.node.home import Home
from rhizome_index.node.keyfile import Hardness, open_keys
from tests.cli.terminal import DECLARED, POSTS, Terminal

SECRET, OTHER = "open sesame", "hocus pocus"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "SCRYPT_LOG2_N_RANGE", (1, SCRYPT_LOG2_N_RANGE[1]))
    monkeypatch.setattr(keyfile, "HARDNESS", Hardness(1))
    monkeypatch.delenv("RHIZOME_PASSPHRASE", raising=False)


@pytest.fixture
def sealed(rhizome: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A home that has published, and whose key is sealed."""
    with monkeypatch.context() as patch:
        patch.setenv("RHIZOME_PASSPHRASE", SECRET)
        rhizome("init", "--encrypt")
        rhizome("import", "posts", "-", *DECLARED, stdin=POSTS)
    return rhizome


def alone() -> None:
    """Without a terminal, whoever runs the tests has one."""
    os.setsid()


def key_of(rhizome: Terminal, passphrase: str | None) -> Identity:
    return open_keys((rhizome.home / "identity.key").read_bytes(), passphrase)[0]


def a_file(path: Path, content: str, mode: int = 0o600) -> str:
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def check_no_secret(rhizome: Terminal, passphrase: str | None, *said: str) -> None:
    seed = key_of(rhizome, passphrase).seed
    forms = [seed.hex(), repr(seed)[2:-1], base64.b64encode(seed).decode().rstrip("="), SECRET, OTHER]
    assert not [form for form in forms for text in said if form in text]


# --- what needs a key, and what does not ---

KEYLESS: list[list[str]] = [
    ["init"],
    ["init", "--encrypt"],
    ["id"],
    ["status"],
    ["get", "posts", "a"],
    ["index", "list", "posts"],
    ["query", "first 9 posts tagged #cats"],
    ["query", "first 1 posts tagged #cats", "--proof", "{folder}/x.car"],
    ["explain", "first 9 posts tagged #cats", "--execute"],
    ["follows"],
    ["scrub"],
    ["inspect", "{address}"],
    ["export", "{folder}/y.car"],
    ["restore", "{folder}/y.car"],
    ["verify", "{folder}/x.car"],
]
KEYED = [
    ["import", "posts", "/dev/null"],
    ["put", "posts", '{"id": "z"}'],
    ["delete", "posts", "a"],
    ["index", "add", "posts", "by_id=id"],
    ["index", "drop", "posts", "by_tag"],
    ["node"],
    ["passphrase"],
    ["passphrase", "--remove"],
]


def test_nobody_is_asked_who_needs_no_key(sealed: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr(Home, "unlock", never)
    address = json.loads(sealed("status", "--json")[0])["datasets"][0]["address"]
    for words in KEYLESS:
        sealed(*(word.format(folder=tmp_path, address=address) for word in words))
        sealed("--json", *(word.format(folder=tmp_path, address=address) for word in words))


@pytest.mark.slow
def test_whoever_only_asks_others_needs_no_key(sealed: Terminal, tmp_path: Path) -> None:
    """Not even to be on the network: that needs a key, but not this one."""
    address = json.loads(sealed("status", "--json")[0])["datasets"][0]["address"]
    reader = Terminal(tmp_path / "reader", sealed.monkeypatch, sealed.capsys)
    with sealed.monkeypatch.context() as patch:
        patch.setenv("RHIZOME_PASSPHRASE", OTHER)
        reader("init", "--encrypt")
        patch.setenv("RHIZOME_PASSPHRASE", SECRET)
        with sealed.serving() as place:
            patch.delenv("RHIZOME_PASSPHRASE")
            for words in (
                ["query", "first 9 posts tagged #cats", "--from", address, "--peer", place],
                ["find", address, "--peer", place],
                ["follow", address, "--peer", place],
                ["sync", "--peer", place],
            ):
                code, _, err = reader.in_a_child(*words, prepare=alone)
                assert code == 0, err
    assert [dataset["own"] for dataset in reader.state()] == [False]


@pytest.mark.parametrize("words", KEYED, ids=" ".join)
def test_without_a_passphrase_nothing_is_changed(
    sealed: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    key, state = (sealed.home / "identity.key").read_bytes(), sealed.state()
    sealed.child_fails(*words, code=2, says="there is no terminal to ask for it", prepare=alone)
    file = a_file(tmp_path / "wrong", OTHER)
    sealed.fails("--passphrase-file", file, *words, says="the passphrase is wrong")
    sealed.fails(*words, "--passphrase-file", file, says="the passphrase is wrong")
    for wrong in (OTHER, SECRET + " ", SECRET.upper(), "\udcff"):
        monkeypatch.setenv("RHIZOME_PASSPHRASE", wrong)
        sealed.fails(*words, says="passphrase")
    assert (sealed.home / "identity.key").read_bytes() == key and sealed.state() == state


# --- where passphrases come from ---


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_service_has_its_passphrase_from_a_file_or_its_environment(
    sealed: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    file = a_file(tmp_path / "right", SECRET + end)
    put = ["put", "posts", '{"id": "%d"}']
    sealed(*put[:2], '{"id": "1"}', "--passphrase-file", file)
    monkeypatch.setenv("RHIZOME_PASSPHRASE", OTHER)
    sealed("--passphrase-file", file, *put[:2], '{"id": "2"}')  # what is typed counts more
    monkeypatch.setenv("RHIZOME_PASSPHRASE", SECRET)
    sealed(*put[:2], '{"id": "3"}')
    assert sealed.state()[0]["sequence"] == 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "must not be empty"),
        ("a\nb", "more than one line"),
        ("x" * 1025, "at most 1024 bytes"),
        (None, "cannot read"),
    ],
)
def test_a_file_with_no_passphrase(sealed: Terminal, tmp_path: Path, content: str | None, says: str) -> None:
    file = str(tmp_path / "nothing") if content is None else a_file(tmp_path / "file", content)
    sealed.fails("put", "posts", '{"id": "z"}', "--passphrase-file", file, says=says)


def test_a_passphrase_that_others_can_read_is_warned_about(sealed: Terminal, tmp_path: Path) -> None:
    words = ["put", "posts", '{"id": "z"}', "--passphrase-file"]
    assert "chmod 600" in sealed(*words, a_file(tmp_path / "open", SECRET, 0o644))[1]
    assert "chmod" not in sealed(*words, a_file(tmp_path / "shut", SECRET))[1]


# --- set, changed, removed ---


def test_a_passphrase_is_set_changed_and_removed_by_services(
    rhizome: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = a_file(tmp_path / "one", SECRET), a_file(tmp_path / "two", OTHER)
    rhizome("init")
    said = [*rhizome("passphrase", "--passphrase-file", one)]
    key_of(rhizome, SECRET)
    said += rhizome("passphrase", "--passphrase-file", one, "--new-passphrase-file", two, "--json")
    assert json.loads(said[-2])["encrypted"] is True
    key_of(rhizome, OTHER)
    monkeypatch.setenv("RHIZOME_PASSPHRASE", OTHER)
    said += rhizome("passphrase", "--remove", "--json")
    assert json.loads(said[-2])["encrypted"] is False
    check_no_secret(rhizome, None, *said)
    rhizome("passphrase", "--remove")
    rhizome.fails("passphrase", "--remove", "--new-passphrase-file", two, says="contradict")
    key_of(rhizome, None)


def test_nothing_that_is_printed_holds_a_secret(sealed: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for passphrase in (SECRET, OTHER):
        monkeypatch.setenv("RHIZOME_PASSPHRASE", passphrase)
        for words in KEYED[:5]:
            for form in ([], ["--json"]):
                _, out, err = sealed.in_a_child(*form, *words, prepare=alone)
                said += [out, err]
    check_no_secret(sealed, SECRET, *said)
    assert len(said) == 40 and all(out or err for out, err in zip(said[::2], said[1::2], strict=True))


def test_a_home_that_is_there_is_not_sealed_by_init(rhizome: Terminal) -> None:
    rhizome("init")
    rhizome.fails("init", "--encrypt", says="its key is not sealed")


def test_a_passphrase_that_cannot_be_makes_no_home(rhizome: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RHIZOME_PASSPHRASE", "")
    rhizome.fails("init", "--encrypt", says="must not be empty")
    monkeypatch.delenv("RHIZOME_PASSPHRASE")
    rhizome.child_fails("init", "--encrypt", code=2, says="there is no terminal", prepare=alone)
    assert not rhizome.home.exists()


# --- at a terminal ---


def test_a_person_is_asked_twice_and_what_is_typed_is_not_shown(rhizome: Terminal) -> None:
    code, out, err, shown = rhizome.at_keyboard("init", "--encrypt", typed=[SECRET + "\n"] * 2)
    assert (code, err) == (0, "") and "made a home" in out
    assert shown.count(": ") == 2 and SECRET not in shown
    assert stat.S_IMODE((rhizome.home / "identity.key").stat().st_mode) == 0o600
    said = [out, shown]
    code, out, err, shown = rhizome.at_keyboard("passphrase", typed=[SECRET + "\n", OTHER + "\n", OTHER + "\n"])
    assert (code, err) == (0, "") and shown.count(": ") == 3
    said += [out, shown]
    code, out, err, shown = rhizome.at_keyboard("import", "posts", "/dev/null", typed=[OTHER + "\n"])
    assert (code, err) == (0, "") and shown.count(": ") == 1
    check_no_secret(rhizome, OTHER, *said, out, shown)


WRONG: dict[str, tuple[list[str], int, str]] = {
    "the wrong one": (["no\n"], 2, "the passphrase is wrong"),
    "two that differ": ([SECRET + "\n", OTHER + "\n", SECRET + "\n"], 2, "the two passphrases differ"),
    "an empty one": ([SECRET + "\n", "\n"], 2, "must not be empty"),
    "no answer": (["\x04"], 2, "none was given"),
    "an interrupt": (["\x03"], 130, "interrupted"),
    "an interrupt at the second question": ([SECRET + "\n", "\x03"], 130, "interrupted"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_whatever_else_is_typed_changes_nothing(sealed: Terminal, kind: str) -> None:
    typed, expected, says = WRONG[kind]
    key = (sealed.home / "identity.key").read_bytes()
    code, out, err, shown = sealed.at_keyboard("passphrase", typed=typed)
    assert (code, out) == (expected, "") and says in err
    assert (sealed.home / "identity.key").read_bytes() == key
    check_no_secret(sealed, SECRET, err, shown)


def test_a_node_that_waits_for_its_passphrase_can_be_interrupted(sealed: Terminal) -> None:
    code, _, err, _ = sealed.at_keyboard("node", typed=["\x03"])
    assert code == 130 and "interrupted" in err
