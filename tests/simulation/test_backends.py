"""The same scenarios, checkers and verdicts on every backend."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from rhizome_index.cli.main import cli
from rhizome_index.errors import UsageError
from rhizome_index.limits import DIAL_TIMEOUT_SECONDS
from rhizome_index.simulation.backends import SIMULATED, backend
from rhizome_index.simulation.byzantine import Spoiler
from rhizome_index.simulation.scenario import Simulation, adapt, known, load, run
from rhizome_index.wire import want
from tests.simulation.play import broken, play

LIBP2P = "libp2p"
ASK_NOBODY = {"eclipse", "flash_crowd"}  # they are about heads


def verdicts(name: str, on: str, peers: int | None = None, **values: str) -> dict[str, bool]:
    """What holds. What there was to check differs with how soon things happen, but for the answers."""
    report = run(adapt(load(name), peers=peers, minutes=None, values=values), 1, on=on)
    checked = {verdict.promise: verdict.checked for verdict in report.verdicts}
    assert bool(checked["every answer equals the model's"]) == (name not in ASK_NOBODY)
    assert checked["heads never go back"] or name not in ASK_NOBODY
    return {verdict.promise: verdict.holds for verdict in report.verdicts}


@pytest.mark.parametrize("name", ["cold_start", "publisher_offline"])
def test_four_hosts_with_the_real_stack(name: str) -> None:
    values = {"posts": "20", **({"followers": "1"} if name == "publisher_offline" else {})}
    found = verdicts(name, LIBP2P, 4, **values)
    assert all(found.values()) and found == verdicts(name, SIMULATED, 4, **values)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cold_start", "publisher_offline"])
def test_fifty_hosts_with_the_real_stack(name: str) -> None:
    found = verdicts(name, LIBP2P, 50)
    assert all(found.values()) and found == verdicts(name, SIMULATED, 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", known())
def test_every_scenario_keeps_its_promises_with_the_real_stack(name: str) -> None:
    found = verdicts(name, LIBP2P)
    assert all(found.values()) and found == verdicts(name, SIMULATED)


def test_the_real_stack_meets_the_weather_of_the_simulated_network() -> None:
    """Across a cut nothing passes, nobody is dialled, and what is healed works again."""

    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(10)
        reader = await sim.peer("reader", named=[publisher])
        assert await sim.ask(reader, publisher) is not None
        cut = sim.network.cut([publisher.host])
        sim.publish_more(publisher, 1)
        started = sim.world.now
        late = await sim.peer("late", named=[publisher])
        assert sim.world.now - started == pytest.approx(DIAL_TIMEOUT_SECONDS, abs=1)
        assert late.running.unreachable
        assert await sim.ask(late, publisher) is None
        sim.network.heal(cut)
        follower = await sim.peer("follower", met=[publisher], follows=[publisher])
        await sim.settle()
        membership = follower.running.peer.membership
        assert membership is not None and membership.swarm.connected_peers == (publisher.peer_id,)
        sent = publisher.host.counts.bytes_sent
        told = sum(membership.swarm.tally.bytes_received.values())
        assert sent > told > 0  # handshakes, headers and tags travel, too

    assert broken(play(main, on=LIBP2P)) == []


def test_who_cannot_be_dialled_can_dial_with_the_real_stack() -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(10)
        home = await sim.peer("home", named=[publisher], follows=[publisher], place=sim.place(is_dialable=False))
        assert home.running.addresses == () and publisher.running.addresses == (publisher.host.address,)
        await sim.settle()
        other = await sim.peer("other", named=[home])
        assert other.running.unreachable

    assert broken(play(main, on=LIBP2P)) == []


def test_a_handler_that_fails_is_noticed_with_the_real_stack() -> None:
    class Failing(Spoiler):
        is_honest = True

        async def spoil(self, protocol: str, message: Any) -> Any:
            if protocol == want.PROTOCOL:
                raise KeyError("planted")
            return [message]

    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(10, strategy=Failing(sim.chance))
        await sim.peer("follower", met=[publisher], follows=[publisher])
        await sim.sleep(5)
        await sim.cluster.stop(publisher)

    assert any("nothing crashed" in text and "planted" in text for text in broken(play(main, on=LIBP2P)))


def test_the_command_names_its_backend() -> None:
    words = ["simulate", "cold_start", "--peers", "2", "--set", "posts=5", "--backend", LIBP2P]
    done = CliRunner().invoke(cli, [*words, "--json"])
    assert done.exit_code == 0 and f"--backend {LIBP2P}" in json.loads(done.stdout)["replay"]
    done = CliRunner().invoke(cli, [*words, "--sweep", "peers=1,2"])
    assert isinstance(done.exception, UsageError)


def test_there_is_no_such_backend() -> None:
    with pytest.raises(UsageError, match="no backend called"):
        backend("other")
