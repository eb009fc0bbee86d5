"""Pages of runs and sweeps: whole by themselves, the same each time, and nothing in them but what is said."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from rhizome_index.cli.main import cli
from rhizome_index.errors import UsageError
from rhizome_index.simulation import page
from rhizome_index.simulation.network import Weather
from rhizome_index.simulation.report import Report
from rhizome_index.simulation.scenario import Scenario, Simulation, run
from rhizome_index.simulation.sweep import Point
from rhizome_index.simulation.timeline import SNAPSHOTS, Timeline


async def few(sim: Simulation) -> None:
    publisher = await sim.publish(10)
    await sim.sleep(2)
    follower = await sim.peer("follower", met=[publisher], follows=[publisher])
    reader = await sim.peer("reader", named=[publisher])
    await sim.sleep(3)
    sim.publish_more(publisher, 2)
    await sim.ask(reader, publisher)
    await sim.sleep(5)
    await sim.cluster.stop(follower)
    await sim.sleep(2)


SCENARIO = Scenario("few", "A few <peers>.", few, 3, 0.2, Weather(), {})


@pytest.fixture(scope="module")
def shown() -> tuple[Report, Timeline]:
    timeline = Timeline(SCENARIO.minutes)
    return run(SCENARIO, 1, timeline=timeline), timeline


class Outside(HTMLParser):
    """Whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag in ("script", "link", "img", "iframe", "image") else []
        self.found += [
            str(value)
            for name, value in attrs
            if name.split(":")[-1] in ("src", "href", "style")
            and re.search(r"^(?!#)|url\((?!#)", str(value))
            and "//" in str(value)
        ]


def test_a_page_needs_nothing_else_and_its_plots_can_be_read(shown: tuple[Report, Timeline]) -> None:
    text = page.render(*shown)
    outside = Outside()
    outside.feed(text)
    assert outside.found == []
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == 5
    for plot in plots:
        ElementTree.fromstring(plot)
    assert text.count("connections</text>") + text.count("connections") >= SNAPSHOTS
    assert "A few &lt;peers&gt;." in text and "rhizome simulate few" in text and "holds" in text


def test_equal_reports_give_equal_pages(shown: tuple[Report, Timeline]) -> None:
    again = Timeline(SCENARIO.minutes)
    report = run(SCENARIO, 1, timeline=again)
    assert page.render(report, again) == page.render(*shown)


def test_a_timeline_knows_who_is_there_and_how_heads_spread(shown: tuple[Report, Timeline]) -> None:
    _, timeline = shown
    assert len(timeline.snapshots) == SNAPSHOTS
    assert timeline.snapshots[3].peers == {"publisher": (True, None), "follower": (True, True), "reader": (True, None)}
    assert ("follower", "publisher") in timeline.snapshots[3].edges
    assert timeline.snapshots[-1].peers["follower"] == (False, None)
    first, second = timeline.spreads.values()
    assert (first.followers, second.followers) == (0, 1) and len(second.seconds) == 1
    assert timeline.samples[0].at == 0 and max(sample.running for sample in timeline.samples) == 3


def test_what_broke_is_shown(shown: tuple[Report, Timeline]) -> None:
    report, timeline = shown
    broken = replace(report.verdicts[0], holds=False, problem="<b>wrong</b>")
    text = page.render(replace(report, verdicts=[broken]), timeline)
    assert "BROKEN" in text and "&lt;b&gt;wrong&lt;/b&gt;" in text


def test_a_sweep_has_curves_and_a_row_for_each_point(shown: tuple[Report, Timeline]) -> None:
    points = [Point("peers", value, shown[0], 1.0, 1) for value in ("1", "10", "100")]
    text = page.render_sweep("peers", points)
    assert text.count("all hold") == 3 and "All hold at every point." in text and text.count("<svg") == 1
    names = [Point("kind", value, shown[0], 1.0, 1) for value in ("a", "b")]
    assert "<svg" in page.render_sweep("kind", names)


def test_a_run_in_which_nothing_happened_has_a_page_too(shown: tuple[Report, Timeline]) -> None:
    report = replace(shown[0], answer_seconds=[], answer_bytes=[], sent={}, answered=0)
    assert "Promises" in page.render(report, Timeline(1.0))


def test_answers_from_what_was_held_already_have_no_curves(shown: tuple[Report, Timeline]) -> None:
    text = page.render(replace(shown[0], answer_seconds=[0.0, 0.0], answer_bytes=[0, 0]), shown[1])
    assert "in no time" in text and text.count("<svg") == 4


def test_what_a_scenario_has_counted_is_said_in_words(shown: tuple[Report, Timeline]) -> None:
    text = page.render(replace(shown[0], measured={"ends": {"stop": 1200, "kill": 1}, "share": 0.5}), shown[1])
    assert "<td>1,200 stop, 1 kill</td>" in text and "<td>0.5</td>" in text


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    words = ["simulate", "cold_start", "--peers", "2", "--minutes", "0.1", "--set", "posts=5"]
    done = CliRunner().invoke(cli, [*words, "--html", str(tmp_path / "report.html")])
    assert done.exit_code == 0 and "report.html" in done.output
    assert "Cold start" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_where_no_page_can_be_made_that_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["simulate", "cold_start", "--html"]
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "no folder" / "report.html")])
    assert isinstance(done.exception, UsageError) and "cannot write" in str(done.exception)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "report.html")])
    assert isinstance(done.exception, UsageError) and "jinja2" in str(done.exception)
