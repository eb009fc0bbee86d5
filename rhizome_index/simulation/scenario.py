"""How scenarios are written: a short function over a `Simulation`, with its defaults in the decorator.

    @scenario(peers=8, minutes=1, posts=300)
    async def cold_start(sim):
        publisher = await sim.publish(sim["posts"])
        reader = await sim.peer("reader", named=[publisher])
        await sim.ask(reader, publisher)

The file's docstring says what the scenario is about. Whatever a scenario does, all
checkers of `checkers` watch; with `expect` it adds promises of its own.
"""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import trio

from rhizome_index.api import Page
from rhizome_index.errors import RhizomeError, UsageError, first_of
from rhizome_index.index.slips import did_you_mean
from rhizome_index.node.register import Policy
from rhizome_index.simulation.backends import SIMULATED, backend
from rhizome_index.simulation.checkers import CONVERGE_SECONDS, EVERYWHERE, HeadsConverge, Verdict
from rhizome_index.simulation.cluster import Cluster, Member, Strategy
from rhizome_index.simulation.disks import Speed
from rhizome_index.simulation.network import Place, Weather
from rhizome_index.simulation.report import Report
from rhizome_index.simulation.timeline import Timeline
from rhizome_index.simulation.workload import Model, Posts, Question, Questions, somewhere

Value = int | float | str
Main = Callable[["Simulation"], Awaitable[None]]
OnProgress = Callable[["Simulation"], None]

_LOOK_SECONDS = 5.0
_POSTS_COMING = 2_000_000  # of one publisher: more than anybody publishes, and their times depend on it
_LIMIT_MINUTES = 10.0  # beyond its own: a scenario that does not end by then hangs


@dataclass(frozen=True)
class Scenario:
    """A scenario and its defaults. `path` is where it was read from, unless it is one of those that are known."""

    name: str
    about: str
    main: Main
    peers: int
    minutes: float
    weather: Weather
    values: dict[str, Value]
    path: Path | None = None


def scenario(
    *, peers: int, minutes: float, weather: Weather | None = None, **values: Value
) -> Callable[[Main], Scenario]:
    """Make a function a scenario. `values` are its further settings, each with its default."""

    def made(main: Main) -> Scenario:
        about = (main.__globals__.get("__doc__") or main.__doc__ or "").strip()
        return Scenario(main.__name__, about, main, peers, minutes, weather or Weather(), values)

    return made


