"""The words of a dataset: those of the head that is answered from, as far as they are here."""

from __future__ import annotations

from pathlib import Path

from rhizome_index.api import open_node
from rhizome_index.index.address import Address
from rhizome_index.node.vocabulary import LocalVocabulary
from tests.node.test_asking import TCP, publish


async def test_of_a_dataset_that_is_here(tmp_path: Path) -> None:
    async with open_node(tmp_path) as node:
        await publish(node)
        words = LocalVocabulary(node.peer.store, node.peer.publisher.address("main"))
        assert list(words.collections()) == ["posts"] and list(words.indexes("posts")) == ["by_tag"]
        assert list(words.paths("posts")) == ["author", "created", "id", "likes", "tags", "text"]
        assert "cats" in words.values("posts", "tags", "ca") and words.values("posts", "likes", None) == []
        assert not words.paths("nothing") and not words.indexes("nothing") and not words.values("nothing", "a", None)
        await node.collection("posts").put({"id": "p0", "tags": ["caterpillars"], "created": 1, "new": 1})
        await node.collection("more").create()
        assert list(words.collections()) == ["more", "posts"]
        assert "caterpillars" in words.values("posts", "tags", "ca") and "new" in words.paths("posts")


async def test_of_what_is_not_here(tmp_path: Path) -> None:
    async with open_node(tmp_path / "publisher", listen=[TCP]) as publisher:
        await publish(publisher)
        address = publisher.peer.publisher.address("main")
        async with open_node(tmp_path / "reader", peers=publisher.addresses) as reader:
            for place in (None, address, Address(address.publisher, "other")):
                words = LocalVocabulary(reader.peer.store, place)
                assert not words.collections() and not words.paths("posts") and not words.values("posts", "tags", "")
            await reader.manifest(address)
            words = LocalVocabulary(reader.peer.store, address)
            assert list(words.collections()) == ["posts"] and "tags" in words.paths("posts")
            assert "likes" not in words.paths("posts") and not words.values("posts", "tags", "ca")
