"""What simulations have found wrong in the node, each as small as it can be."""

from __future__ import annotations

import pytest

from rhizome_index.simulation.scenario import Simulation
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
