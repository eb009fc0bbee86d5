"""What a store believes of keys that sign in place of others: the first word, in whatever order it hears."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import pytest

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import IntegrityError, StoreError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Delegation, Head, Identity, delegate, sign_head
from rhizome_index.limits import DELEGATIONS_MAX
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.register import Follow, Policy, Register
from tests.node.older import before

OLD, NEW, NEWER, THIEF = (Identity(bytes([number]) * 32) for number in range(4))
MAIN, OTHER = Address(OLD.peer_id, "main"), Address(OLD.peer_id, "other")
TO_NEW = delegate(OLD, None, 5, NEW.public_key)
TO_NEWER = delegate(NEW, MAIN, 7, NEWER.public_key)
TO_THIEF = delegate(OLD, None, 4, THIEF.public_key)


def a_head(
    sequence: int, key: Identity = OLD, chain: Sequence[Delegation] = (), name: str = "main", of: str = "honest"
) -> Head:
    return sign_head(key, name, sequence, cid_of(f"{of} {sequence}".encode()), sequence, None, chain)


HONEST = [
    a_head(1),
    a_head(4),
    a_head(5, NEW, [TO_NEW]),
    a_head(6, NEW, [TO_NEW]),
    a_head(7, NEWER, [TO_NEW, TO_NEWER]),
]
STOLEN = [a_head(6, of="thief"), a_head(99, of="thief"), a_head(98, NEW, [TO_NEW], of="thief of the second key")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    store = DiskStore(tmp_path / "store", make=True)
    yield store
    store.close()


def test_whatever_comes_first_old_keys_are_not_believed_any_more(store: DiskStore) -> None:
    """Many orders of heads: of the publisher, and of somebody who has the keys that were replaced."""
    store.execute("pragma synchronous = off")
    for order in list(permutations([HONEST[0], HONEST[2], HONEST[4], *STOLEN]))[::11]:
        store.execute("delete from heads; delete from delegations")
        for head in order:
            store.put_head(head)
        assert store.newest_head(MAIN) == HONEST[4]
        assert store.current_heads() == [HONEST[4]]
        evidence = store.equivocation(MAIN)
        assert evidence is not None and evidence[0] == HONEST[4] and evidence[1] in STOLEN
        assert evidence[0].contradicts(evidence[1])
        for head in STOLEN:
            assert store.head_of(MAIN, head.manifest) is None and store.successions.disowns(head)


def test_honest_heads_are_no_evidence(store: DiskStore) -> None:
    for head in (*HONEST, *HONEST[::-1]):
        store.put_head(head)
    assert store.equivocation(MAIN) is None and store.newest_head(MAIN) == HONEST[4]
    assert store.all_heads() == HONEST


def test_of_disowned_heads_one_is_kept(store: DiskStore) -> None:
    store.put_head(HONEST[4])
    for sequence in range(10, 20):
        store.put_head(a_head(sequence, of="thief"))
    assert [head.sequence for head in store.all_heads()] == [7, 10]


def test_the_first_word_counts(tmp_path: Path) -> None:
    """Whoever heard of the thief's successor first goes on believing it; but either way there is evidence."""
    stolen, honest = a_head(9, THIEF, [TO_THIEF], of="thief"), HONEST[2]
    for number, order in enumerate(((honest, stolen), (stolen, honest))):
        store = DiskStore(tmp_path / str(number), make=True)
        for head in (HONEST[0], *order):
            store.put_head(head)
        assert store.newest_head(MAIN) == order[0] and store.equivocation(MAIN) == order
        store.close()


def test_a_word_about_all_datasets_counts_for_those_that_were_not_heard_of(store: DiskStore) -> None:
    before, stolen = a_head(3, name="other"), a_head(5, name="other", of="thief")
    store.put_head(HONEST[2])
    for head in (before, stolen):
        store.put_head(head)
    assert store.newest_head(OTHER) == before
    after = a_head(5, NEW, [TO_NEW], name="other")
    store.put_head(after)
    assert store.newest_head(OTHER) == after and store.equivocation(OTHER) == (after, stolen)


