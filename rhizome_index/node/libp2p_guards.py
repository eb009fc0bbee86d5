"""What py-libp2p 0.8.1 needs to be told before peers can rely on it.

Each guard names the behaviour it guards against; a regression test fails without
it. They reach into the library, which is why its version is pinned. When an
upgrade makes a guard needless, its test says so: then it goes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.network import swarm as network_swarm
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from rhizome_index.limits import WRITE_TIMEOUT_SECONDS


class GuardedYamux(Yamux):
    """Yamux whose connection survives cancellation.

    The library writes a frame of the encrypted connection in pieces: cancelled between two of them, it leaves
    the connection listed as good and corrupt for ever. So frames are written under a shield; when the deadline
    passes, the connection goes instead.
    """

    async def _write_frame(self, data: bytes) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_TIMEOUT_SECONDS) as scope:
            await super()._write_frame(data)
        if scope.cancelled_caught:
            self.event_shutting_down.set()
            await trio.aclose_forcefully(_Closing(self.secured_conn.close))
            raise OSError("the peer does not read")

    async def open_stream(self) -> YamuxStream:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_TIMEOUT_SECONDS):
            return await super().open_stream()
        raise OSError("too many streams are open with this peer")


class _Closing(trio.abc.AsyncResource):
    """A close function as a resource, so that it can be closed forcefully."""

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._close = close

    async def aclose(self) -> None:
        await self._close()


def install() -> None:
    """Put the guards of the whole library in place. Calling it again changes nothing."""
    # The negotiator ignores the muxer class it is given and takes this name instead.
    vars(muxer_multistream)["Yamux"] = GuardedYamux
    # It waits this long after a success too, so that each connection would take 250 ms.
    network_swarm._HAPPY_EYEBALLS_DELAY = 0.0
    logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)


def hold_inbound(swarm: Any) -> None:
    """Make an inbound connection hold its slot until it closes.

    The library takes a slot for each inbound connection and gives it back at shutdown only, so that a listener
    is deaf after 250 of them. Its handler gives the slot back when the upgrade returns: it returns at the end.
    """
    upgrade = swarm.upgrade_inbound_raw_conn

    async def upgrade_and_hold(raw_conn: Any, address: Any) -> Any:
        muxed = await upgrade(raw_conn, address)
        await muxed.event_closed.wait()
        return muxed

    swarm.upgrade_inbound_raw_conn = upgrade_and_hold
