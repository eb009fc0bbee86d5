"""Being reached through relays: keep a place at each one that we were told of.

Promises: a place is renewed at half its time; a relay that goes away is tried again,
less and less often, until it is back; while there is no place, none is announced. What
a relay says costs little whatever it is: sizes are bounded, and so is how often we ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from rhizome_index.errors import IntegrityError, UnavailableError, UsageError
from rhizome_index.limits import (
    CIRCUIT_MESSAGE_BYTES_MAX,
    CIRCUIT_MESSAGE_SECONDS,
    DIAL_TIMEOUT_SECONDS,
    RELAY_ADDRESSES_MAX,
    RELAY_AGAIN_SECONDS,
    RELAY_AGAIN_SECONDS_MAX,
    RELAY_WATCH_SECONDS,
    RESERVATION_SECONDS,
    RESERVATION_SECONDS_MIN,
)
from rhizome_index.node.events import INFO, note
from rhizome_index.node.framed import receive_message
from rhizome_index.node.swarm import Swarm
from rhizome_index.wire import circuit, mdns
from rhizome_index.wire.circuit import Answer, Status
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.multiaddr import RELAYED


class Reservations:
    """Places at relays.

    clock  seconds since 1970: until when a relay says that it keeps a place
    """

    def __init__(self, swarm: Swarm, clock: Callable[[], float]) -> None:
        self._swarm = swarm
        self._clock = clock

    async def keep(self, address: str, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a place at the relay with this full address, until cancelled.

        It has started when the first try is over: with why that failed, or "". Raises UsageError for what is no
        address of a relay.
        """
        if RELAYED in address:
            raise UsageError(f"a relay is reached directly: {address[:200]}", hint="leave out /p2p-circuit")
        told, pause, is_new = "", RELAY_AGAIN_SECONDS, True
        while True:
            try:
                relay, answer = await self._reserve(address)
            except UnavailableError as error:
                if str(error) != told:
                    told = str(error)
                    note(INFO, "relay_failing", address=address, reason=told)
                if is_new:
                    task_status.started(told)
                is_new = False
                await trio.sleep(pause)
                pause = min(2 * pause, RELAY_AGAIN_SECONDS_MAX)
                continue
            if told or is_new:
                limit = answer.limit
                note(INFO, "relay_reserved", relay=relay, seconds=limit.seconds, bytes=limit.data_bytes)
            told, pause = "", RELAY_AGAIN_SECONDS
            try:
                self._swarm.listen_through(relay, places(address, relay, answer))
                if is_new:
                    task_status.started("")
                is_new = False
                is_held = await self._wait_half(relay, answer)
            except trio.Cancelled:
                self._swarm.listen_through(relay, ())
                raise
            if not is_held:
                told = f"relay {relay} is gone"
                note(INFO, "relay_failing", address=address, reason=told)
                self._swarm.listen_through(relay, ())

    async def _reserve(self, address: str) -> tuple[str, Answer]:
        """Ask for a place: the relay's id, and what it says. Raises UnavailableError with the reason, UsageError."""
        relay = await self._swarm.dial_relay(address, timeout_seconds=DIAL_TIMEOUT_SECONDS)
        try:
            with trio.fail_after(CIRCUIT_MESSAGE_SECONDS):
                answer = await self._ask(relay)
        except trio.TooSlowError:
            problem = f"relay {relay} does not answer"
        except IntegrityError as error:
            await self._swarm.disconnect(relay)
            problem = f"relay {relay} answers nonsense: {error}"
        except UnavailableError as error:
            problem = str(error)
        else:
            if answer.status == Status.OK:
                return relay, answer
            problem = f"no place at {relay}: {answer.reason}"
        self._swarm.listen_through(relay, ())
        raise UnavailableError(problem)

    async def _ask(self, relay: str) -> Answer:
        stream = await self._swarm.open_stream(relay, circuit.HOP, timeout_seconds=CIRCUIT_MESSAGE_SECONDS)
        try:
            await stream.send(circuit.hop_reserve())
            return circuit.read_answer(await receive_message(stream, FrameReader(CIRCUIT_MESSAGE_BYTES_MAX)))
        finally:
            with trio.CancelScope(shield=True):
                await stream.close()

    async def _wait_half(self, relay: str, answer: Answer) -> bool:
        """Wait until it is time to renew; False as soon as the relay is gone."""
        seconds = answer.expires - self._clock()
        bounded = max(RESERVATION_SECONDS_MIN, min(seconds, RESERVATION_SECONDS))
        renew_at = trio.current_time() + bounded / 2
        while trio.current_time() < renew_at:
            if relay not in self._swarm.connected_peers:
                return False
            await trio.sleep(RELAY_WATCH_SECONDS)
        return True


def places(address: str, relay: str, answer: Answer) -> list[str]:
    """Full addresses of a relay to announce: where we have reached it, and where it says it is.

    Of those none on its own machine, unless ours is that.
    """
    tail = f"/p2p/{relay}"
    said = [text.removesuffix(tail) + tail for text in answer.addresses if RELAYED not in text]
    usable = [text for text in said if mdns.is_loopback(address) or not mdns.is_loopback(text)]
    return list(dict.fromkeys([address, *usable]))[:RELAY_ADDRESSES_MAX]
