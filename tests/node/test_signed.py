"""What was signed last is known though the newest head is lost; what is damaged of it says nothing that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rhizome_index.errors import RhizomeError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity, sign_head
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.scrub import scrub
from rhizome_index.node.signed import Signed

IDENTITY = Identity(b"d" * 32)
ADDRESS = Address(IDENTITY.peer_id, "main")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path / "store", make=True)) as made:
        yield made


def a_publisher(store: DiskStore) -> Publisher:
    return Publisher(store, IDENTITY, lambda: 1_700_000_000.0)


def two_heads(store: DiskStore) -> None:
    for number in range(2):
        a_publisher(store).put_many("main", "posts", [{"id": f"p{number}"}], Declaration())


@pytest.mark.parametrize("column", ["sequence", "digest"])
def test_no_bit_of_a_row_makes_another_number_of_it(store: DiskStore, column: str) -> None:
    signed = Signed(store)
    signed.note(sign_head(IDENTITY, "main", 5, bytes(36), 0))
    assert signed.last(ADDRESS) == 5 and signed.addresses() == [ADDRESS]
    ((before,),) = store.execute(f"select {column} from signed")
    for bit in range(63):
        if isinstance(before, int):
            changed: int | bytes = before ^ 1 << bit
        else:
            changed = (int.from_bytes(before, "big") ^ 1 << bit).to_bytes(len(before), "big")
        store.execute(f"update signed set {column} = ?", (changed,))
        assert signed.last(ADDRESS) == 0


def test_what_was_noted_before_there_were_digests_is_still_known(store: DiskStore) -> None:
    store.execute("insert into signed (dataset, sequence) values (?, 7)", (str(ADDRESS),))
    assert Signed(store).last(ADDRESS) == 7


def test_a_damaged_number_does_not_make_of_the_newest_head_an_old_one(store: DiskStore) -> None:
    """Two flipped to three: nobody has a third head, so nobody could have brought it back."""
    two_heads(store)
    store.execute("update signed set sequence = 3")
    assert scrub(store, IDENTITY.peer_id).is_whole
    head, _ = a_publisher(store).put_many("main", "posts", [{"id": "after"}])
    assert head.sequence == 3 and Signed(store).last(ADDRESS) == 3


def test_a_sequence_whose_head_is_lost_is_not_signed_again(store: DiskStore) -> None:
    two_heads(store)
    store.execute("delete from heads where sequence = 2")
    with pytest.raises(RhizomeError):
        a_publisher(store).put_many("main", "posts", [{"id": "after"}])
