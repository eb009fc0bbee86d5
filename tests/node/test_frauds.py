"""Fraud over real libp2p: found by whoever derives, kept, passed on, believed only with its proof."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.api import Node, open_node
from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError
from rhizome_index.index.address import Address
from rhizome_index.index.head import sign_head
from rhizome_index.index.manifest import Manifest
from rhizome_index.node import serve
from rhizome_index.node.cost import Cost
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.publish import Publisher
from rhizome_index.node.register import INDEX, Policy
from rhizome_index.tree.cursor import Cursor
from rhizome_index.tree.edit import edit
from rhizome_index.trust.evidence import Fraud, decode_fraud
from rhizome_index.trust.fraud import CUT, ENTRY, Claim
from rhizome_index.wire import trust as protocol
from tests.node.test_asking import TCP, newest_tagged, publish

QUERY = "first 8 posts tagged #cats"
POLICY = Policy(INDEX, "posts", "by_tag")


@contextmanager
def lying(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever publishes meanwhile leaves an entry out of by_tag."""
    honest = Publisher._publish

    def leave_out(self: Publisher, dataset: str, manifest: Manifest) -> Any:
        collection = manifest.collections["posts"]
        index = collection.indexes["by_tag"]
        (key, *_), _ = self._source.run(Cursor(index.tree).next_entries())
        sink = lambda cid, data: self._store.put_many([(cid, data)])  # noqa: E731
        tree = self._source.run(edit(index.tree, manifest.rule, [(key, None)], sink))
        indexes = collection.indexes.set("by_tag", replace(index, tree=tree))
        return honest(self, dataset, manifest.with_collection(replace(collection, indexes=indexes)))

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "_publish", leave_out)
        yield


@asynccontextmanager
async def a_found_out_publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Node, Node, Address]]:
    """A publisher whose third head lies, and a follower of all who has found that out."""
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "witness", listen=[TCP], peers=publisher.addresses) as witness:
            with trio.fail_after(30):
                witness.follow(address)
                held = await witness.sync(address)
                with lying(monkeypatch):
                    await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
                for _ in range(2):
                    with pytest.raises(
                        IntegrityError, match=r"head 3 .* is refused: the index 'by_tag' of 'posts' has"
                    ):
                        await witness.sync(address)
                assert witness.catalog[address] == held
                yield publisher, witness, address


def proof_in(node: Node) -> Fraud:
    (fraud,) = Frauds(node.peer.store).known()
    return fraud


async def test_a_full_follower_finds_out_and_keeps_the_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_found_out_publisher(tmp_path, monkeypatch) as (publisher, witness, address):
        fraud = proof_in(witness)
        assert fraud.claim is not None and (fraud.claim.kind, fraud.claim.index) == (ENTRY, "by_tag")
        assert len(fraud.encode()) < 50_000 and decode_fraud(fraud.encode()) == fraud
        page = await witness.query(QUERY, address).page()
        assert page.head.sequence == 2 and page.rows == newest_tagged("cats", 8)
        await publisher.collection("posts").put({"id": "newer", "tags": ["cats"], "created": 2**51})
        with pytest.raises(IntegrityError, match=r"head 4 .* is refused"):
            await witness.sync(address)
        assert [fraud.heads[0].sequence for fraud in Frauds(witness.peer.store).known()] == [3, 4]


async def test_a_found_out_head_is_passed_by_once_a_right_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_found_out_publisher(tmp_path, monkeypatch) as (publisher, witness, address):
        await publisher.collection("posts").drop_index("by_tag")
        await publisher.collection("posts").create_index("by_tag", "tags", "-created")
        assert (await witness.sync(address)).sequence == 5
        assert (await witness.query(QUERY, address).page()).rows[0]["id"] == "new"


async def test_who_follows_an_index_is_told_by_who_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is asked for before a head is taken; then it is the one before that is kept, from whomever has it."""
    async with (
        a_found_out_publisher(tmp_path, monkeypatch) as (publisher, witness, address),
        open_node(tmp_path / "other", peers=[*publisher.addresses, *witness.addresses]) as other,
    ):
        other.follow(address, POLICY)
        with pytest.raises(IntegrityError, match=r"head 3 .* is refused"):
            await other.sync(address)
        assert proof_in(other) == proof_in(witness)
        assert (await other.sync(address)).sequence == 2
        with pytest.raises(IntegrityError, match=r"head 3 .* is refused"):
            await other.sync(address)
        page = await other.query(QUERY, address).page()
        assert page.head.sequence == 2 and page.rows == newest_tagged("cats", 8)


async def test_an_answer_from_a_convicted_head_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_found_out_publisher(tmp_path, monkeypatch) as (publisher, witness, address):
        async with open_node(tmp_path / "other", peers=publisher.addresses) as other:
            page = await other.query(QUERY, address).page()
            assert page.head.sequence == 3  # nobody has told
            Frauds(other.peer.store).keep(proof_in(witness))
            with pytest.raises(IntegrityError, match="is refused"):
                await other.query(QUERY, address).page()
        async with open_node(tmp_path / "other") as offline:
            with pytest.raises(IntegrityError, match="is refused"):
                await offline.query(QUERY, address).page()


@pytest.mark.parametrize("forged", ["not so", "another head", "cut off"])
async def test_a_forged_proof_costs_its_sender_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forged: str
) -> None:
    async with a_found_out_publisher(tmp_path, monkeypatch) as (publisher, witness, address):
        fraud = proof_in(witness)
        lies = {
            "not so": replace(fraud, blocks=(_other_claim(fraud), *fraud.blocks[1:])),
            "another head": fraud,
            "cut off": replace(fraud, blocks=fraud.blocks[:-1]),
        }
        await publisher.collection("posts").drop_index("by_tag")
        monkeypatch.setattr(serve.Frauds, "of", lambda self, manifest: lies[forged])
        async with open_node(tmp_path / "other", peers=witness.addresses) as other:
            membership = other.peer.joined()
            newest = publisher.peer.store.newest_head(address)
            assert newest is not None
            about = fraud.heads[0] if forged != "another head" else newest
            peers = membership.swarm.connected_peers
            assert peers == (witness.peer_id,)
            await membership.inquirer.ask(about, peers, Cost())
            assert Frauds(other.peer.store).known() == []
            assert membership.swarm.connected_peers == ()


def _other_claim(fraud: Fraud) -> bytes:
    body = cbor.decode(fraud.blocks[0])
    return cbor.encode(body | {"claim": Claim(CUT, "posts", "by_tag", b"", 0).body()})


async def test_a_peer_that_does_not_speak_of_trust_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PROTOCOL", "/rhizome/trust/0")
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        monkeypatch.setattr(protocol, "PROTOCOL", "/rhizome/trust/1")
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            reader.follow(address, POLICY)
            assert (await reader.sync(address)).sequence == 2


async def test_two_heads_of_one_sequence_are_evidence(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher") as publisher:
        await publish(publisher)
        (head,) = publisher.catalog.values()
        other = sign_head(
            publisher.peer.keys.key(publisher.peer_id),
            "main",
            head.sequence,
            head.manifest[:-1] + bytes([head.manifest[-1] ^ 1]),
            1,
        )
        publisher.peer.store.put_head(other)
        fraud = proof_in(publisher)
        assert fraud.claim is None and {one.envelope for one in fraud.heads} == {head.envelope, other.envelope}
