"""Multiaddrs: which can be listened on, which can be dialled, and what to call ourselves.

Promises: an address that cannot work is refused with the reason, before the
library, which fails silently, sees it. Opens no connection; binds a port only to
see whether it is free.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

import ifaddr
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from rhizome_index.errors import UsageError
from rhizome_index.wire.multiaddr import RELAYED

_LISTEN_HINT = "write /ip4/127.0.0.1/tcp/0 or /ip4/0.0.0.0/tcp/4711/ws"
_DIAL_HINT = "they look like /ip4/127.0.0.1/tcp/4711/p2p/12D3KooW..."
_SHOWN = 200  # characters of a bad address that an error repeats


def parse_listen(texts: Sequence[str]) -> list[Multiaddr]:
    """Addresses to listen on, each tried. Raises UsageError that names the address."""
    addresses = [_parse_listen(text) for text in dict.fromkeys(texts)]
    sockets = [str(address).removesuffix("/ws") for address in addresses]
    for address, socket_text in zip(addresses, sockets, strict=True):
        if sockets.count(socket_text) > 1 and not socket_text.endswith("/tcp/0"):
            raise UsageError(f"cannot listen on {address}: TCP and WebSocket need a port each", hint=_LISTEN_HINT)
        _try_to_bind(address)
    return addresses


def _parse_listen(text: str) -> Multiaddr:
    try:
        address = Multiaddr(text)
        names = [protocol.name for protocol in address.protocols()]
    except Exception:  # the parser raises nearly anything
        if (port := re.search(r"/tcp/(\d{5,9})(/|$)", text, re.ASCII)) and int(port[1]) >= 2**16:
            raise UsageError(
                f"cannot listen on {text[:_SHOWN]}: port {port[1]} is too large", hint="ports go up to 65535"
            ) from None
        raise UsageError(f"cannot listen on {text[:_SHOWN]!r}: not a multiaddr", hint=_LISTEN_HINT) from None
    if names[:2] not in (["ip4", "tcp"], ["ip6", "tcp"]) or names[2:] not in ([], ["ws"]):
        raise UsageError(f"cannot listen on {text[:_SHOWN]}: only TCP and WebSocket", hint=_LISTEN_HINT)
    return address


def _try_to_bind(address: Multiaddr) -> None:
    # The library shares ports silently (SO_REUSEPORT), and when it cannot bind it says nothing: so we look first.
    is_ip4 = address.protocols()[0].name == "ip4"
    host = str(address.value_for_protocol("ip4" if is_ip4 else "ip6"))
    port = int(str(address.value_for_protocol("tcp")))
    try:
        with socket.socket(socket.AF_INET if is_ip4 else socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left is free
            probe.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"cannot listen on {address}: port {port} is already in use",
                hint="choose another port, or 0 for any that is free",
            ) from None
        reason = {
            errno.EADDRNOTAVAIL: "this machine has no such address",
            errno.EACCES: f"port {port} needs special rights",
        }.get(error.errno or 0, error.strerror or str(error))
        raise UsageError(f"cannot listen on {address}: {reason}", hint=_LISTEN_HINT) from None


class Way(NamedTuple):
    """How to reach a peer.

    transport  the transport's part of its address, or of its relay's
    peer       whom to expect there
    relay      the full address of the relay, if it is reached through one
    """

    transport: Multiaddr
    peer: ID
    relay: str | None = None


def parse_dial(text: str) -> Way:
    """A full address to dial. Raises UsageError."""
    relay, circuit, rest = text.partition(RELAYED)
    if circuit:
        return _parse_relayed(text, relay, rest)
    try:
        address = Multiaddr(text)
        names = [protocol.name for protocol in address.protocols()]
    except Exception:  # the parser raises nearly anything
        raise UsageError(f"not a peer's address: {text[:_SHOWN]!r}", hint=_DIAL_HINT) from None
    if "p2p" not in names:
        raise UsageError(f"the address does not say whose it is: {text[:_SHOWN]}", hint="add /p2p/ and the peer's id")
    try:
        info = info_from_p2p_addr(address)
        (transport,) = info.addrs
    except Exception:
        raise UsageError(f"not a peer's address: {text[:_SHOWN]!r}", hint=_DIAL_HINT) from None
    if names[1:] not in (["tcp", "p2p"], ["tcp", "ws", "p2p"]):
        raise UsageError(f"cannot dial {text[:_SHOWN]}: only TCP and WebSocket", hint=_DIAL_HINT)
    return Way(transport, info.peer_id)


def _parse_relayed(text: str, relay: str, rest: str) -> Way:
    try:
        through = parse_dial(relay)
        names = [protocol.name for protocol in Multiaddr(rest).protocols()] if rest else []
    except UsageError as error:
        raise UsageError(f"cannot dial {text[:_SHOWN]!r} through its relay: {error}", hint=error.hint) from None
    except Exception:
        raise UsageError(f"not a peer's address: {text[:_SHOWN]!r}", hint=_DIAL_HINT) from None
    if names != ["p2p"]:
        raise UsageError(f"an address that does not say whose it is: {text[:_SHOWN]!r}", hint="add /p2p/ and its id")
    return Way(through.transport, ID.from_string(rest.removeprefix("/p2p/")), relay)


def concrete(addresses: Sequence[Multiaddr]) -> list[Multiaddr]:
    """The addresses with wildcards replaced by those of this machine's interfaces, without those that it lost."""
    found: dict[str, Multiaddr] = {}
    for address in addresses:
        text = str(address)
        for wildcard, is_ip4 in (("/ip4/0.0.0.0/", True), ("/ip6/::/", False)):
            if text.startswith(wildcard):
                rest = text[len(wildcard) :]
                for ip in _own_addresses(is_ip4=is_ip4):
                    name = f"/{'ip4' if is_ip4 else 'ip6'}/{ip}/{rest}"
                    found[name] = Multiaddr(name)
                break
        else:
            if _is_here(address):
                found[text] = address
    return list(found.values())


def _is_here(address: Multiaddr) -> bool:
    """Whether an address is this machine's still: networks come and go, and a listener does not notice."""
    kind = address.protocols()[0].name
    if kind not in ("ip4", "ip6"):
        return True
    ip = ip_address(str(address.value_for_protocol(kind)))
    return ip.is_loopback or ip in map(ip_address, _own_addresses(is_ip4=kind == "ip4"))


def _own_addresses(*, is_ip4: bool) -> list[str]:
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if is_ip4 and isinstance(ip.ip, str):
                found.append(ip.ip)
            elif not is_ip4 and not isinstance(ip.ip, str) and not ip.ip[2]:  # one with a scope is of no use elsewhere
                found.append(ip.ip[0])
    return found or ["127.0.0.1" if is_ip4 else "::1"]
