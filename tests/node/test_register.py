"""What is remembered of others is bounded: then the oldest is forgotten, and never what was heard last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rhizome_index.index.address import Address
from rhizome_index.limits import PEERS_REMEMBERED_MAX, PROVIDERS_REMEMBERED_MAX
from rhizome_index.node import register as register_module
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.register import Register

DATASET = Address("12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC", "main")
MAX = 8


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    monkeypatch.setattr(register_module, "PEERS_REMEMBERED_MAX", MAX)
    monkeypatch.setattr(register_module, "PROVIDERS_REMEMBERED_MAX", MAX)
    assert min(PEERS_REMEMBERED_MAX, PROVIDERS_REMEMBERED_MAX) > MAX
    store = DiskStore(tmp_path / "store", make=True)
    yield Register(store)
    store.close()


def test_peers_at_the_limit_and_one_past_it(register: Register) -> None:
    for number in range(MAX):
        register.note_peer(f"address {number}", f"peer {number}", float(number + 1))
    assert [peer for _, peer in register.peers()] == [f"peer {number}" for number in reversed(range(MAX))]
    register.note_peer("address 8", "peer 8", 9.0)
    assert [peer for _, peer in register.peers()] == [f"peer {number}" for number in (8, 7, 6, 5, 4, 3)]


def test_hearsay_pushes_nobody_out(register: Register) -> None:
    """However many addresses somebody tells, those where a peer was met stay."""
    for number in range(3):
        register.note_peer(f"address {number}", f"peer {number}", float(number + 1))
    for number in range(50):
        register.note_hearsay(f"hearsay {number}", "nobody")
    met = [peer for _, peer in register.peers() if peer != "nobody"]
    assert met == ["peer 2", "peer 1", "peer 0"] and len(register.peers()) <= MAX


def test_providers_at_the_limit_and_one_past_it(register: Register) -> None:
    for number in range(MAX):
        register.note_provider(DATASET, f"peer {number}", float(number + 1))
    assert len(register.providers(DATASET)) == MAX
    register.note_provider(DATASET, "peer 8", 9.0)
    assert register.providers(DATASET) == [f"peer {number}" for number in (8, 7, 6, 5, 4, 3)]


def test_providers_among_some_and_the_newest_only(register: Register) -> None:
    for number in range(5):
        register.note_provider(DATASET, f"peer {number}", float(number))
    assert register.providers(DATASET, among=["peer 1", "peer 3", "nobody"]) == ["peer 3", "peer 1"]
    assert register.providers(DATASET, among=[]) == []
    assert register.providers(DATASET, most=2) == ["peer 4", "peer 3"]
    assert register.providers(DATASET, among=["peer 1", "peer 3"], most=1) == ["peer 3"]


def test_who_is_absent_comes_last_and_hearsay_of_old_makes_nobody_fresher(register: Register) -> None:
    for number in range(3):
        register.note_provider(DATASET, f"peer {number}", float(number + 1))
    register.note_provider_unseen(DATASET, "peer 0")
    register.note_provider_unseen(DATASET, "peer 3")
    register.note_provider_absent(DATASET, "peer 2")
    register.note_provider_absent(DATASET, "nobody")
    assert register.providers(DATASET) == ["peer 1", "peer 0", "peer 2", "peer 3"]
    assert register.providers(DATASET, most=2) == ["peer 1", "peer 0"]
    register.note_provider(DATASET, "peer 2", 4.0)
    assert register.providers(DATASET, most=1) == ["peer 2"]
