"""A stream of the real network, as `swarm.Stream` has it: one of Yamux, whose bytes are counted.

Promises what that says, whatever is raised below. It does not know what is said on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from rhizome_index.errors import UnavailableError
from rhizome_index.limits import IDLE_TIMEOUT_SECONDS, STREAM_FRAME_BYTES
from rhizome_index.node.libp2p_yamux_stream import MuxStream
from rhizome_index.node.tally import Tally

_READ_BYTES = 262_144


class Libp2pStream:
    """A stream of the real network.

    why_ended  what to say of a relayed connection that has ended, where it is known
    """

    def __init__(
        self,
        tally: Tally,
        stream: MuxStream,
        peer_id: str,
        protocol: str,
        *,
        lasting: bool,
        why_ended: Callable[[str], UnavailableError | None] = lambda peer_id: None,
    ) -> None:
        self._tally = tally
        self._why_ended = why_ended
        self._stream = stream
        self._peer_id = peer_id
        self._protocol = protocol
        self._idle_seconds = math.inf if lasting else IDLE_TIMEOUT_SECONDS
        self._active_at = trio.current_time()

    @property
    def peer_id(self) -> str:
        return self._peer_id

    async def send(self, data: bytes) -> None:
        """See `swarm.Stream`. Cancelled when a part has gone, it resets the stream: the rest will never follow."""
        try:
            for start in range(0, len(data), STREAM_FRAME_BYTES):
                part = data[start : start + STREAM_FRAME_BYTES]
                await self._stream.write(part)
                self._active_at = trio.current_time()
                self._tally.note_sent(self._peer_id, self._protocol, len(part))
        except trio.Cancelled:
            if start:
                self._stream.abandon()
            raise
        except Exception as error:  # the library raises nearly anything for a peer that is gone
            raise self._gone(error) from None

    async def receive(self) -> bytes:
        """See `swarm.Stream`. Raises UnavailableError also when nothing is said or sent for IDLE_TIMEOUT_SECONDS,
        unless it is meant to last."""
        data = b""
        while not data:
            deadline = self._active_at + self._idle_seconds
            if trio.current_time() >= deadline:
                self._stream.abandon()
                raise UnavailableError(f"nothing was said with peer {self._peer_id} for {IDLE_TIMEOUT_SECONDS:g} s")
            try:
                with trio.CancelScope(deadline=deadline):
                    data = await self._stream.read(_READ_BYTES)
            except MuxedStreamEOF:
                return b""
            except Exception as error:
                raise self._gone(error) from None
        self._active_at = trio.current_time()
        self._tally.note_received(self._peer_id, self._protocol, len(data))
        return data

    def detach(self) -> MuxStream:
        """The stream itself, for a connection inside of it, which counts what passes."""
        return self._stream

    def _gone(self, error: Exception) -> UnavailableError:
        known = self._why_ended(self._peer_id) if self._stream.muxed_conn.is_relayed else None
        return known or UnavailableError(f"peer {self._peer_id} is gone: {error}")

    async def close(self) -> None:
        self._stream.disregard()
        await self._stream.close()

    async def reset(self) -> None:
        await self._stream.reset()
