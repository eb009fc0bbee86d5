"""A home's private keys: sealed, changed and opened, whoever is killed, refused or at the same place on the way."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import RhizomeError, StoreError, UsageError
from rhizome_index.limits import SCRYPT_LOG2_N_RANGE
from rhizome_index.node import keyfile
from rhizome_index.node.home import Home
from rhizome_index.node.keyfile import Hardness, is_sealed, open_keys

SEED = b"k" * 32


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "SCRYPT_LOG2_N_RANGE", (1, SCRYPT_LOG2_N_RANGE[1]))
    monkeypatch.setattr(keyfile, "HARDNESS", Hardness(1))


class Asked:
    """Somebody who knows a passphrase; how often it was asked for."""

    def __init__(self, passphrase: str) -> None:
        self.passphrase, self.times = passphrase, 0

    def __call__(self) -> str:
        self.times += 1
        return self.passphrase


def never() -> str:
    raise AssertionError("asked for a passphrase")


def a_home(path: Path, passphrase: str | None = None, ask: Callable[[], str] = never) -> Home:
    Home(path).create(SEED, passphrase)
    return Home(path, ask)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(home: Home) -> list[str]:
    return sorted(path.name for path in home.path.iterdir() if not path.name.startswith("store.sqlite-"))


def test_whose_home_it_is_needs_no_passphrase(tmp_path: Path) -> None:
    plain = a_home(tmp_path / "plain")
    home = a_home(tmp_path / "sealed", "x")
    assert home.peer_id == plain.peer_id and home.is_sealed and not plain.is_sealed
    with home.open_store():
        pass
    with pytest.raises(UsageError, match="sealed with a passphrase"):
        Home(home.path).unlock()


def test_keys_are_opened_once_and_stay_open(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", "x", asked := Asked("x"))
    for _ in range(3):
        assert home.identity.seed == SEED == home.key(home.peer_id).seed
    home.seal("y")
    home.seal(None)
    home.seal("z")
    assert asked.times == 1 and Home(home.path, Asked("z")).identity.seed == SEED


def test_a_key_that_is_not_here_is_named(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with pytest.raises(UsageError, match="does not have the private key of nobody"):
        home.key("nobody")


def test_a_passphrase_is_set_changed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "home"
    a_home(path).seal("one")
    Home(path, Asked("one")).seal("two")
    data = Home(path).identity_path.read_bytes()
    assert is_sealed(data) and SEED not in data and open_keys(data, "two")[0].seed == SEED
    assert mode(path / "identity.key") == 0o600
    Home(path, Asked("two")).seal(None)
    home = Home(path, never)
    assert home.identity.seed == SEED and mode(home.identity_path) == 0o600
    assert names(home) == ["identity.key", "store.lock", "store.sqlite"]


@pytest.mark.parametrize("wrong", ["", "One", "one ", "x" * 2000, "\udcff"])
def test_a_wrong_passphrase_changes_nothing(tmp_path: Path, wrong: str) -> None:
    home = a_home(tmp_path / "home", "one", Asked(wrong))
    data = home.identity_path.read_bytes()
    for use in (home.unlock, lambda: home.seal("two"), lambda: home.seal(None), lambda: home.key(home.peer_id)):
        with pytest.raises(UsageError, match="passphrase"):
            use()
    assert home.identity_path.read_bytes() == data and names(home) == ["identity.key", "store.lock", "store.sqlite"]
    with pytest.raises(UsageError):
        Home(tmp_path / "other").create(SEED, "")
    assert not (tmp_path / "other").exists()


def test_a_damaged_key_is_told_before_a_passphrase_is_asked_for(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", "one")
    data = home.identity_path.read_bytes()
    home.identity_path.write_bytes(data[:80] + bytes([data[80] ^ 1]) + data[81:])
    for use in (home.unlock, lambda: home.seal("two"), lambda: home.peer_id):
        with pytest.raises(StoreError, match="is damaged"):
            use()


def test_what_another_process_has_changed_is_noticed(tmp_path: Path) -> None:
    """It has sealed the keys with another passphrase: whoever wants to change them now has to know that one."""
    home = a_home(tmp_path / "home", "one", asked := Asked("one"))
    home.unlock()
    Home(home.path, Asked("one")).seal("two")
    with pytest.raises(UsageError, match="the passphrase is wrong"):
        home.seal("three")
    asked.passphrase = "two"
    home.seal("three")
    assert asked.times == 3 and Home(home.path, Asked("three")).identity.seed == SEED


def test_another_key_is_kept_beside_the_first_and_sealed_like_it(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", "one", asked := Asked("one"))
    second = home.spare_key(())
    assert home.peer_ids == Home(home.path).peer_ids == (home.peer_id, second.peer_id)
    assert home.spare_key(()).peer_id == second.peer_id  # it is used for nothing yet
    third = home.spare_key([second.peer_id])
    assert asked.times == 1 and len({home.peer_id, second.peer_id, third.peer_id}) == 3
    again = Home(home.path, Asked("one"))
    assert [again.key(peer_id).seed for peer_id in again.peer_ids] == [SEED, second.seed, third.seed]
    again.seal(None)
    assert Home(home.path).key(third.peer_id).seed == third.seed


def test_a_key_that_another_process_has_made_is_found(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    home.unlock()
    made = Home(home.path).spare_key(())
    assert home.key(made.peer_id).seed == made.seed


def test_as_many_keys_as_there_is_room_for_and_one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rhizome_index.node.home.KEYS_MAX", 3)
    home = a_home(tmp_path / "home")
    used = [home.spare_key(()).peer_id]
    used.append(home.spare_key(used).peer_id)
    with pytest.raises(UsageError, match="as many as there is room for"):
        home.spare_key(used)
    assert len(home.peer_ids) == 3


def test_two_do_not_change_the_keys_at_once(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    other = os.open(home.identity_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(StoreError, match="another process is changing the keys"):
        home.seal("x")
    os.close(other)
    home.seal("x")


def test_whoever_has_the_lock_of_a_file_that_was_replaced_does_not_change_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was opened before, and locked after: what another process has written would be lost."""
    home, flock = a_home(tmp_path / "home"), fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr("fcntl.flock", flock)
        Home(home.path).spare_key(())
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", late)
    with pytest.raises(StoreError, match="another process is changing the keys"):
        home.seal("x")
    assert len(home.peer_ids) == 2 and not home.is_sealed


