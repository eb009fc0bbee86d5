"""Bits of the file flip: nothing wrong is ever given out, and what was right before can come back."""

from __future__ import annotations

import random
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from rhizome_index.blocks.cid import Cid
from rhizome_index.errors import IntegrityError, StoreError, UnavailableError
from rhizome_index.index.head import Head
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.register import Follow, Policy, Register
from rhizome_index.node.scrub import scrub
from tests.durability.power import Disk
from tests.durability.story import IDENTITY, a_publisher, live


@dataclass(frozen=True)
class Right:
    """A store's file, and what is in it."""

    file: bytes
    blocks: dict[Cid, bytes]
    heads: list[Head]


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Right:
    path = tmp_path_factory.mktemp("right") / "store"
    live(path, 5, lambda head: None)
    with closing(DiskStore(path)) as store:
        held = store.newest_head(a_publisher(store).address("other"))
        assert held is not None
        register = Register(store)
        for kind in ("full", "where"):
            register.follow(Follow(a_publisher(store).address(kind), Policy(kind, query="all posts")))
        store.set_held(held)
        found = dict(store.all_blocks()), store.all_heads()
    return Right(path.read_bytes(), *found)


def flipped(path: Path, right: Right, chance: random.Random) -> None:
    """Write the file with a few bits flipped: now and then the same byte twice over, or a run of them."""
    data = bytearray(right.file)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        start = chance.randrange(len(data))
        for place in range(start, min(len(data), start + chance.choice((1, 1, 1, 64)))):
            data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def check_nothing_wrong(store: DiskStore, right: Right) -> int:
    """All that the store gives out is right, or it says that it cannot; how many blocks are missing."""
    missing = 0
    for cid, data in right.blocks.items():
        found = store.get(cid)
        assert found is None or found == data
        missing += found is None
    for head in right.heads:
        with suppress(IntegrityError):
            assert store.newest_head(head.address) in (*right.heads, None)
            assert store.head_of(head.address, head.manifest) in (*right.heads, None)
    assert set(store.current_heads()) <= set(right.heads)
    Register(store).follows()  # has nothing to be held against: a flipped letter follows what nobody has
    return missing


def check_sequences(store: DiskStore, right: Right) -> None:
    """A publisher goes on behind its newest head, or says that it cannot."""
    for name in ("main", "other"):
        highest = max(head.sequence for head in right.heads if head.address.name == name)
        with suppress(IntegrityError, UnavailableError):
            head, _ = a_publisher(store).put_many(name, "posts", [{"id": "after"}])
            assert head.sequence > highest


def flip(path: Path, right: Right, chance: random.Random) -> str:
    """One trial; how it went."""
    flipped(path, right, chance)
    try:
        with Disk(path.parent).attached(), closing(DiskStore(path)) as store:
            missing = chance.random() < 0.5 and check_nothing_wrong(store, right)
            found = scrub(store, IDENTITY.peer_id)
            store.put_many(right.blocks.items())  # what an honest peer would send
            for head in right.heads:
                store.put_head(head)
            assert check_nothing_wrong(store, right) == 0 and store.execute("pragma integrity_check") == [("ok",)]
            assert store.all_heads() == sorted(right.heads, key=lambda head: (str(head.address), head.sequence))
            assert scrub(store, IDENTITY.peer_id).is_whole or found.damaged_heads
            check_sequences(store, right)
            return "mended" if missing or found.damaged or found.damaged_heads else "whole"
    except StoreError as error:
        assert error.hint
        return "refused"
    finally:
        for left in path.parent.iterdir():
            left.unlink()


def flips(path: Path, right: Right, seed: int, trials: int) -> dict[str, int]:
    told: dict[str, int] = {}
    chance = random.Random(seed)
    for number in range(trials):
        try:
            how = flip(path, right, chance)
        except BaseException as error:
            error.add_note(f"seed {seed}, trial {number}")
            raise
        told[how] = told.get(how, 0) + 1
    return told


@pytest.mark.parametrize("seed", range(25))
def test_flipped_bits_are_never_given_out(tmp_path: Path, right: Right, seed: int) -> None:
    flips(tmp_path / "store", right, seed, 4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_flipped_bits_are_never_given_out(tmp_path: Path, right: Right, seed: int) -> None:
    told = flips(tmp_path / "store", right, seed, 500)
    assert told["mended"] > 100 and told["refused"] > 0
