"""Members as real processes on loopback: each a `rhizome node` with a home of its own, in real time.

Scenarios, workloads and checkers are those of the other backends. What a scenario does to a member is done as another
process of its home would do it: over the node's Unix socket, and beside it in its store, where checkers look too. What
happens inside, such as the moment of a new head, is seen by looking every half second.

What takes a simulated world is refused: cuts, weather, slow or failing disks, byzantine strategies, places that cannot
be dialled. Regions and bandwidths are those of this machine. No run is the same again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from signal import SIGINT
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, TextIO, TypeVar
from urllib.request import urlopen

import trio
from prometheus_client.parser import text_string_to_metric_families

from rhizome_index.api import Node, open_node
from rhizome_index.errors import RhizomeError, StoreError, UnavailableError, UsageError
from rhizome_index.index.head import Head, Identity
from rhizome_index.node.home import Home
from rhizome_index.node.register import Register
from rhizome_index.simulation.backends import MakeCluster
from rhizome_index.simulation.cluster import Cluster, Member, Strategy
from rhizome_index.simulation.disks import Disk, Speed
from rhizome_index.simulation.network import Host, Place, SimNetwork, Weather
from rhizome_index.simulation.world import World

_LISTEN = "/ip4/127.0.0.1/tcp/0"
_LOOK_SECONDS = 0.5
_COUNT_SECONDS = 2.0
_STOP_SECONDS = 20.0  # until a process that was asked to stop is killed, and that counts as a crash

T = TypeVar("T")


def _refuse(what: str) -> NoReturn:
    raise UsageError(f"{what}: not with real processes", hint="run it with --backend simulated, or libp2p")


class RealWorld(World):
    """Real time. Only chance still comes from the seed."""

    def __init__(self, seed: int, trace_file: TextIO | None = None) -> None:
        super().__init__(seed, trace_file)
        self._began = time.monotonic()

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """See `World.run`."""
        return trio.run(main)

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return time.monotonic() - self._began

    def clock(self) -> float:
        """Wall time: seconds since 1970."""
        return time.time()

    def at(self, when: float, action: Callable[..., None], *args: Any) -> None:
        _refuse("something that is to happen at a time of its own")

    def after(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        _refuse("something that is to happen at a time of its own")


class _Loopback(SimNetwork):
    """Hosts that are all on this machine: what goes over it cannot be made to fail."""

    def cut(self, some: Iterable[Host], others: Iterable[Host] | None = None, *, one_way: bool = False) -> int:
        _refuse("cutting the network")


class ProcessCluster(Cluster):
    """A cluster whose members are processes, their homes in a folder.

    processes  of members that have been started, by name
    """

    def __init__(self, world: World, network: SimNetwork, nursery: trio.Nursery, folder: Path) -> None:
        super().__init__(world, network, nursery)
        self._folder = folder
        self.processes: dict[str, trio.Process] = {}
        self._ending: set[str] = set()  # members whose processes are meant to end

    def add(self, name: str, place: Place, speed: Speed | None = None, strategy: Strategy | None = None) -> Member:
        """See `Cluster.add`. Raises UsageError for what no real process can be."""
        if speed is not None:
            _refuse("a slow disk")
        if strategy is not None:
            _refuse(f"a member that is a {type(strategy).__name__.lower()}")
        if not place.is_dialable:
            _refuse("a member that cannot be dialled")
        return super().add(name, place)

    def make_folder(self, name: str, identity: Identity, disk: Disk) -> str:
        """A home of its own."""
        folder = self._folder / f"{len(self.members)}"
        Home(folder).create(identity.seed)
        return str(folder)

    async def kill(self, member: Member, *, power: bool = False) -> None:
        """See `Cluster.kill`."""
        if power:
            _refuse("a loss of power")
        self._ending.add(member.name)
        self.processes[member.name].kill()
        self.world.trace.note("kill", member.name)
        member.scope.cancel()
        await member.gone.wait()

    async def _live(self, member: Member, started: trio.Event) -> None:
        home = Home(Path(member.folder))
        member.starts += 1
        member.started_at = self.world.now
        self._ending.discard(member.name)
        try:
            with member.scope:
                with home.open_store(make=True) as store:
                    for other in member.met:
                        Register(store).note_peer(other.host.address, other.peer_id, self.world.clock())
                async with self._process(member) as metrics_url, open_node(home, join=True) as node:
                    member.node = node
                    try:
                        self.world.trace.note("start", member.name)
                        self._tell("on_started", member)
                        started.set()
                        await self._watch(member, node, metrics_url)
                    finally:
                        member.node = None  # before its store is closed: others look into that
        except (RhizomeError, OSError) as error:
            if isinstance(error, StoreError) and not started.is_set():
                self._tell("on_unreadable", member, error)
            else:
                self._tell("on_crash", member.name, error)
        finally:
            started.set()
            member.gone.set()

    @asynccontextmanager
    async def _process(self, member: Member) -> AsyncIterator[str]:
        """A member's process, until it is left; where its metrics are. Raises UnavailableError if it does not start."""
        errors = Path(member.folder).with_suffix(".stderr")
        known = member.host.address.rpartition("/p2p/")[0]
        words = ["--home", member.folder, "node", "--json", "--metrics", "0", "--no-mdns"]
        words += ["--listen", known if member.starts > 1 else _LISTEN]
        words += [word for address in member.named for word in ("--peer", address)]
        command = [sys.executable, "-m", "rhizome_index.cli", *words]
        with errors.open("ab") as file:
            process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=file)
        self.processes[member.name] = process
        try:
            assert process.stdout is not None
            said = b""
            while not said.endswith(b"\n") and (data := await process.stdout.receive_some()):
                said += data
            if not said:
                raise UnavailableError(f"{member.name} did not start: {errors.read_text()[-2000:]}")
            fields = json.loads(said)
            member.host.address = fields["addresses"][0]
            yield fields["metrics"]
        finally:
            with trio.CancelScope(shield=True):
                await self._end(member, process)
            if "Traceback" in (text := errors.read_text()):
                self._tell("on_crash", member.name, RuntimeError(text[-2000:]))

    async def _end(self, member: Member, process: trio.Process) -> None:
        if process.poll() is None:
            self._ending.add(member.name)
            process.send_signal(SIGINT)
            with trio.move_on_after(_STOP_SECONDS):
                await process.wait()
        if process.poll() is None:
            self._tell("on_crash", member.name, RuntimeError("it did not stop when it was asked to"))
            process.kill()
        await process.wait()

    async def _watch(self, member: Member, node: Node, metrics_url: str) -> None:
        """See what a member does, until it ends. Raises UnavailableError if it ends by itself."""
        process, seen, counted_at = self.processes[member.name], dict[Any, Head](), -_COUNT_SECONDS
        while process.poll() is None:
            for address in member.follows:
                head = node.peer.store.held_head(address)
                if head is not None and seen.get(address) != head:
                    seen[address] = head
                    self._on_head(member, head)
            if self.world.now >= counted_at + _COUNT_SECONDS:
                counted_at = self.world.now
                await self._count(member, metrics_url)
            await trio.sleep(_LOOK_SECONDS)
        if member.name not in self._ending:
            raise UnavailableError(f"the process of {member.name} ended by itself, with {process.returncode}")

    async def _count(self, member: Member, metrics_url: str) -> None:
        """What it has sent and received, by its own count."""
        try:
            found = await trio.to_thread.run_sync(read_metrics, metrics_url)
        except OSError:  # it is ending
            return
        counts = member.host.counts
        counts.bytes_sent = max(counts.bytes_sent, int(found["rhizome_sent_bytes_total"]))
        counts.bytes_received = max(counts.bytes_received, int(found["rhizome_received_bytes_total"]))
        counts.dials = max(counts.dials, int(found["rhizome_dials_total"]))


def read_metrics(url: str, timeout_seconds: float = _COUNT_SECONDS) -> Mapping[str, float]:
    """What a node's metrics are now, each summed over its labels. Raises OSError."""
    with urlopen(url, timeout=timeout_seconds) as answer:
        text = str(answer.read(), "utf-8")
    found: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value
    return found


class Processes:
    """The backend: see `backends.Backend`."""

    def world(self, seed: int, trace_file: TextIO | None) -> World:
        return RealWorld(seed, trace_file)

    @contextmanager
    def open(self, world: World, weather: Weather) -> Iterator[MakeCluster]:
        if weather != Weather():
            _refuse("weather")
        with TemporaryDirectory(prefix="rhizome-simulate-") as folder:
            network = _Loopback(world)
            yield lambda nursery: ProcessCluster(world, network, nursery, Path(folder))
