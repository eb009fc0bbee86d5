"""Serve metrics over HTTP, to whoever may connect: by default only this machine.

Promises: what a client can make us hold and do is bounded, by connections, bytes and
seconds; one answer a connection. It does not know what the metrics are, nor how they
are written down.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import h11
import trio

from rhizome_index.errors import UsageError
from rhizome_index.limits import METRICS_CONNECTIONS_MAX, METRICS_REQUEST_BYTES_MAX, METRICS_TIMEOUT_SECONDS
from rhizome_index.node.metrics import Metrics
from rhizome_index.node.peer import Peer

PATH = b"/metrics"
_LOOPBACK = "127.0.0.1"


def parse_endpoint(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:9464`, `[::1]:9464`, `:9464` or `9464`. Raises UsageError."""
    found = re.fullmatch(r"(?:(?P<host>[^][:/]*|\[(?P<ip6>[0-9a-fA-F:.]+)\]):)?(?P<port>[0-9]{1,5})", text, re.ASCII)
    if found is None or int(found["port"]) >= 2**16:
        raise UsageError(f"cannot serve metrics on {text!r}", hint="write 127.0.0.1:9464, [::1]:9464 or 9464")
    return found["ip6"] or found["host"] or _LOOPBACK, int(found["port"])


class Scrapes:
    """Where metrics can be had. `url` is for whoever collects them."""

    def __init__(self, listeners: list[trio.SocketListener]) -> None:
        self._listeners = listeners
        self._connections = 0
        host, port, *_ = listeners[0].socket.getsockname()
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH.decode()}"

    async def serve(self, peer: Peer) -> None:
        """Answer with a peer's metrics until cancelled."""
        metrics = Metrics(peer)

        async def serve(stream: trio.SocketStream) -> None:
            self._connections += 1
            try:
                async with stream:
                    if self._connections <= METRICS_CONNECTIONS_MAX:
                        await _serve(stream, metrics)
            finally:
                self._connections -= 1

        await trio.serve_listeners(serve, self._listeners)


@asynccontextmanager
async def open_scrapes(endpoint: str) -> AsyncIterator[Scrapes]:
    """Listen for scrapes. Raises UsageError for what is no address, or none that can be listened on."""
    host, port = parse_endpoint(endpoint)
    try:
        listeners = list(await trio.open_tcp_listeners(port, host=host))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot serve metrics on {endpoint}: {reason}", hint="choose another address") from None
    try:
        yield Scrapes(listeners)
    finally:
        for listener in listeners:
            listener.socket.close()


async def _serve(stream: trio.SocketStream, metrics: Metrics) -> None:
    with (
        suppress(trio.BrokenResourceError, h11.ProtocolError),  # it is gone, or is no HTTP client
        trio.move_on_after(METRICS_TIMEOUT_SECONDS),
    ):
        await _answer(stream, metrics)


async def _answer(stream: trio.SocketStream, metrics: Metrics) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=METRICS_REQUEST_BYTES_MAX)
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(METRICS_REQUEST_BYTES_MAX))
    except h11.RemoteProtocolError as error:
        await _send(stream, connection, error.error_status_hint, b"not a request", "text/plain")
        return
    if not isinstance(event, h11.Request):
        return
    if event.target.partition(b"?")[0] != PATH:
        await _send(stream, connection, 404, b"metrics are at /metrics\n", "text/plain")
    elif event.method not in (b"GET", b"HEAD"):
        await _send(stream, connection, 405, b"only GET\n", "text/plain")
    else:
        accept = b",".join(value for name, value in event.headers if name == b"accept")
        body, content_type = metrics.exposed(accept.decode("latin-1"))
        await _send(stream, connection, 200, body, content_type, only_head=event.method == b"HEAD")


async def _send(
    stream: trio.SocketStream,
    connection: h11.Connection,
    status: int,
    body: bytes,
    kind: str,
    *,
    only_head: bool = False,
) -> None:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Connection", "close")]
    parts = [
        connection.send(h11.Response(status_code=status, headers=headers)),
        connection.send(h11.Data(data=b"" if only_head else body)),
        connection.send(h11.EndOfMessage()),
    ]
    await stream.send_all(b"".join(part or b"" for part in parts))