def test_keys_are_changed_while_a_node_runs(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with home.claim():
        Home(home.path).seal("x")
    assert home.is_sealed


def test_what_was_left_by_one_that_was_killed_is_taken_away(tmp_path: Path) -> None:
    """It may be the key itself, unsealed."""
    home = a_home(tmp_path / "home")
    os.link(home.identity_path, home.path / ".identity-0123")
    home.seal("x")
    assert names(home) == ["identity.key", "store.lock", "store.sqlite"]


def test_keys_last_before_the_old_ones_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is synced under another name, takes the old one's, and then the folder is synced."""
    home = a_home(tmp_path / "home")
    old, steps = home.identity_path.read_bytes(), []

    def fsync(descriptor: int) -> None:
        place = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append((place, home.identity_path.read_bytes() == old))

    monkeypatch.setattr("os.fsync", fsync)
    home.seal("x")
    assert steps == [("file", True), ("folder", False)]


# --- who may do what ---


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777], ids=oct)
def test_a_home_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """With the folders that were made for it, and what SQLite lays beside the store."""
    path = tmp_path / "new" / "home"
    before = os.umask(umask)
    try:
        home = a_home(path)
        with home.open_store() as store:
            store.put_many([(cid_of(b"a"), b"a")])
            modes = {file.name: mode(file) for file in (path.parent, path, *path.iterdir())}
        home.seal("x")
    finally:
        os.umask(before)
    assert modes.pop("new") == modes.pop("home") == 0o700
    assert sorted(modes) == ["identity.key", "store.lock", "store.sqlite", "store.sqlite-shm", "store.sqlite-wal"]
    assert set(modes.values()) == {0o600} and mode(home.identity_path) == 0o600


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    home = a_home(tmp_path / "home")
    assert mode(home.path) == 0o755 and mode(home.store_path) == 0o600


