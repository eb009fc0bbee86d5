"""DCUtR with js-libp2p: `python -m tests.interop.direct ROLE OURS THEIRS`, in a network of its own.

ROLE is what js-libp2p's peer does: reach ours through a relay, or wait for it. OURS and THEIRS are the addresses
to listen on, or "-" for none. Prints one line of JSON: who opened the direct connection, as js-libp2p says it, and
whether ours uses it. js-libp2p dials public addresses only, so those are the ones to use.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import trio

from rhizome_index.node.libp2p_swarm import Libp2pSwarm, open_swarm
from rhizome_index.node.relay import Relay
from rhizome_index.node.reserve import Reservations

PROGRAM = Path(__file__).parent / "js" / "direct.mjs"
RELAY_LISTENS = "/ip4/127.0.0.1/tcp/0"
WAIT_SECONDS = 20


async def main(role: str, ours: str, theirs: str) -> None:
    with trio.fail_after(WAIT_SECONDS):
        async with (
            trio.open_nursery() as nursery,
            open_swarm(b"r" * 32, [RELAY_LISTENS]) as relay,
            open_swarm(b"o" * 32, [] if ours == "-" else [ours]) as swarm,
        ):
            Relay(relay, time.time).start()
            address = relay.addresses[0]
            if role == "reach":
                await nursery.start(Reservations(swarm, time.time).keep, address)
                address = next(text for text in swarm.addresses if "/p2p-circuit" in text)
            await meet(swarm, relay.peer_id, [role, address, *([] if theirs == "-" else [theirs])])
            nursery.cancel_scope.cancel()


async def meet(swarm: Libp2pSwarm, relay: str, arguments: list[str]) -> None:
    command = ["node", str(PROGRAM), *arguments]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        said = b""
        while b"direct" not in said:
            part = await process.stdout.receive_some()
            assert part, "js-libp2p's peer has ended"
            if b"addresses" in part and arguments[0] == "wait":
                addresses = json.loads(part.splitlines()[0])["addresses"]
                await swarm.dial(next(text for text in addresses if "/p2p-circuit" in text), timeout_seconds=10)
            said += part
        (peer,) = set(swarm.connected_peers) - {relay}
        while swarm.relayed_connections(peer):  # noqa: ASYNC110  the library has no event for it
            await trio.sleep(0.01)
        print(json.dumps({**json.loads(said.splitlines()[-1]), "is_relayed": swarm.is_relayed(peer)}))
    finally:
        await process.stdin.aclose()
        await process.wait()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
