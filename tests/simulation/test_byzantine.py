"""Strategies spoil what they say they spoil, and nothing else."""

from __future__ import annotations

from rhizome_index.node.swarm import StreamHandler
from rhizome_index.node.tally import IN, OUT
from rhizome_index.simulation.byzantine import SERVED, Spoiler
from rhizome_index.simulation.scenario import Simulation
from rhizome_index.wire import gossip, kad
from tests.simulation.play import broken, play


def test_every_protocol_of_ours_can_be_spoiled() -> None:
    spoken: set[str] = set()

    class Listener(Spoiler):
        def handler(self, protocol: str, handler: StreamHandler) -> StreamHandler | None:
            spoken.add(protocol)
            return super().handler(protocol, handler)

    async def main(sim: Simulation) -> None:
        await sim.publish(5, strategy=Listener(sim.chance))

    assert broken(play(main)) == []
    assert spoken - {gossip.PROTOCOL, kad.PROTOCOL} == set(SERVED)


def test_who_spoils_answers_still_gossips() -> None:
    """A peer that is dropped at its first word of gossip would spoil nothing."""

    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(5)
        spoiler = await sim.peer("spoiler", met=[publisher], follows=[publisher], strategy=Spoiler(sim.chance))
        follower = await sim.peer("follower", named=[spoiler], follows=[publisher])
        sim.network.cut([publisher.host], [follower.host])
        await sim.sleep(20)
        membership = follower.running.peer.membership
        assert membership is not None and spoiler.peer_id in membership.swarm.connected_peers
        streams = membership.swarm.tally.streams
        assert streams[gossip.PROTOCOL, IN] and streams[gossip.PROTOCOL, OUT]
        sim.publish_more(publisher, 5)
        await sim.sleep(3)
        held = follower.running.peer.store.held_head(publisher.dataset)
        assert held is not None and held.sequence == 2

    assert broken(play(main)) == []
