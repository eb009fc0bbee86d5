"""Keys on the command line: listed, replaced, and whatever happens on the way, heads that can be signed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.limits import SCRYPT_LOG2_N_RANGE
from rhizome_index.node import keyfile
from rhizome_index.node.home import Home
from rhizome_index.node.keyfile import Hardness
from tests.cli.faulty_disk import from_step, killed
from tests.cli.terminal import DECLARED, POSTS, Terminal


@pytest.fixture
def published(rhizome: Terminal) -> Terminal:
    """A home with two datasets."""
    rhizome("import", "posts", "-", *DECLARED, stdin=POSTS)
    rhizome("import", "posts", "-", "--dataset", "other", *DECLARED, stdin=POSTS)
    return rhizome


def keys(rhizome: Terminal) -> list[Any]:
    return [json.loads(line) for line in rhizome("key", "list", "--json")[0].splitlines()]


def signers(rhizome: Terminal) -> dict[str, tuple[int, str]]:
    """The sequence and the signer of each dataset's head."""
    found = {}
    for dataset in rhizome.state():
        shown = json.loads(rhizome("inspect", dataset["address"], "--json")[0])
        found[dataset["address"].rpartition("/")[2]] = (shown["sequence"], shown["signed_by"])
    return found


def test_a_new_key_signs_and_addresses_stay(published: Terminal, tmp_path: Path) -> None:
    (first,) = keys(published)
    assert (first["signs"], first["since"], first["replaced_by"]) == ("all", None, None)
    addresses = [dataset["address"] for dataset in published.state()]
    told = json.loads(published("key", "rotate", "--json")[0])
    assert told["heads"] == dict.fromkeys(addresses, 2) and told["dataset"] is None
    first, second = keys(published)
    assert (first["signs"], first["replaced_by"]) == ("", second["key"])
    assert (second["key"], second["signs"], second["since"], second["replaced_by"]) == (told["key"], "all", 2, None)
    published("put", "posts", '{"id": "z"}')
    assert signers(published) == {"main": (3, second["key"]), "other": (2, second["key"])}
    assert [dataset["address"] for dataset in published.state()] == addresses
    assert json.loads(published("id", "--json")[0])["peer_id"] == first["key"]
    file = str(tmp_path / "x.car")
    published("query", "first 9 posts tagged #cats", "--from", addresses[0], "--proof", file)
    published("verify", file, "--publisher", first["key"])
    published("verify", file, "--publisher", second["key"], code=4)


def test_one_dataset_has_a_new_key(published: Terminal) -> None:
    published("key", "rotate", "--dataset", "main")
    first, second = keys(published)
    assert (first["signs"], second["signs"], second["since"]) == ("all", "main", 2)
    assert signers(published) == {"main": (2, second["key"]), "other": (1, first["key"])}
    published.fails("key", "rotate", says="away alone, so it cannot give away all any more")
    published.fails("key", "rotate", "--dataset", "nothing", says="nothing was published as")
    published("key", "rotate", "--dataset", "other")
    assert [key["signs"] for key in keys(published)] == ["all", "main", "other"]


def test_a_new_key_before_anything_was_published(rhizome: Terminal) -> None:
    rhizome("init")
    assert "all datasets from now on, of which there are none yet" in rhizome("key", "rotate")[0]
    rhizome("import", "posts", "-", *DECLARED, stdin=POSTS)
    assert signers(rhizome)["main"] == (1, keys(rhizome)[1]["key"])


def test_a_new_key_is_sealed_like_the_old_one(published: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "SCRYPT_LOG2_N_RANGE", (1, SCRYPT_LOG2_N_RANGE[1]))
    monkeypatch.setattr(keyfile, "HARDNESS", Hardness(1))
    monkeypatch.setenv("RHIZOME_PASSPHRASE", "open sesame")
    published("passphrase")
    monkeypatch.delenv("RHIZOME_PASSPHRASE")
    published.child_fails("key", "rotate", code=2, says="there is no terminal", prepare=os.setsid)
    code, _, err, shown = published.at_keyboard("key", "rotate", typed=["open sesame\n"])
    assert (code, err, shown.count(": ")) == (0, "", 1)
    assert Home(published.home).is_sealed and len(keys(published)) == 2


def test_an_export_brings_back_who_signs(published: Terminal, tmp_path: Path) -> None:
    published("key", "rotate")
    file = str(tmp_path / "x.car")
    published("export", file)
    (published.home / "store.sqlite").unlink()
    published("restore", file)
    assert [key["signs"] for key in keys(published)] == ["", "all"]
    published("put", "posts", '{"id": "z"}')
    assert signers(published)["main"] == (3, keys(published)[1]["key"])


def test_a_dataset_of_an_older_key_is_not_restored(published: Terminal, tmp_path: Path) -> None:
    thief = Terminal(tmp_path / "thief", published.monkeypatch, published.capsys)
    shutil.copytree(published.home, thief.home)
    published("key", "rotate")
    for _ in range(5):
        thief("renew")
    file = str(tmp_path / "x.car")
    thief("export", file)
    state = published.state()
    published.fails("restore", file, code=4, says="signed with a key that was replaced")
    assert published.state() == state


def test_without_the_new_key_nothing_is_signed(published: Terminal) -> None:
    path = published.home / "identity.key"
    before = path.read_bytes()
    published("key", "rotate")
    state = published.state()
    path.write_bytes(before)  # restored from a backup that is older
    published.fails("put", "posts", '{"id": "z"}', says="does not have the private key of")
    assert published.state() == state


# --- killed on the way ---


def after_step(number: int) -> Callable[[], None]:
    """Be killed at the n-th call that writes the file of keys, or takes its place."""

    def prepare() -> None:
        calls = iter(range(1, 10**6))

        def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
            def step(*arguments: Any, **named: Any) -> Any:
                if next(calls) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **named)

            return step

        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, wrap(getattr(os, name)))

    return prepare


def check_rotated_or_not(published: Terminal, prepare: Callable[[], None]) -> bool:
    """Rotate in a child that is killed; whether it was. Afterwards all heads are signed by one key, and go on."""
    code, _, _ = published.in_a_child("key", "rotate", prepare=prepare)
    listed, before = keys(published), signers(published)
    assert len({signer for _, signer in before.values()}) == 1
    assert {sequence for sequence, _ in before.values()} in ({1}, {2})
    (signing,) = [key["key"] for key in listed if key["signs"]]
    assert signing == before["main"][1] and len(listed) <= 2
    published("put", "posts", '{"id": "z"}')
    assert signers(published)["main"] == (before["main"][0] + 1, signing)
    published("key", "rotate")
    assert len(keys(published)) <= 3 and signers(published)["main"][1] != signing
    return code != 0


@pytest.mark.slow
@pytest.mark.parametrize("steps", [after_step, lambda number: from_step(number, killed)], ids=["keys", "store"])
def test_a_rotation_killed_at_every_step(
    published: Terminal, tmp_path: Path, steps: Callable[[int], Callable[[], None]]
) -> None:
    home, number, is_killed = published.home, 1, True
    while is_killed:
        published.home = tmp_path / str(number)
        shutil.copytree(home, published.home)
        is_killed = check_rotated_or_not(published, steps(number))
        number += 1
    assert number > 4
