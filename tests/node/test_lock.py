"""The lock of a store: many share it, one has it alone, and nobody goes without."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from rhizome_index.errors import StoreError, UsageError
from rhizome_index.node import lock as locking
from rhizome_index.node.home import Home
from rhizome_index.node.lock import StoreLock


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create(b"k" * 32)
    return made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(locking.time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(locking.time, "sleep", lambda seconds: None)


def lock_of(home: Home) -> StoreLock:
    return StoreLock(home.lock_path, home.identity_path)


def refusal(home: Home, *, alone: bool) -> str:
    """Why a store cannot be used."""
    lock = lock_of(home)
    with pytest.raises(StoreError) as told, lock.alone() if alone else lock.sharing():
        raise AssertionError
    return str(told.value)


def test_many_share_it_or_one_has_it_alone(home: Home) -> None:
    with lock_of(home).sharing(), lock_of(home).sharing():
        assert "is using the store" in refusal(home, alone=True)
    with lock_of(home).alone():
        assert "gc is freeing" in refusal(home, alone=False)
        assert "is using the store" in refusal(home, alone=True)
    with lock_of(home).sharing():
        pass


def test_who_shares_it_can_have_it_alone_while_nobody_else_shares(home: Home) -> None:
    lock = lock_of(home)
    with lock.sharing():
        with lock.having_alone() as is_alone:
            assert is_alone and "gc is freeing" in refusal(home, alone=False)
        with ExitStack() as others:
            for is_alone_then in (False, False):
                others.enter_context(lock_of(home).sharing())
                with lock.having_alone() as is_alone:
                    assert is_alone is is_alone_then
                assert "is using the store" in refusal(home, alone=True), "its share was lost"
        with lock.having_alone() as is_alone:
            assert is_alone
        assert "is using the store" in refusal(home, alone=True)
    with lock.having_alone() as is_alone:
        assert not is_alone, "who does not share it has no way up"


def test_a_step_that_ends_is_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as freeing:
        freeing.enter_context(lock_of(home).alone())
        monkeypatch.setattr(locking.time, "sleep", lambda seconds: freeing.close())
        with lock_of(home).sharing():
            assert "is using the store" in refusal(home, alone=True)


def test_who_cannot_make_the_lock_shares_the_key_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk, say, of a home that an earlier version made."""
    home.lock_path.unlink()
    with ExitStack() as reading:
        with monkeypatch.context() as full:
            full.setattr(locking, "make_file", lambda path: None)
            reading.enter_context(home.open_store())
            assert not home.lock_path.exists()
        assert "is using the store" in refusal(home, alone=True), "room came, and blocks could be freed below a reader"
        with home.open_store() as store:  # who comes now has the lock
            assert store.count_blocks() == (0, 0)
        lock = lock_of(home)
        with lock.sharing(), lock.having_alone() as is_alone:
            assert not is_alone
        with pytest.raises(StoreError, match="is changing the keys"):  # what is locked stays in its place
            home.seal("x")
    with lock_of(home).alone():
        pass


def test_a_file_system_without_locks_can_be_shared_only(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = lock_of(home)
    with lock.sharing(), lock.having_alone() as is_alone:
        assert not is_alone
    assert "Operation not supported" in refusal(home, alone=True)


def test_errors_of_those_within_are_theirs(home: Home) -> None:
    for error in (FileNotFoundError("theirs"), PermissionError("theirs"), UsageError("theirs")):
        for use in (lock_of(home).sharing(), lock_of(home).alone()):
            with pytest.raises(type(error), match="theirs"), use:
                raise error


def test_a_home_has_its_lock_from_the_beginning(home: Home) -> None:
    assert home.lock_path.exists() and os.access(home.lock_path, os.R_OK)
