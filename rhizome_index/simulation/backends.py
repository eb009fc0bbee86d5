"""What scenarios run on: the same scenarios, workloads and checkers over one of several networks.

simulated  the simulated network, in virtual time: replayable from a seed, hundreds of peers
libp2p     py-libp2p with its real Noise and Yamux over the links of the simulated network, in virtual time: dozens of
           peers, and everything that can go wrong there
processes  a `rhizome node` for each peer, on loopback, in real time: dozens of peers, and nothing is made to fail but
           peers that stop or are killed
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Protocol, TextIO

import trio

from rhizome_index.errors import UsageError
from rhizome_index.simulation.cluster import Cluster
from rhizome_index.simulation.disks import FileSystem
from rhizome_index.simulation.network import SimNetwork, Weather
from rhizome_index.simulation.world import World

MakeCluster = Callable[[trio.Nursery], Cluster]


class Backend(Protocol):
    """What a run takes place on."""

    def world(self, seed: int, trace_file: TextIO | None) -> World:
        """Its time, chance and trace."""

    def open(self, world: World, weather: Weather) -> AbstractContextManager[MakeCluster]:
        """What makes the cluster of a run, whose members live in the nursery given."""


class Simulated:
    """The simulated network itself, or what `kind` puts on its links."""

    def __init__(self, kind: type[Cluster] = Cluster) -> None:
        self._kind = kind

    def world(self, seed: int, trace_file: TextIO | None) -> World:
        return World(seed, trace_file)

    @contextmanager
    def open(self, world: World, weather: Weather) -> Iterator[MakeCluster]:
        with closing(FileSystem()) as files:
            yield lambda nursery: self._kind(world, SimNetwork(world, weather), nursery, files)


def _libp2p() -> Backend:
    from rhizome_index.simulation.libp2p_links import LinkedCluster

    return Simulated(LinkedCluster)


def _processes() -> Backend:
    from rhizome_index.simulation.processes import Processes

    return Processes()


SIMULATED = "simulated"
_BACKENDS: dict[str, Callable[[], Backend]] = {SIMULATED: Simulated, "libp2p": _libp2p, "processes": _processes}
NAMES = tuple(_BACKENDS)


def backend(name: str) -> Backend:
    """A backend by its name. Raises UsageError."""
    if name not in _BACKENDS:
        raise UsageError(f"no backend called {name!r}", hint=f"there are: {', '.join(NAMES)}")
    return _BACKENDS[name]()