def test_what_others_may_do_is_noticed(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    assert not list(home.exposures()) and not list(Home(tmp_path / "nothing").exposures())
    for path, modes in ((home.identity_path, (0o640, 0o604, 0o602)), (home.path, (0o770, 0o702, 0o1777))):
        right = mode(path)
        for wrong in modes:
            path.chmod(wrong)
            ((text, hint),) = home.exposures()
            assert text == f"{path} is open to others (mode {wrong:04o})" and f"chmod {right:o} {path}" in hint
        path.chmod(right)
    home.path.chmod(0o755)
    assert not list(home.exposures())


def test_what_was_laid_where_a_key_is_to_be_written_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if somebody guesses the name: it would keep its owner and its mode, or be a way to another file."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "guessed")
    home = a_home(tmp_path / "home", "one", Asked("one"))
    (tmp_path / "mine").write_text("mine")
    (home.path / ".identity-guessed").symlink_to(tmp_path / "mine")
    before = home.identity_path.read_bytes()
    with pytest.raises(StoreError, match="cannot change"):
        home.seal("two")
    assert (tmp_path / "mine").read_text() == "mine" and home.identity_path.read_bytes() == before


# --- killed ---

STEPS = ("open", "fdopen", "fsync", "replace", "unlink", "link", "close", "mkdir")


def killed_at(number: int) -> None:
    """End this process at the n-th call that changes a folder or a file."""
    calls = iter(range(1, 10**6))

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return step

    for name in STEPS:
        setattr(os, name, wrap(getattr(os, name)))


def in_a_child(do: Callable[[], object], step: int) -> bool:
    """Do something in a child that is killed at a step; whether it came so far."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, whose locks the child does not take
        child = os.fork()
    if not child:
        _be_the_child(do, step)
    _, status = os.waitpid(child, 0)
    exited = os.waitstatus_to_exitcode(status)
    assert exited in (0, -signal.SIGKILL)
    return exited != 0


def _be_the_child(do: Callable[[], object], step: int) -> NoReturn:
    leave = os._exit
    try:
        killed_at(step)
        do()
        leave(0)
    finally:
        leave(1)


def steps_of(do: Callable[[], object]) -> Iterator[int]:
    """Every step at which it can be killed, after it has been."""
    step = 1
    while in_a_child(do, step):
        yield step
        step += 1


OFTEN = [pytest.param(None, "new", marks=pytest.mark.slow), pytest.param("old", None, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("old", "new"), [("old", "new"), *OFTEN])
def test_a_kill_at_any_step_leaves_the_old_keys_or_the_new(tmp_path: Path, old: str | None, new: str | None) -> None:
    home = a_home(tmp_path / "home", old)
    before = home.identity_path.read_bytes()
    seen = set()
    for _ in steps_of(lambda: Home(home.path, Asked(old or "")).seal(new)):
        data = home.identity_path.read_bytes()
        is_old = data == before
        seen.add(is_old)
        assert open_keys(data, old if is_old else new)[0].seed == SEED and mode(home.identity_path) == 0o600
        assert all(mode(path) == 0o600 for path in home.path.glob(".identity-*"))
        home.identity_path.write_bytes(before)
    assert seen == {True, False}
    assert open_keys(home.identity_path.read_bytes(), new)[0].seed == SEED
    assert names(home) == ["identity.key", "store.lock", "store.sqlite"]


def test_a_kill_at_any_step_leaves_the_first_key_and_perhaps_another_one(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", "x")
    counts = set()
    for _ in steps_of(lambda: Home(home.path, Asked("x")).spare_key(())):
        keys = open_keys(home.identity_path.read_bytes(), "x")
        counts.add(len(keys))
        assert keys[0].seed == SEED
        home.identity_path.unlink()
        Home(home.path).create(SEED, "x")
    assert counts == {1, 2}


def test_a_kill_at_any_step_leaves_no_half_made_home(tmp_path: Path) -> None:
    path = tmp_path / "home"
    seen = set()
    for _ in steps_of(lambda: Home(path).create(SEED, "x")):
        seen.add(Home(path).exists)
        if Home(path).exists:
            assert Home(path, Asked("x")).identity.seed == SEED
            (path / "identity.key").unlink()
    assert seen == {True, False}


def test_errors_and_representations_hold_no_secret(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", "secret", Asked("secret-too"))
    with pytest.raises(RhizomeError) as caught:
        home.unlock()
    said = f"{caught.value!r} {caught.value.hint} {home!r} {vars(home)}"
    assert "secret" not in said.replace(str(tmp_path), "").replace("Asked", "")
    home.ask = Asked("secret")
    home.unlock()
    assert repr(SEED)[2:-1] not in f"{home!r} {vars(home)}" and SEED.hex() not in f"{home!r} {vars(home)}"
