"""Ask other peers: one kept stream for each peer and protocol, requests numbered, answers in any order.

Replies are checked by the sans-IO conversation that waits for them. The first
byte that an honest peer would not send costs the peer its connection, and the
asker gets a RemoteError that says what was wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, Protocol
from weakref import WeakValueDictionary

import trio

from rhizome_index.errors import IntegrityError, RemoteError, UnavailableError, UsageError
from rhizome_index.limits import (
    ANSWER_BYTES_PER_SECOND_MIN,
    ANSWER_SECONDS_MAX,
    ANSWER_SILENCE_SECONDS,
    ASK_TIMEOUT_SECONDS,
    DIAL_TIMEOUT_SECONDS,
    IN_FLIGHT_BYTES_MAX,
)
from rhizome_index.node.events import INFO, note
from rhizome_index.node.swarm import SpentError, Stream, Swarm
from rhizome_index.wire import message as m
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.pick import Picker


class SilentError(UnavailableError):
    """A peer has said nothing for a while. It may yet."""

    def __init__(self, peer: str) -> None:
        super().__init__(f"peer {peer} says nothing")
        self.peer = peer


def in_turn(peers: Sequence[str], problems: Sequence[Exception]) -> Iterator[tuple[str, float | None]]:
    """Peers to ask one after another, each with how long to bear its silence, in seconds.

    Those that are silent longer have a second turn when all others have had theirs: `problems` is where the caller
    puts what is raised.
    """
    for peer in peers:
        yield peer, ANSWER_SILENCE_SECONDS if len(peers) > 1 else None
    for peer in [problem.peer for problem in problems if isinstance(problem, SilentError)]:
        yield peer, None


class Conversation(Protocol):
    """One request's side of what comes back: see wire.ask, wire.want and wire.heads."""

    is_over: bool

    def take(self, reply: m.Reply) -> None: ...


class Links:
    """The streams this peer keeps open to others. Reading goes on in `nursery`; how peers do is told to `picker`."""

    def __init__(self, swarm: Swarm, nursery: trio.Nursery, picker: Picker) -> None:
        self._swarm = swarm
        self._nursery = nursery
        self._picker = picker
        self._links: dict[tuple[str, str], _Link] = {}
        self.is_relayed: Callable[[str], bool] = lambda peer_id: False  # of a peer's connection
        self._opening: WeakValueDictionary[tuple[str, str], trio.Lock] = WeakValueDictionary()

    async def converse(
        self,
        peer_id: str,
        protocol: str,
        fields: Mapping[str, Any],
        conversation: Conversation,
        *,
        timeout_seconds: float = ASK_TIMEOUT_SECONDS,
        silence_seconds: float | None = None,
        forgives: bool = True,
        on_heard: Callable[[], None] | None = None,
    ) -> int:
        """Send a request and wait until its answer has ended; returns how many bytes that answer had.

        forgives  whether a good answer makes up for earlier failures
        on_heard  told whenever something comes from the peer meanwhile

        Raises RemoteError if the peer breaks the protocol, UnavailableError if it is gone or too slow: that is
        SilentError if it has said nothing at all for so many seconds as its silence is borne.
        """
        started = trio.current_time()
        is_asked = False
        try:
            with trio.fail_after(timeout_seconds) as scope:
                link = await self._link(peer_id, protocol)
                weight = m.weight(fields)
                while not await link.wait_turn(weight):
                    link = await self._link(peer_id, protocol)
                is_asked = True
                received = await link.converse(fields, conversation, scope, silence_seconds, on_heard)
        except trio.TooSlowError:
            self._picker.note_failure(peer_id, trio.current_time())
            if is_asked:  # else it may be answering others well
                await self._swarm.disconnect(peer_id)
            seconds = trio.current_time() - started
            raise UnavailableError(f"peer {peer_id} did not answer within {seconds:.3g} s") from None
        except (UnavailableError, IntegrityError) as error:
            if not isinstance(error, SpentError):  # that was no fault of the peer's
                self._picker.note_failure(peer_id, trio.current_time())
            raise
        seconds = trio.current_time() - started
        self._picker.note_success(peer_id, seconds, received, self._swarm.latency_seconds(peer_id), forgives=forgives)
        return received

    def order(self, peers: Iterable[str]) -> list[str]:
        """Peers in the order in which to ask them: a lottery, weighted by how they did; direct connections first."""
        return sorted(self._picker.order(peers, trio.current_time()), key=self.is_relayed)

    def speed(self, peer_id: str) -> tuple[float | None, float | None]:
        """What was measured of a peer: seconds of a round trip, and bytes a second."""
        latency, rate = self._picker.speed(peer_id)
        return latency or self._swarm.latency_seconds(peer_id), rate

    def note_late(self, peer_id: str) -> None:
        """A peer was so slow that somebody else had to be asked."""
        self._picker.note_failure(peer_id, trio.current_time())

    async def drop(self, peer_id: str) -> None:
        """A peer is not worth talking to any more: it was right in form, but lied."""
        note(INFO, "peer_dropped", peer=peer_id, reason="it lied")
        self._picker.note_failure(peer_id, trio.current_time())
        await self._swarm.disconnect(peer_id, for_cause=True)

    async def _link(self, peer_id: str, protocol: str) -> _Link:
        name = (peer_id, protocol)
        async with self._opening.setdefault(name, trio.Lock()):
            link = self._links.get(name)
            if link is not None and link.is_relayed and not self.is_relayed(peer_id):
                link.retire()  # there is a better way now
                link = None
            if link is None or link.is_closed:
                stream = await self._swarm.open_stream(peer_id, protocol, timeout_seconds=DIAL_TIMEOUT_SECONDS)
                link = self._links[name] = _Link(self._swarm, stream, is_relayed=self.is_relayed(peer_id))
                self._nursery.start_soon(self._read, name, link)
            return link

    async def _read(self, name: tuple[str, str], link: _Link) -> None:
        try:
            await link.read()
        finally:
            if self._links.get(name) is link:
                del self._links[name]