class Simulation:
    """What a scenario works with.

    minutes   how long it is meant to last
    measured  what it finds out, for the report
    """

    def __init__(self, chosen: Scenario, seed: int, cluster: Cluster, nursery: trio.Nursery) -> None:
        self.scenario = chosen
        self.seed = seed
        self.world = world = cluster.world
        self.network = cluster.network
        self.cluster = cluster
        self.model = Model()
        self.cluster.observers.append(self.model)
        self.checkers = [kind(self.cluster, self.model) for kind in EVERYWHERE]
        self.measured: dict[str, Any] = {}
        self.answers: list[tuple[float, Page]] = []
        self.unanswered = 0
        self.chance = world.chance("scenario")
        self._nursery = nursery
        self._expected: list[Verdict] = []
        self._posts: dict[str, Posts] = {}
        self._questions: Questions | None = None

    def __getitem__(self, name: str) -> Any:
        """One of the scenario's settings."""
        return self.scenario.values[name]

    @property
    def peers(self) -> int:
        return self.scenario.peers

    @property
    def minutes(self) -> float:
        return self.scenario.minutes

    # --- peers ---

    def place(self, **how: Any) -> Place:
        """A place drawn among the regions, otherwise as said."""
        return somewhere(self.chance, **how)

    async def peer(
        self,
        name: str,
        *,
        named: Sequence[Member] = (),
        met: Sequence[Member] = (),
        follows: Sequence[Member] = (),
        policy: Policy | None = None,
        place: Place | None = None,
        speed: Speed | None = None,
        strategy: Strategy | None = None,
    ) -> Member:
        """A new peer, running: see `Cluster.start`. It follows the datasets of others."""
        member = self.cluster.add(name, place or self.place(), speed, strategy)
        await self.cluster.start(member, named, met)
        for other in follows:
            self.cluster.follow(member, other.dataset, policy)
        return member

    async def publish(self, posts: int, name: str = "publisher", **how: Any) -> Member:
        """A new peer that publishes so many posts."""
        member = await self.peer(name, **how)
        made = self._posts[name] = Posts(_POSTS_COMING, self.world.chance("posts", name).getrandbits(32))
        self.cluster.publish(member, made.more(posts))
        if self._questions is None:
            self._questions = Questions(list(made.published.values()), self.world.chance("questions"))
        return member

    def posts(self, member: Member) -> Posts:
        """What a publisher has to publish."""
        return self._posts[member.name]

    def publish_more(self, member: Member, posts: int, edits: int = 0) -> None:
        """More posts under a new head, and some edits of older ones."""
        made = self._posts[member.name]
        self.cluster.publish(member, {**made.edits(edits), **made.more(posts)})

    # --- questions ---

    def question(self) -> Question:
        """A question about what was published first."""
        assert self._questions is not None
        return self._questions.next()

    async def ask(self, member: Member, of: Member, question: Question | None = None) -> Page | None:
        """Ask of another's dataset; None if there was no whole answer, which the report counts."""
        started = self.world.now
        try:
            page = await self.cluster.ask(member, question or self.question(), of.dataset)
        except RhizomeError:
            self.unanswered += 1
            return None
        self.answers.append((self.world.now - started, page))
        return page

    # --- time ---

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def sleep_until(self, when: float) -> None:
        """Until so many seconds after the beginning."""
        await trio.sleep(max(0.0, when - self.world.now))

    def start_soon(self, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Do something beside the scenario."""
        self._nursery.start_soon(job, *args)

    async def together(self, jobs: Sequence[Callable[[], Awaitable[Any]]]) -> None:
        """Do several things at the same time; until all are done."""
        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(job)

    async def settle(self) -> None:
        """Nothing is made to fail any more; wait until all should agree."""
        for observer in self.cluster.observers:
            observer.on_healthy()
        await trio.sleep(CONVERGE_SECONDS)

    # --- what is found ---

    def expect(self, promise: str, holds: bool, problem: str = "") -> None:
        """A promise of this scenario's own."""
        self._expected.append(Verdict(promise, holds, 1, "" if holds else problem or "it did not"))

    async def look(self) -> None:
        """Let the checkers look now and then."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            for checker in self.checkers:
                checker.look()

    def verdicts(self) -> list[Verdict]:
        return [*(checker.verdict() for checker in self.checkers), *self._expected]


def run(
    chosen: Scenario,
    seed: int,
    *,
    on: str = SIMULATED,
    trace_file: TextIO | None = None,
    on_progress: OnProgress | None = None,
    timeline: Timeline | None = None,
) -> Report:
    """Run a scenario: what it has shown.

    on           the backend that it runs on
    on_progress  called every second of its time
    timeline     is filled, for pictures

    Raises UsageError for a backend that there is not, and for a scenario that cannot run there.
    """
    ground = backend(on)
    world = ground.world(seed, trace_file)
    again = replay(chosen, seed, on)
    report = Report(chosen.name, chosen.about, seed, chosen.peers, chosen.minutes, dict(chosen.values), again)

    async def main() -> None:
        with ground.open(world, chosen.weather) as make_cluster:
            async with trio.open_nursery() as nursery:
                sim = Simulation(chosen, seed, make_cluster(nursery), nursery)
                nursery.start_soon(sim.look)
                if timeline is not None:
                    timeline.begin(sim)
                if watchers := [watcher for watcher in (on_progress, timeline) if watcher is not None]:
                    nursery.start_soon(_show, sim, watchers)
                await _play(sim)
                for checker in sim.checkers:
                    checker.finish()
                _fill(report, sim)
                nursery.cancel_scope.cancel()

    try:
        world.run(main)
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    return report


async def _play(sim: Simulation) -> None:
    """The scenario itself, which must end."""
    limit = 60 * (sim.minutes + _LIMIT_MINUTES)
    problem = f"not within {limit:g} s"
    with trio.move_on_after(limit) as scope:
        try:
            await sim.scenario.main(sim)
            problem = ""
        except Exception as error:
            if all(verdict.holds for verdict in sim.verdicts()):
                raise
            problem = repr(error)  # what else was wrong says more
    sim.expect("the scenario came to its end", not scope.cancelled_caught and not problem, problem)


async def _show(sim: Simulation, watchers: Sequence[OnProgress]) -> None:
    while True:
        for watcher in watchers:
            watcher(sim)
        await trio.sleep(1.0)


def _fill(report: Report, sim: Simulation) -> None:
    report.verdicts = sim.verdicts()
    report.virtual_seconds = sim.world.now
    report.events, report.trace = sim.world.trace.events, sim.world.trace.digest
    hosts = list(sim.network.hosts.values())
    report.messages = sum(host.counts.messages_sent for host in hosts)
    report.bytes = sum(host.counts.bytes_received for host in hosts)
    report.dials = sum(host.counts.dials for host in hosts)
    report.answered, report.unanswered = len(sim.answers), sim.unanswered
    report.answer_seconds = [seconds for seconds, _ in sim.answers]
    report.answer_bytes = [page.cost.bytes_received for _, page in sim.answers]
    report.answer_round_trips = [page.cost.round_trips for _, page in sim.answers]
    for checker in sim.checkers:
        if isinstance(checker, HeadsConverge):
            report.head_lag_seconds = checker.lags
    report.sent = {host.name: host.counts.bytes_sent for host in hosts}
    report.received = {host.name: host.counts.bytes_received for host in hosts}
    report.measured = sim.measured


# --- finding scenarios ---


def folders() -> list[Path]:
    """Where scenarios are looked for: here, and beside the package."""
    return [Path("simulations"), Path(__file__).parents[2] / "simulations"]


def known() -> dict[str, Path]:
    """All scenarios there are, by name."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.py")):
            found.setdefault(path.stem, path)
    return found


