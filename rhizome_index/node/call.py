"""Ask the running node of this home something: one request, one connection (see `wire.control`)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import trio

from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.limits import CONTROL_ANSWER_BYTES_MAX, CONTROL_TIMEOUT_SECONDS, PROVIDERS_MAX
from rhizome_index.node.collect import Collected
from rhizome_index.node.collector import Progress as Collecting
from rhizome_index.node.cost import Cost
from rhizome_index.node.framed import Framed
from rhizome_index.node.sync import Progress
from rhizome_index.node.unix_socket import connect
from rhizome_index.wire import control
from rhizome_index.wire import message as m

_GONE = "the running node of this home has stopped"
_HINT = "do it again: it works without a node, too"


class Call:
    """One request to a running node, and what it answers."""

    def __init__(self, connection: Framed) -> None:
        self.connection = connection

    @classmethod
    async def make(cls, path: Path, request: control.Request) -> Call:
        """Ask the node whose socket is at a path. Raises UnavailableError if there is none."""
        socket = connect(path)
        if socket is None:
            raise UnavailableError(_GONE, hint=_HINT)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket))
        call = cls(Framed(stream, CONTROL_ANSWER_BYTES_MAX))
        try:
            await stream.send_all(control.encode_request(request))
        except trio.BrokenResourceError:
            call.hang_up()
            raise UnavailableError(_GONE, hint=_HINT) from None
        except BaseException:
            call.hang_up()
            raise
        return call

    async def hear(self) -> control.News | control.End:
        """The next part of the answer. Raises the error that the node gives, UnavailableError if the node is gone."""
        try:
            body = await self.connection.receive_frame()
        except trio.BrokenResourceError:
            body = None
        if body is None:
            raise UnavailableError(_GONE, hint=_HINT)
        answer = control.decode_answer(body)
        if isinstance(answer, control.Failed):
            raise answer.error
        return answer

    def hang_up(self) -> None:
        self.connection.stream.socket.close()


async def ask(path: Path, request: control.Request, timeout_seconds: float) -> tuple[Call, control.End]:
    """Make a call and wait for its end, passing over news. Raises UnavailableError when the time is up."""
    call = None
    try:
        with trio.fail_after(timeout_seconds):
            call = await Call.make(path, request)
            while not isinstance(answer := await call.hear(), control.End):
                pass
            return call, answer
    except trio.TooSlowError:
        if call is not None:
            call.hang_up()
        raise UnavailableError(f"the running node did not answer within {timeout_seconds:.3g} s") from None
    except BaseException:
        if call is not None:
            call.hang_up()
        raise


async def tell_changed(path: Path) -> None:
    """Tell the node whose socket is at a path, if there is one, that its store has been written to."""
    with suppress(UnavailableError, IntegrityError):  # it looks by itself, too
        call, _ = await ask(path, control.Look(), CONTROL_TIMEOUT_SECONDS)
        call.hang_up()


def progress_fields(progress: Progress, cost: Cost, before: Cost) -> dict[str, Any]:
    """News of a sync: how far it is, and what it has cost since then."""
    return {
        "phase": progress.phase,
        "entries_done": progress.entries_done,
        "entries_total": progress.entries_total,
        "bytes_received": cost.bytes_received - before.bytes_received,
        "round_trips": cost.round_trips - before.round_trips,
        "peers": cost.peers[-PROVIDERS_MAX:],
    }


def read_progress(fields: Any) -> tuple[Progress, Cost]:
    """The other end of `progress_fields`. Raises IntegrityError."""
    phase, done, total, received, round_trips, peers = m.read_fields(
        fields,
        phase=m.is_text,
        entries_done=m.is_natural,
        entries_total=m.is_natural,
        bytes_received=m.is_natural,
        round_trips=m.is_natural,
        peers=is_texts,
    )
    cost = Cost(bytes_received=received, round_trips=round_trips, peers=peers)
    return Progress(phase, done, total, received), cost


def read_collected(fields: Any) -> Collected:
    """What a collection of the node's has found. Raises IntegrityError."""
    names = [field.name for field in dataclass_fields(Collected)]
    return Collected(*m.read_fields(fields, **dict.fromkeys(names, m.is_natural)))


def read_collecting(fields: Any) -> Collecting:
    """How far it is. Raises IntegrityError."""
    return Collecting(*m.read_fields(fields, looked_at=m.is_natural, is_waiting=m.is_flag))


def is_texts(value: Any) -> bool:
    """A list of texts, which the frame around it bounds."""
    return type(value) is list and all(map(m.is_text, value))