def test_a_word_about_one_dataset_counts_for_that_one(store: DiskStore) -> None:
    alone = delegate(OLD, MAIN, 5, NEW.public_key)
    for head in (a_head(5, NEW, [alone]), a_head(9, name="other"), a_head(9, of="thief")):
        store.put_head(head)
    assert [head.sequence for head in store.current_heads()] == [5, 9]


def test_what_was_held_with_a_stolen_key_is_let_go(store: DiskStore) -> None:
    Register(store).follow(Follow(MAIN, Policy()))
    store.set_held(STOLEN[1])
    assert store.current_head(MAIN) == STOLEN[1]
    store.put_head(HONEST[2])
    assert store.held_head(MAIN) is None and not store.is_held(MAIN) and store.current_head(MAIN) == HONEST[2]
    with pytest.raises(IntegrityError, match="a key that was replaced"):
        store.set_held(STOLEN[0])
    store.set_held(HONEST[2])
    store.put_head(HONEST[4])
    assert store.held_head(MAIN) == HONEST[2]  # it was right when it was signed


def test_a_head_held_lawfully_by_an_older_key_is_kept(store: DiskStore) -> None:
    store.set_held(HONEST[1])
    store.put_head(HONEST[2])
    assert store.held_head(MAIN) == HONEST[1]


def test_what_is_damaged_is_not_believed_and_can_be_learnt_again(store: DiskStore) -> None:
    store.put_head(HONEST[2])
    for wrong in (b"", b"\x80", TO_NEW.signature):
        store.execute("update delegations set delegation = ?", (wrong,))
        assert store.successions.said_by([OLD.public_key]) == []
        store.put_head(HONEST[3])
        assert store.successions.said_by([OLD.public_key]) == [TO_NEW]


def test_a_store_of_an_older_version_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store"
    with before(monkeypatch, "create table delegations"):
        older = DiskStore(path, make=True)
        head = HONEST[0]
        older.execute(
            "insert into heads values (?, ?, ?, ?)", (str(head.address), head.sequence, head.manifest, head.envelope)
        )
        older.close()
    store = DiskStore(path)
    assert store.newest_head(MAIN) == HONEST[0]
    for head in (HONEST[2], STOLEN[1]):
        store.put_head(head)
    assert store.newest_head(MAIN) == HONEST[2]
    store.close()


# --- publishing ---


class Ring:
    """Several keys, of which the first is the publisher's."""

    def __init__(self, *keys: Identity) -> None:
        self.peer_id = keys[0].peer_id
        self._keys = {key.peer_id: key for key in keys}

    def key(self, peer_id: str) -> Identity:
        if peer_id not in self._keys:
            raise UsageError(f"no key {peer_id}")
        return self._keys[peer_id]


MANY = [Identity(bytes([40 + number]) * 32) for number in range(DELEGATIONS_MAX + 2)]


def a_publisher(store: DiskStore, *keys: Identity) -> Publisher:
    publisher = Publisher(store, Ring(*keys), lambda: 1_700_000_000.0)
    for name in ("main", "other"):
        publisher.put_many(name, "c", [{"id": 1}], Declaration())
    return publisher


def put(publisher: Publisher, dataset: str, number: int) -> Head:
    return publisher.put_many(dataset, "c", [{"id": number}], Declaration())[0]


def test_a_new_key_signs_all_datasets(store: DiskStore) -> None:
    publisher = a_publisher(store, OLD, NEW)
    put(publisher, "main", 2)
    before = {head.address: head for head in store.current_heads()}
    heads = publisher.rotate(NEW.public_key)
    assert [(head.address, head.sequence) for head in heads] == [(MAIN, 3), (OTHER, 3)]
    for head in (*heads, put(publisher, "main", 3), put(publisher, "new", 1)):
        assert head.signer == NEW.public_key and head.address.publisher == OLD.peer_id and head.sequence >= 3
        assert head.manifest == before.get(head.address, head).manifest or head.sequence > 3
    assert store.equivocation(MAIN) is None and store.equivocation(OTHER) is None