def load(name: str) -> Scenario:
    """A scenario by its name, or from a file. Raises UsageError."""
    path = Path(name) if name.endswith(".py") else known().get(name)
    if path is None:
        listed = f"there are: {', '.join(known()) or 'none'}"
        raise UsageError(f"no scenario called {name!r}", hint=did_you_mean(name, known(), listed))
    if not path.is_file():
        raise UsageError(f"no file {name}", hint="a scenario of its own is a Python file: see docs/simulating.md")
    spec = importlib.util.spec_from_file_location(f"simulation_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    found = [item for item in vars(module).values() if isinstance(item, Scenario)]
    if len(found) != 1:
        raise UsageError(f"{path} has {len(found)} scenarios", hint="a file holds one function under @scenario")
    return replace(found[0], path=path) if name.endswith(".py") else found[0]


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def adapt(chosen: Scenario, *, peers: int | None, minutes: float | None, values: dict[str, str]) -> Scenario:
    """A scenario with other settings. Raises UsageError for one that it does not have, or of the wrong type."""
    changed: dict[str, Value] = dict(chosen.values)
    for name, text in values.items():
        if name not in changed:
            listed = ", ".join(f"{key}={value}" for key, value in changed.items()) or "none"
            raise UsageError(f"{chosen.name} has no setting {name!r}", hint=f"it has: {listed}")
        try:
            changed[name] = type(changed[name])(text)
        except ValueError:
            raise UsageError(f"{name}={text}: not {_KINDS[type(changed[name])]}") from None
    return replace(chosen, peers=peers or chosen.peers, minutes=minutes or chosen.minutes, values=changed)


def replay(chosen: Scenario, seed: int, on: str = SIMULATED) -> str:
    """The command that runs a scenario again."""
    name = shlex.quote(str(chosen.path)) if chosen.path else chosen.name
    words = [f"rhizome simulate {name} --peers {chosen.peers} --seed {seed} --minutes {chosen.minutes:g}"]
    if on != SIMULATED:
        words.append(f"--backend {on}")
    return " ".join([*words, *(f"--set {name}={value}" for name, value in chosen.values.items())])
