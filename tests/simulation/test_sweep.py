"""Sweeps: what is run, in which order, and that a point is the same run as one by itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from rhizome_index.cli.main import cli
from rhizome_index.cli.simulating import said
from rhizome_index.errors import UsageError
from rhizome_index.simulation.sweep import Run, parse_sweep, points_of, replay_sweep

BASE = Run("cold_start", 3, 2, 0.1, {"posts": "20"})


def test_a_sweep_is_a_setting_and_values() -> None:
    assert parse_sweep("peers=10, 100,1000") == ("peers", ["10", "100", "1000"])
    for text in ("", "peers", "peers=", "peers=,", "=1"):
        with pytest.raises(UsageError):
            parse_sweep(text)


def test_each_run_differs_in_one_setting() -> None:
    assert [one.peers for one in points_of(BASE, "peers", ["1", "2"])] == [1, 2]
    assert [one.seed for one in points_of(BASE, "seed", ["-4", "0"])] == [-4, 0]
    assert [one.minutes for one in points_of(BASE, "minutes", ["0.5"])] == [0.5]
    assert [one.values for one in points_of(BASE, "posts", ["5"])] == [{"posts": "5"}]


@pytest.mark.parametrize("setting", ["peers=0", "peers=x", "minutes=-1", "minutes=nan", "nothing=1", "posts=many"])
def test_what_cannot_be_run_is_said_before_anything_runs(setting: str) -> None:
    name, _, value = setting.partition("=")
    with pytest.raises(UsageError):
        points_of(BASE, name, ["1", value])


@pytest.mark.slow
def test_points_are_runs_by_themselves() -> None:
    words = ["simulate", "cold_start", "--minutes", "0.1", "--set", "posts=20", "--seed", "3"]
    swept = CliRunner().invoke(cli, [*words, "--sweep", "peers=3,2", "--json"])
    assert swept.exit_code == 0
    points = [json.loads(line) for line in swept.stdout.splitlines()]
    assert [point["sweep"] for point in points] == [{"peers": "3"}, {"peers": "2"}]
    assert all(point["memory_bytes_peak"] > 0 for point in points)
    assert [point["trace"] for point in points] == [replace(BASE, peers=peers)().trace for peers in (3, 2)]


def test_a_sweep_says_how_to_do_it_again() -> None:
    again = replay_sweep(BASE, "peers", ["1", "10"])
    assert again == "rhizome simulate cold_start --seed 3 --minutes 0.1 --set posts=20 --sweep peers=1,10"
    again = replay_sweep(BASE, "posts", ["1", "10"])
    assert again == "rhizome simulate cold_start --seed 3 --peers 2 --minutes 0.1 --sweep posts=1,10"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"stop": 1, "kill": 2}, "stop 1, kill 2"),
        ({"p50": 0.199049, "p99": 12345.6}, "p50 0.199, p99 12,346"),
        ([0.123456, 2.0], "0.123, 2"),
        ([], "none"),
        (1234567, "1,234,567"),
        ("as it is", "as it is"),
    ],
)
def test_what_was_measured_is_said_in_words(value: object, words: str) -> None:
    assert said(value) == words


def test_a_setting_of_the_wrong_kind_is_told_in_words() -> None:
    done = CliRunner().invoke(cli, ["simulate", "cold_start", "--set", "posts=x"])
    assert isinstance(done.exception, UsageError) and str(done.exception) == "posts=x: not a whole number"


@pytest.mark.slow
def test_people_see_a_table_with_a_row_for_each_value() -> None:
    done = CliRunner().invoke(cli, ["simulate", "cold_start", "--minutes", "0.1", "--sweep", "posts=20,30"])
    head, *rows, again = done.output.splitlines()
    assert done.exit_code == 0 and head.split()[:2] == ["posts", "holds"]
    assert [row.split()[:2] for row in rows] == [["20", "yes"], ["30", "yes"]]
    assert again == "again: rhizome simulate cold_start --seed 1 --minutes 0.1 --sweep posts=20,30"
