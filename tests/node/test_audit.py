"""Audits over libp2p: what they prove is kept and shown, what they find is proven, what is withheld proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from rhizome_index.api import Node, open_node
from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.publish import Publisher
from rhizome_index.node.serve import Server
from rhizome_index.trust.fraud import ENTRY
from tests.node.test_asking import TCP, newest_tagged, publish
from tests.node.test_frauds import lying

QUERY = "first 8 posts tagged #cats"


async def test_an_audit_raises_what_is_proven_of_answers(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "auditor", peers=publisher.addresses) as auditor:
            with trio.fail_after(30):
                found = await auditor.audit(address, "posts", "by_tag", bad_fraction=0.1)
                assert found.records == 400 and 0 < found.record_samples < 60 and found.cost.bytes_received > 0
                assert found.escape_records <= 0.01 and found.escape_entries <= 0.01
                page = await auditor.query(QUERY, address, require="L3").page()
                assert (page.rows, page.proof) == (newest_tagged("cats", 8), "L3")
                assert "less than 10% wrong, with 99% confidence" in page.standing.proven
                await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
                assert (await auditor.query(QUERY, address).page()).proof == "L1"
        async with open_node(tmp_path / "auditor") as again:
            assert (await again.query(QUERY, address).page()).head.sequence == 3


async def test_what_an_audit_finds_is_proven_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        with lying(monkeypatch):
            await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "auditor", peers=publisher.addresses) as auditor:
            with trio.fail_after(30):
                with pytest.raises(IntegrityError, match=r"is refused: the index 'by_tag' of 'posts' has no entry"):
                    await auditor.audit(address, "posts", "by_tag", confidence=0.999999, bad_fraction=0.0001)
                (fraud,) = Frauds(auditor.peer.store).known()
                assert fraud.claim is not None and fraud.claim.kind == ENTRY
                with pytest.raises(IntegrityError, match="is refused"):
                    await auditor.query(QUERY, address).page()


async def test_what_is_withheld_leaves_an_audit_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        manifest = publisher.peer.publisher.manifest("main")
        hidden = manifest.collections["posts"].primary.root
        given = Server._get_wanted
        monkeypatch.setattr(
            Server, "_get_wanted", lambda self, want, name: None if name == hidden else given(self, want, name)
        )
        async with open_node(tmp_path / "auditor", peers=publisher.addresses) as auditor:
            with trio.fail_after(30):
                with pytest.raises(UnavailableError, match="could not be finished, so it proves nothing"):
                    await auditor.audit(address, "posts", "by_tag")
                assert (await auditor.query(QUERY, address).page()).proof == "L1"


async def test_what_is_here_is_audited_here(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        address = Publisher(node.peer.store, node.peer.keys, node.peer.clock).address("main")
        found = await node.audit(address, "posts", "by_tag")
        assert found.cost.bytes_received == 0 and await proof_of(node) == "L5"
        node.peer.store.execute("delete from proven")
        assert await proof_of(node) == "L1"
        await node.audit(address, "posts", "by_tag")
        assert await proof_of(node) == "L3"
        for collection, index in (("posts", "by_likes"), ("none", "by_tag")):
            with pytest.raises(UsageError):
                await node.audit(address, collection, index)


async def proof_of(node: Node) -> str:
    return (await node.query(QUERY).page()).proof
