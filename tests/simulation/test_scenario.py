"""How scenarios are found, changed and run, and what the command says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rhizome_index.cli.main import cli
from rhizome_index.errors import UsageError
from rhizome_index.simulation.scenario import Simulation, adapt, known, load
from tests.simulation.play import broken, play

BROKEN = '''
"""A scenario that keeps no promise."""
from rhizome_index.simulation.scenario import scenario


@scenario(peers=1, minutes=1, posts=3)
async def broken(sim):
    await sim.publish(sim["posts"])
    sim.expect("more than this", False, "not there")
'''


def simulate(*words: str) -> Result:
    return CliRunner().invoke(cli, ["simulate", *words])


def test_every_scenario_says_what_it_is_about() -> None:
    assert len(known()) >= 10
    for name in known():
        chosen = load(name)
        assert chosen.name == name and chosen.about and chosen.peers > 0 and chosen.minutes > 0


def test_settings_are_of_the_type_of_their_defaults() -> None:
    chosen = load("liars")
    changed = adapt(chosen, peers=3, minutes=None, values={"posts": "7", "rate": "0.5"})
    assert (changed.peers, changed.minutes, changed.values["posts"], changed.values["rate"]) == (
        3,
        chosen.minutes,
        7,
        0.5,
    )
    for values in ({"nothing": "1"}, {"posts": "many"}):
        with pytest.raises(UsageError):
            adapt(chosen, peers=None, minutes=None, values=values)


@pytest.mark.parametrize("text", ["", "x = (", "import nothing_of_that_name", "x = 1"])
def test_a_file_that_is_no_scenario(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    for name in (str(path), str(tmp_path / "missing.py"), "missing"):
        with pytest.raises(UsageError):
            load(name)


def test_the_command_says_what_held(tmp_path: Path) -> None:
    done = simulate("cold_start", "--peers", "3", "--seed", "5", "--set", "posts=30")
    assert done.exit_code == 0 and "BROKEN" not in done.output and "one round trip each" in done.output
    assert "rhizome simulate cold_start --peers 3 --seed 5 --minutes 0.5 --set posts=30" in done.output


def test_a_broken_promise_is_exit_code_4(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(BROKEN)
    done = simulate(str(path), "--json", "--trace", str(tmp_path / "trace"))
    assert done.exit_code == 4
    report = json.loads(done.stdout)
    assert not report["holds"] and report["replay"].startswith(f"rhizome simulate {path} --peers ")
    assert {verdict["promise"] for verdict in report["verdicts"] if not verdict["holds"]} == {"more than this"}
    assert len((tmp_path / "trace").read_text().splitlines()) == report["events"]


def test_the_list_names_all() -> None:
    listed = [json.loads(line) for line in simulate("--list", "--json").stdout.splitlines()]
    assert [item["name"] for item in listed] == list(known())
    assert all(name in simulate("--list").output for name in known())


def test_a_setting_without_a_value() -> None:
    assert isinstance(simulate("cold_start", "--set", "posts").exception, UsageError)


def test_a_scenario_that_hangs_is_ended() -> None:
    async def main(sim: Simulation) -> None:
        await sim.sleep(1e9)

    assert any("came to its end" in text for text in broken(play(main)))


def test_a_scenario_that_fails_by_itself_says_so() -> None:
    async def main(sim: Simulation) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        play(main)