class _Waiting:
    """Somebody who waits for an answer.

    until  when that is to be there, if nothing comes meanwhile
    won    seconds that were won on the stream before
    """

    def __init__(
        self,
        conversation: Conversation,
        until: float,
        won: float,
        weight: int,
        on_heard: Callable[[], None] | None,
    ) -> None:
        self.conversation = conversation
        self.on_heard = on_heard
        self.weight = weight
        self.received = 0
        self.done = trio.Event()
        self.error: Exception | None = None
        self._until = until - won
        self._latest = trio.current_time() + ANSWER_SECONDS_MAX

    def until(self, won: float) -> float:
        """When the answer is to be there, now that so many seconds were won on the stream."""
        return min(self._latest, self._until + won)


class _Link:
    """One stream, its reader and the answers under way.

    There are as many of those as the peer answers at once: each has its weight. An answer that nobody waits for any
    more counts until it has ended; when it is the only one, the stream is reset, so that the peer may stop.
    """

    def __init__(self, swarm: Swarm, stream: Stream, *, is_relayed: bool) -> None:
        self._swarm = swarm
        self.is_relayed = is_relayed
        self._is_retired = False
        self._stream = stream
        self._waiting: dict[int, _Waiting] = {}
        self._given_up: dict[int, int] = {}
        self._weight = 0  # of all that are under way
        self._turns = trio.lowlevel.ParkingLot()
        self._sending = trio.Lock()
        self._next = 0
        self._received = 0
        self._won = 0.0  # seconds, by what was received: answers on one stream share the line
        self._scope = trio.CancelScope()
        self.is_closed = False

    async def wait_turn(self, weight: int) -> bool:
        """Wait until a request of this weight may be sent; False if the stream has ended instead."""
        while not self.is_closed and self._weight + weight > IN_FLIGHT_BYTES_MAX:
            await self._turns.park()
        return not self.is_closed

    async def converse(
        self,
        fields: Mapping[str, Any],
        conversation: Conversation,
        scope: trio.CancelScope,
        silence_seconds: float | None,
        on_heard: Callable[[], None] | None,
    ) -> int:
        """Send a request, at once after `wait_turn`, and wait for the end of its answer."""
        number = self._take_number()
        waiting = self._waiting[number] = _Waiting(conversation, scope.deadline, self._won, m.weight(fields), on_heard)
        self._weight += waiting.weight
        is_sent = False
        try:
            async with self._sending:
                await self._stream.send(m.encode_request(number, fields))
            is_sent = True
            scope.deadline = inf  # from here on it depends on what comes
            await self._wait(waiting, silence_seconds)
        except UnavailableError:
            self.is_closed = self.is_closed or not is_sent
            raise
        finally:
            del self._waiting[number]
            if is_sent and not waiting.done.is_set():
                self._give_up(number, waiting.weight)
            else:
                self._end(waiting.weight)
        if waiting.error is not None:
            raise waiting.error
        return waiting.received

    def _take_number(self) -> int:
        while self._next in self._waiting or self._next in self._given_up:
            self._next = (self._next + 1) % 2**32
        number, self._next = self._next, (self._next + 1) % 2**32
        return number

    def retire(self) -> None:
        """Ask nothing more; the stream ends with the last answer."""
        self._is_retired = True
        self._end(0)

    def _end(self, weight: int) -> None:
        self._weight -= weight
        if self._is_retired and not self._weight:
            self._scope.cancel()
        self._turns.unpark_all()  # several small ones may have waited for a large one

    def _give_up(self, number: int, weight: int) -> None:
        self._given_up[number] = weight
        if not self._waiting:
            self.is_closed = True
            self._scope.cancel()

    async def _wait(self, waiting: _Waiting, silence_seconds: float | None) -> None:
        """Until the answer has ended. Raises SilentError, and trio.TooSlowError when its time is over.

        What was won meanwhile is looked at when its time would be over, not with each piece that comes: a feed has a
        thousand answers under way.
        """
        heard, patience = self._received, inf if silence_seconds is None else silence_seconds
        silent_at = trio.current_time() + patience
        while not waiting.done.is_set():
            with trio.move_on_at(min(silent_at, waiting.until(self._won))):
                await waiting.done.wait()
            now = trio.current_time()
            if waiting.done.is_set():
                return
            if now >= waiting.until(self._won):
                raise trio.TooSlowError
            if now >= silent_at:
                if heard == self._received:
                    raise SilentError(self._stream.peer_id)
                heard, silent_at = self._received, now + patience

    async def read(self) -> None:
        """Read replies until the stream ends."""
        error: Exception = UnavailableError(f"peer {self._stream.peer_id} closed the connection")
        try:
            with self._scope:
                await self._read_replies()
        except (IntegrityError, UsageError) as problem:  # what a peer sends is never our user's fault
            error = RemoteError(self._stream.peer_id, str(problem), cid=getattr(problem, "cid", None))
            note(INFO, "peer_dropped", peer=self._stream.peer_id, reason=str(problem))
            await self._swarm.disconnect(self._stream.peer_id, for_cause=True)
        except UnavailableError as problem:
            error = problem
        finally:
            self.is_closed = True
            self._turns.unpark_all()
            for waiting in self._waiting.values():
                waiting.error = error
                waiting.done.set()
            with trio.CancelScope(shield=True):
                await (self._stream.reset() if self._given_up else self._stream.close())

    async def _read_replies(self) -> None:
        frames, replies = FrameReader(), m.ReplyReader()
        while data := await self._stream.receive():
            self._received += len(data)
            for waiting in self._waiting.values():
                if waiting.on_heard is not None:  # a frame may take long on a slow line
                    waiting.on_heard()
            for body in frames.feed(data):
                self._won += len(body) / ANSWER_BYTES_PER_SECOND_MIN
                reply = replies.read(body)
                if replies.number in self._waiting:
                    self._waiting[replies.number].received += len(body)
                if reply is not None:
                    self._take(reply, replies)

    def _take(self, reply: m.Reply, replies: m.ReplyReader) -> None:
        waiting = self._waiting.get(reply.number)
        ended = isinstance(reply, m.End | m.Failure)
        if ended:
            replies.forget(reply.number)
        if waiting is None:
            if reply.number not in self._given_up:
                raise IntegrityError("an answer to nothing that was asked")
            if ended:
                self._end(self._given_up.pop(reply.number))
            return
        waiting.conversation.take(reply)
        if waiting.conversation.is_over:
            waiting.done.set()
