"""The local network's multicast DNS: announce ourselves there, and hear others. The only place that knows zeroconf.

Promises: what is heard waits in memory of a fixed size until somebody looks, however
much is said; zeroconf, which has a thread of its own, never waits for us.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import trio
from zeroconf import RecordUpdate, RecordUpdateListener, ServiceBrowser, ServiceInfo, Zeroconf

from rhizome_index.errors import UnavailableError
from rhizome_index.limits import MDNS_HEARD_MAX, MDNS_TEXT_BYTES_MAX
from rhizome_index.wire.mdns import SERVICE, encode_text, ip_of, is_name

_TEXT = 16  # the type of a text record


class Ear(RecordUpdateListener):
    """Text records of peers, the last one of each name, until they are taken."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._lock = threading.Lock()
        self._heard: dict[str, bytes] = {}
        self._news = trio.Event()

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """In zeroconf's thread: records have arrived."""
        for record in records:
            new: Any = record.new
            if new.type == _TEXT and is_name(new.name):
                self.hear(new.name, new.text)

    def hear(self, name: str, text: bytes) -> None:
        """In any thread. Of more than MDNS_HEARD_MAX that nobody has taken yet, the rest is not kept."""
        if len(text) > MDNS_TEXT_BYTES_MAX:
            return
        with self._lock:
            if name not in self._heard and len(self._heard) >= MDNS_HEARD_MAX:
                return
            self._heard[name] = text
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._news.set()

    async def wait_texts(self) -> list[bytes]:
        """What has been heard since the last time, as soon as there is something."""
        await self._news.wait()
        self._news = trio.Event()
        with self._lock:
            heard, self._heard = self._heard, {}
        return list(heard.values())


@asynccontextmanager
async def open_air(name: str, addresses: Sequence[str]) -> AsyncIterator[Ear]:
    """Announce full addresses under a name on the interfaces that they belong to, and hear others there.

    Raises UnavailableError where there is no multicast.
    """
    ear = Ear(trio.lowlevel.current_trio_token())
    interfaces = _interfaces(addresses)
    try:
        air = await trio.to_thread.run_sync(partial(Zeroconf, interfaces=interfaces))
    except Exception as error:  # OSError mostly
        raise UnavailableError(f"no multicast on {', '.join(interfaces)}: {error}") from None
    try:
        try:
            await trio.to_thread.run_sync(_speak, air, ear, name, addresses)
        except Exception as error:
            raise UnavailableError(f"no multicast on {', '.join(interfaces)}: {error}") from None
        yield ear
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_fall_silent, air)


def _interfaces(addresses: Sequence[str]) -> list[str]:
    """The IP addresses of interfaces. One kind of IP is enough: peers that have both are heard by either."""
    found = list(dict.fromkeys(ip_of(address) for address in addresses))
    return [ip for ip in found if "." in ip] or found


def _speak(air: Zeroconf, ear: Ear, name: str, addresses: Sequence[str]) -> None:
    air.add_listener(ear, None)
    information = ServiceInfo(
        SERVICE,
        name,
        port=int(addresses[0].split("/")[4]),
        properties=encode_text(addresses),
        server=f"{name.partition('.')[0]}.local.",
        parsed_addresses=_interfaces(addresses),
    )
    air.register_service(information, cooperating_responders=True)  # the name is random: nobody else has it
    ServiceBrowser(air, SERVICE, handlers=[_disregard])  # asks, now and again; what matters are text records


def _disregard(**change: object) -> None:
    pass


def _fall_silent(air: Zeroconf) -> None:
    with suppress(Exception):  # the network may be gone
        air.close()
