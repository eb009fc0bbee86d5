"""What simulations have found wrong in the node, each as small as it can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import RemoteError, UnavailableError
from rhizome_index.limits import INDEX_ELEMENTS_MAX, INLINE_VALUE_BYTES_MAX, PROVIDERS_MAX, PROVIDERS_WANTED
from rhizome_index.node.cost import Cost
from rhizome_index.node.register import Register
from rhizome_index.simulation.byzantine import Slow, Spoiler, Stale, Sybil, Withholder
from rhizome_index.simulation.cluster import Member
from rhizome_index.simulation.scenario import Simulation, load, run
from rhizome_index.wire import gossip, sync
from tests.simulation.play import broken, play

SOMEBODY = "12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC"


@pytest.mark.parametrize(
    "text", [f"nonsense/p2p/{SOMEBODY}", f"/p2p/{SOMEBODY}", f"/ip4/10.9.9.9/tcp/1/p2p/{SOMEBODY}"]
)
def test_hearsay_that_is_no_address_brings_nobody_down(text: str) -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(20)
        register = publisher.running.peer.register
        register.note_provider(publisher.dataset, SOMEBODY, sim.world.clock())
        register.note_hearsay(text, SOMEBODY)
        follower = await sim.peer("follower", named=[publisher], follows=[publisher])
        await sim.settle()
        assert text in {address for address, _ in follower.running.peer.register.peers()}
        await sim.cluster.stop(follower)
        await sim.cluster.start(follower)
        await sim.settle()

    assert broken(play(main)) == []


@pytest.mark.parametrize("how", ["met", "named"])
def test_a_node_that_starts_offline_finds_its_way_later(how: str) -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(20)
        cut = sim.network.cut([publisher.host])
        await sim.peer("follower", follows=[publisher], **{how: [publisher]})
        await sim.sleep(120)
        sim.network.heal(cut)
        await sim.settle()

    assert broken(play(main)) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_peers_that_are_behind_do_not_keep_a_follower_behind(seed: int) -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(10)
        stale = [Stale(sim.chance) for _ in range(8)]
        behind = [
            await sim.peer(f"stale-{number}", met=[publisher], follows=[publisher], strategy=strategy)
            for number, strategy in enumerate(stale)
        ]
        await sim.sleep(5)
        for strategy in stale:
            strategy.is_stale = True
        await sim.peer("follower", met=[*behind, publisher], follows=[publisher])
        await sim.sleep(5)
        sim.publish_more(publisher, 10)
        await sim.settle()

    assert broken(play(main, seed)) == []


def test_a_first_sync_that_brings_an_older_head_than_an_answer_does_not_go_back() -> None:
    """What is older is kept, for others; whoever asks here waits for what is not older than what he has seen."""

    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(20)
        behind = await sim.peer("behind", met=[publisher], follows=[publisher])
        await sim.sleep(5)
        cuts = [sim.network.cut([behind.host], [publisher.host])]
        sim.publish_more(publisher, 5)
        reader = await sim.peer("reader", named=[publisher, behind])
        store = reader.running.peer.store
        while (seen := store.current_head(publisher.dataset)) is None or seen.sequence < 2:
            await sim.ask(reader, publisher)
        cuts.append(sim.network.cut([reader.host], [publisher.host]))
        sim.cluster.follow(reader, publisher.dataset)
        await sim.sleep(30)
        held = store.held_head(publisher.dataset)
        assert held is not None and held.sequence == 1
        with pytest.raises(UnavailableError, match=r"given from head 2 of .* here is the older head 1"):
            await sim.cluster.ask(reader, sim.question(), publisher.dataset)
        for cut in cuts:
            sim.network.heal(cut)
        await sim.settle()

    assert broken(play(main)) == []


@pytest.mark.slow
def test_thirty_peers_in_heavy_churn_never_go_back() -> None:
    """The seed that has shown it, as far as it takes."""
    chosen = replace(
        load("heavy_churn"), peers=30, minutes=0.2, values={**load("heavy_churn").values, "every_seconds": 4}
    )
    assert broken(run(chosen, 1)) == []


@pytest.mark.slow
def test_a_crowd_carries_itself() -> None:
    """The publisher learns who has its dataset, and newcomers fetch from those too."""

    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(40)
        for number in range(10):
            await sim.peer(f"follower-{number}", met=[publisher], follows=[publisher])
            await sim.sleep(7)
        sent = {host.name: host.counts.bytes_sent for host in sim.network.hosts.values()}
        share = sent["publisher"] / sum(sent.values())
        sim.expect("the crowd carries itself", share < 0.5, f"{share:.2f}")

    assert broken(play(main)) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_peers_that_were_cut_off_together_do_not_stay_behind_together(seed: int) -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(10)
        followers = [await sim.peer(f"follower-{number}", met=[publisher], follows=[publisher]) for number in range(8)]
        await sim.sleep(40)
        cut = sim.network.cut([member.host for member in followers[3:]])
        sim.publish_more(publisher, 1)
        await sim.sleep(60)
        sim.network.heal(cut)
        await sim.settle()

    assert broken(play(main, seed)) == []


@pytest.mark.slow
def test_a_crowd_that_keeps_silent_is_passed_over() -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(20)
        crowd: list[Member] = []
        for number in range(8):
            strategy = Sybil(sim.world.chance("sybil", number), crowd)
            crowd.append(await sim.peer(f"sybil-{number}", met=[publisher], follows=[publisher], strategy=strategy))
        await sim.sleep(20)
        reader = await sim.peer("reader", named=[*crowd, publisher])
        await sim.peer("newcomer", met=[*crowd, publisher], follows=[publisher])
        started = sim.world.now
        page = await sim.ask(reader, publisher)
        sim.expect("the reader is answered", page is not None and sim.world.now < started + 30)
        await sim.settle()

    assert broken(play(main)) == []


@pytest.mark.parametrize("seconds", [4.0, 8.0])
def test_the_only_one_there_is_may_take_its_time(seconds: float) -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(20, strategy=Slow(sim.chance, seconds))
        silent = await sim.peer("silent", met=[publisher], strategy=Withholder(sim.chance))
        await sim.ask(await sim.peer("reader", named=[publisher]), publisher)
        await sim.ask(await sim.peer("other-reader", named=[silent, publisher]), publisher)
        sim.expect("they are answered", not sim.unanswered)

    assert broken(play(main)) == []


def test_what_is_heard_of_others_does_not_wait_for_the_disk() -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(5)
        register = publisher.running.peer.register
        for number in range(PROVIDERS_WANTED):
            peer_id = f"{SOMEBODY[:-2]}{number:02}"
            register.note_provider(publisher.dataset, peer_id, sim.world.clock())
            register.note_hearsay(f"/ip4/10.9.9.{number}/tcp/1/p2p/{peer_id}", peer_id)
        reader = await sim.peer("reader", named=[publisher])
        syncs = reader.host.disk.syncs
        membership = reader.running.peer.membership
        assert membership is not None
        await membership.directory.ask(publisher.peer_id, [publisher.dataset], Cost())
        sim.expect(
            "all are noted", len(reader.running.peer.register.providers(publisher.dataset)) == PROVIDERS_WANTED + 1
        )
        sim.expect("nothing is synced", reader.host.disk.syncs == syncs, f"{reader.host.disk.syncs - syncs} syncs")

    assert broken(play(main)) == []


POST = {"id": "p00000001", "author": "x", "created": 1, "likes": 1, "tags": ["x"], "text": ""}


@pytest.mark.parametrize(
    "value",
    [
        b"\xff",
        b"\xa1bid\x41\xee",
        cbor.encode([1]),
        cbor.encode({}),
        cbor.encode({**POST, "id": None}),
        cbor.encode({**POST, "id": "another"}),
        cbor.encode({**POST, "tags": [str(number) for number in range(INDEX_ELEMENTS_MAX + 1)]}),
        cbor.encode({**POST, "likes": 2}),
    ],
    ids=["no CBOR", "no UTF-8", "no map", "no key", "null key", "other key", "too many tags", "other likes"],
)
def test_a_delta_that_lies_costs_the_peer_its_connection_and_the_head_nothing(value: bytes) -> None:
    class Changer(Spoiler):
        def may_open(self, protocol: str) -> bool:
            return protocol != gossip.PROTOCOL  # else the follower would know before it is asked to look

        async def spoil(self, protocol: str, message: list[Any]) -> list[list[Any]]:
            if protocol == sync.PROTOCOL and message[1] == "blocks":
                name, changes = cbor.decode(message[2][0])
                large = len(value) > INLINE_VALUE_BYTES_MAX
                changed = [[key, cbor.Link(cid_of(value)) if large else value] for key, _ in changes[:1]]
                message[2] = [cbor.encode([name, changed]), *([value] if large else [])]
            return [message]

    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(10)
        liar = await sim.peer("liar", met=[publisher], follows=[publisher], strategy=Changer(sim.chance))
        follower = await sim.peer("follower", met=[publisher, liar], follows=[publisher])
        await sim.sleep(5)
        cut = sim.network.cut([follower.host], [publisher.host])
        sim.publish_more(publisher, 0, edits=1)
        await liar.running.sync(publisher.dataset)
        membership = follower.running.peer.membership
        assert membership is not None and liar.peer_id in membership.swarm.connected_peers
        with pytest.raises(RemoteError):
            await follower.running.sync(publisher.dataset)
        assert liar.peer_id not in membership.swarm.connected_peers
        sim.network.heal(cut)
        await sim.settle()

    assert broken(play(main)) == []


def test_who_names_providers_looks_up_no_more_than_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    newest_addresses = Register.newest_addresses

    def counted(self: Register, peer_ids: Sequence[str]) -> list[str]:
        looked_up.extend(peer_ids)
        return newest_addresses(self, peer_ids)

    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(5)
        register = publisher.running.peer.register
        for number in range(3 * PROVIDERS_MAX):
            peer_id = f"{SOMEBODY[:-2]}{number:02}"
            register.note_provider(publisher.dataset, peer_id, sim.world.clock())
            register.note_hearsay(f"/ip4/10.9.9.{number}/tcp/1/p2p/{peer_id}", peer_id)
        reader = await sim.peer("reader", named=[publisher])
        membership = reader.running.peer.membership
        assert membership is not None
        monkeypatch.setattr(Register, "newest_addresses", counted)
        told = await membership.directory.ask(publisher.peer_id, [publisher.dataset], Cost())
        monkeypatch.undo()
        assert len(told[publisher.dataset].providers) == 1 + PROVIDERS_WANTED  # the first is the publisher itself

    assert broken(play(main)) == []
    assert len(looked_up) == PROVIDERS_WANTED


@pytest.mark.parametrize("seed", range(3))
def test_a_new_head_reaches_everybody_at_once_over_several_peers(seed: int) -> None:
    """Followers in a row, each of which reaches only its neighbours: gossip goes from one to the next, and so do heads.

    Nobody waits for the next pull, though all but the first hear of a head before anybody whom they know has it.
    """

    async def main(sim: Simulation) -> None:
        row = [await sim.publish(20)]
        for number in range(4):
            row.append(await sim.peer(f"follower-{number}", named=[row[-1]], follows=[row[0]]))
            for other in row[:-2]:
                sim.network.cut([row[-1].host], [other.host])
            await sim.sleep(20)
        for _ in range(3):
            sim.publish_more(row[0], 5)
            await sim.sleep(8)
            heads = [member.running.peer.store.held_head(row[0].dataset) for member in row[1:]]
            newest = row[0].running.peer.store.newest_head(row[0].dataset)
            sim.expect("all have it", heads == [newest] * 4, f"{[head and head.sequence for head in heads]}")

    assert broken(play(main, seed)) == []
