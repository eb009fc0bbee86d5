"""Attestations over libp2p: whose word counts, what happens where words differ, and that damage brings nobody's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from rhizome_index.api import Node, open_node
from rhizome_index.errors import IntegrityError, UnprovenError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Identity
from rhizome_index.limits import ATTESTATIONS_KEPT_MAX
from rhizome_index.node import attested as attested_module
from rhizome_index.node import serve
from rhizome_index.node.attested import Attestations, Word
from rhizome_index.node.cost import Cost
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.register import INDEX, Policy
from rhizome_index.tree.node import EMPTY_TREE
from rhizome_index.trust.attest import Attestation, attest
from rhizome_index.trust.evidence import decode_fraud
from rhizome_index.trust.ladder import ATTESTED, PROVEN, Derivation, Standing
from tests.node.test_asking import TCP, newest_tagged, publish
from tests.node.test_frauds import lying

QUERY = "first 8 posts tagged #cats"
ROWS = newest_tagged("cats", 8)


@asynccontextmanager
async def a_swarm(
    tmp_path: Path, networks: Sequence[int], policy: Policy | None = None
) -> AsyncIterator[tuple[Node, Address, list[Node]]]:
    """A reader, and a dataset that is followed on these networks; its publisher is on network 1."""
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:

            async def join(name: str, network: int, peers: Sequence[str] = ()) -> Node:
                listen = [f"/ip4/127.{network}.0.1/tcp/0"]
                return await stack.enter_async_context(open_node(tmp_path / name, listen=listen, peers=peers))

            publisher = await join("publisher", 1)
            await publish(publisher)
            address = publisher.peer.publisher.address("main")
            followers = []
            for number, network in enumerate(networks):
                follower = await join(f"follower-{number}", network, publisher.addresses)
                follower.follow(address, policy)
                await follower.sync(address)
                followers.append(follower)
            addresses = [*publisher.addresses, *(text for one in followers for text in one.addresses)]
            yield await join("reader", 1, addresses), address, followers


async def words_of(reader: Node, address: Address) -> dict[str, str | None]:
    found = await reader.attested(address, "posts", "by_tag")
    return {word.attestation.peer_id: word.network for word in found.words}


async def test_peers_that_made_an_index_attest_it(tmp_path: Path) -> None:
    async with a_swarm(tmp_path, [2, 3, 4]) as (reader, address, followers):
        page = await reader.query(QUERY, address).page()
        assert page.proof == "L1"
        page = await reader.query(QUERY, address, require="L2").page()
        assert page.proof == "L2" and page.rows == ROWS and "which 3 peers on as many" in page.standing.proven
        assert await words_of(reader, address) == {
            follower.peer_id: f"127.{network}.0.0/16" for network, follower in zip([2, 3, 4], followers, strict=True)
        }
        with pytest.raises(UnprovenError, match="is L2 only, and L2:4 is required"):
            await reader.query(QUERY, address, require="L2:4").page()
        page = await reader.query('all posts where id = "p00000003"', address, require="L2").page()
        assert page.proof == "L2"
    async with open_node(tmp_path / "reader") as reader:  # kept
        assert (await reader.query(QUERY, address, require="L2").page()).rows == ROWS


async def test_peers_on_one_network_count_once(tmp_path: Path) -> None:
    async with a_swarm(tmp_path, [2, 2, 3]) as (reader, address, _):
        with pytest.raises(UnprovenError, match="is L2 only, and L2:3 is required"):
            await reader.query(QUERY, address, require="L2").page()
        page = await reader.query(QUERY, address, require="L2:2").page()
        assert page.standing == Standing(ATTESTED, attesters=2) and len(await words_of(reader, address)) == 3


async def test_one_peer_is_not_enough_and_the_publisher_does_not_count(tmp_path: Path) -> None:
    async with a_swarm(tmp_path, [2]) as (reader, address, _):
        with pytest.raises(UnprovenError, match="is L1 only, and L2:2 is required"):
            await reader.query(QUERY, address, require="L2:2").page()


async def test_who_was_given_an_index_attests_nothing(tmp_path: Path) -> None:
    async with a_swarm(tmp_path, [2, 3], Policy(INDEX, "posts", "by_tag")) as (reader, address, _):
        assert await words_of(reader, address) == {}


@pytest.mark.parametrize("is_forged", [False, True])
async def test_where_words_differ_none_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_forged: bool) -> None:
    async with a_swarm(tmp_path, [2, 3, 4]) as (reader, address, followers):
        liar = followers[0].peer_id

        def lie(signer: Identity, derivation: Derivation) -> Attestation:
            if signer.peer_id != liar:
                return attest(signer, derivation)
            if is_forged:  # in another's name
                return attest(Identity(b"somebody".ljust(32)), derivation)
            return attest(signer, replace(derivation, tree=EMPTY_TREE))

        swarm, dropped = reader.peer.joined().swarm, list[str]()
        disconnect = swarm.disconnect

        async def drop(peer_id: str, *, for_cause: bool) -> None:
            assert for_cause
            dropped.append(peer_id)
            await disconnect(peer_id, for_cause=for_cause)

        with monkeypatch.context() as patched:
            patched.setattr(serve, "attest", lie)
            patched.setattr(swarm, "disconnect", drop)
            found = await reader.attested(address, "posts", "by_tag")
        if is_forged:  # it is no word at all, and has cost the peer its connection
            assert found.standing == Standing(ATTESTED, attesters=2) and len(found.words) == 2
            assert dropped == [liar]
            return
        assert found.standing == Standing(PROVEN, is_disputed=True) and len(found.words) == 3 and not dropped
        with pytest.raises(UnprovenError, match="peers attest different ones, of which one at most is right"):
            await reader.query(QUERY, address, require="L2:2").page()
        await reader.audit(address, "posts", "by_tag", bad_fraction=0.05)
        page = await reader.query(QUERY, address, require="L2:16").page()  # what is proven needs nobody's word
        assert page.proof == "L3"


async def test_who_attests_what_is_proven_wrong_is_convicted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = Identity(b"liar".ljust(32))
    async with (
        open_node(tmp_path / "publisher", listen=[TCP]) as publisher,
        open_node(tmp_path / "reader", listen=[TCP], peers=publisher.addresses) as reader,
        open_node(tmp_path / "other", peers=reader.addresses) as other,
    ):
        with trio.fail_after(60):
            await publish(publisher)
            with lying(monkeypatch):
                await publisher.collection("posts").put({"id": "new", "tags": ["cats"], "created": 2**50})
            address = publisher.peer.publisher.address("main")
            found = await reader.attested(address, "posts", "by_tag")
            words = Attestations(reader.peer.store)
            words.keep(Word(attest(liar, found.derivation), "10.0.0.0/16"))
            assert len(words.about(found.derivation.given)) == 1
            reader.follow(address)
            with pytest.raises(IntegrityError, match="is refused"):
                await reader.sync(address)
            (fraud,) = Frauds(reader.peer.store).known()
            assert [one.peer_id for one in fraud.attestations] == [liar.peer_id]
            assert decode_fraud(fraud.encode()) == fraud and not words.about(found.derivation.given)
            with pytest.raises(IntegrityError, match="is refused"):
                await other.peer.joined().inquirer.ask(found.head, [reader.peer_id], Cost())
            told = Attestations(other.peer.store)
            told.keep(Word(attest(liar, Derivation(bytes(32), EMPTY_TREE, ())), "10.0.0.0/16"))
            assert not told.about(bytes(32))


async def test_what_is_kept_is_bounded_and_damage_brings_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attested_module, "ATTESTATIONS_KEPT_MAX", 8)
    assert ATTESTATIONS_KEPT_MAX > 8
    store = DiskStore(tmp_path / "store.sqlite", make=True)
    kept, derivation = Attestations(store), Derivation(bytes(32), EMPTY_TREE, ())
    for number in range(10):
        said = attest(Identity(bytes([number]) * 32), derivation)
        kept.keep(Word(said, f"10.{number // 2}.0.0/16"))
    assert len(kept.about(derivation.given)) == 8 and kept.standing(derivation).attesters == 4
    rows: list[Any] = store.execute("select id, cast(word as blob) from attestations")
    for number, (row, data) in enumerate(rows):
        at = number * 37 % len(data)
        damaged = data[:at] + bytes([data[at] ^ 1 << number % 8]) + data[at + 1 :]
        store.execute("update attestations set word = ? where id = ?", (damaged, row))
        assert len(kept.about(derivation.given)) == 7 - number
        assert kept.standing(derivation).attesters <= 4
    store.close()
