"""Where we can be reached: not at networks that have gone, nor through listeners that are closed."""

from __future__ import annotations

from types import SimpleNamespace

import ifaddr
import pytest
from multiaddr import Multiaddr

from rhizome_index.node.libp2p_addresses import concrete
from rhizome_index.node.libp2p_swarm import open_swarm

NETWORK = "/ip4/203.0.113.5/tcp/4711"
NETWORK6 = "/ip6/2001:db8::1/tcp/4711/ws"
ALWAYS = ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.2/tcp/1", "/ip6/::1/tcp/1", "/dns4/example.org/tcp/1"]


def machine(monkeypatch: pytest.MonkeyPatch, *ips: object) -> None:
    adapter = SimpleNamespace(ips=[SimpleNamespace(ip=ip) for ip in ips])
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [adapter])


def test_an_address_comes_and_goes_with_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [Multiaddr(text) for text in (NETWORK, NETWORK6, *ALWAYS)]
    machine(monkeypatch, "203.0.113.5", ("2001:db8::1", 0, 0))
    assert list(map(str, concrete(addresses))) == [NETWORK, NETWORK6, *ALWAYS]
    machine(monkeypatch, "203.0.113.6", ("2001:db8::2", 0, 0))
    assert list(map(str, concrete(addresses))) == ALWAYS


async def test_a_closed_listener_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> None:
        raise OSError("Bad file descriptor")

    async with open_swarm(b"s" * 32, ["/ip4/127.0.0.1/tcp/0"]) as swarm:
        ((name, listener),) = swarm._network.listeners.items()
        assert len(swarm.addresses) == 1
        with monkeypatch.context() as patched:
            patched.setattr(listener, "get_addrs", closed)
            assert swarm.addresses == ()
        with monkeypatch.context() as patched:
            patched.delitem(swarm._network.listeners, name)
            assert swarm.addresses == ()
        assert len(swarm.addresses) == 1