def test_a_new_key_signs_one_dataset(store: DiskStore) -> None:
    publisher = a_publisher(store, OLD, NEW, NEWER)
    (head,) = publisher.rotate(NEW.public_key, "main")
    assert (head.signer, head.sequence) == (NEW.public_key, 2) and put(publisher, "other", 2).signer == OLD.public_key
    with pytest.raises(UsageError, match=r"given rhizome:.*/main away alone"):
        publisher.rotate(NEWER.public_key)
    (head,) = publisher.rotate(NEWER.public_key, "main")
    assert head.signer == NEWER.public_key and len(head.delegations) == 2
    (head,) = publisher.rotate(NEWER.public_key, "other")
    assert head.signer == NEWER.public_key and len(head.delegations) == 1
    with pytest.raises(UsageError, match="nothing was published as"):
        publisher.rotate(NEW.public_key, "nothing")


def test_all_and_then_one(store: DiskStore) -> None:
    publisher = a_publisher(store, OLD, NEW, NEWER)
    publisher.rotate(NEW.public_key)
    publisher.rotate(NEWER.public_key, "main")
    assert put(publisher, "main", 2).signer == NEWER.public_key and put(publisher, "other", 2).signer == NEW.public_key


def test_a_key_is_replaced_as_often_as_may_be_and_once_more(store: DiskStore) -> None:
    publisher = a_publisher(store, *MANY)
    for number in range(1, DELEGATIONS_MAX + 1):
        assert all(len(head.delegations) == number for head in publisher.rotate(MANY[number].public_key))
    with pytest.raises(UsageError, match=f"replaced {DELEGATIONS_MAX} times"):
        publisher.rotate(MANY[-1].public_key)
    head = put(publisher, "main", 2)
    assert head.signer == MANY[DELEGATIONS_MAX].public_key and store.newest_head(head.address) == head


def interrupted(*_: object) -> Head:
    raise KeyboardInterrupt


def test_a_rotation_is_whole_or_not_at_all(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = a_publisher(store, OLD, NEW)
    heads = store.all_heads()
    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "_sign", interrupted)
        with pytest.raises(KeyboardInterrupt):
            publisher.rotate(NEW.public_key)
    assert store.all_heads() == heads and store.successions.said_by([OLD.public_key]) == []
    assert put(publisher, "main", 2).signer == OLD.public_key


def test_a_dataset_whose_newest_head_is_lost_is_not_given_away(store: DiskStore) -> None:
    publisher = a_publisher(store, OLD, NEW)
    put(publisher, "main", 2)
    store.execute("delete from heads where sequence = 2")
    with pytest.raises(StoreError, match="is lost"):
        publisher.rotate(NEW.public_key)
    assert store.successions.said_by([OLD.public_key]) == []


def test_a_publisher_without_the_new_key_does_not_sign_with_the_old_one(store: DiskStore) -> None:
    a_publisher(store, OLD, NEW).rotate(NEW.public_key)
    with pytest.raises(UsageError, match=f"no key {NEW.peer_id}"):
        put(Publisher(store, Ring(OLD), lambda: 0.0), "main", 2)


def test_keys_that_replace_each_other_without_an_end(store: DiskStore) -> None:
    """Each of them is somebody's: who has given away all that he signs, and got it back."""
    with store.transaction():
        for word in (TO_NEW, delegate(NEW, None, 6, OLD.public_key)):
            store.successions.learn(word)
    with pytest.raises(UsageError, match="without an end"):
        a_publisher(store, OLD, NEW)
