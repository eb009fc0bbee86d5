"""The command that audits an index: what it found, what that proves, and what it does not."""

from __future__ import annotations

from typing import Any

import click
import trio

from rhizome_index.api import Node, open_node
from rhizome_index.cli.following import showing
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.network import PEERS, check_reached, run
from rhizome_index.cli.show import many, to_json
from rhizome_index.errors import UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.size import say_size
from rhizome_index.node.audit import Audited
from rhizome_index.node.carry import Carried
from rhizome_index.node.sync import Progress

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(
    "audit",
    epilog="""\b
Examples:
  rhizome audit rhizome:12D3KooW.../main posts.by_tag --peer /ip4/10.0.0.7/tcp/4711/p2p/12D3KooW...
  rhizome audit rhizome:12D3KooW.../main posts.by_tag --confidence 0.999 --bad-fraction 0.001
  rhizome audit rhizome:12D3KooW.../main posts.by_tag --carry
""",
)
@click.argument("address")
@click.argument("index", metavar="COLLECTION.INDEX")
@click.option("--confidence", type=_SHARE, default=0.99, show_default=True, help="How sure to be.")
@click.option("--carry", is_flag=True, help="Verify what has changed since a head that is proven, instead of samples.")
@click.option("--bad-fraction", type=_SHARE, default=0.01, show_default=True, help="How much may be wrong, at most.")
@PEERS
@common
def audit_command(
    settings: Settings,
    address: str,
    index: str,
    confidence: float,
    carry: bool,
    bad_fraction: float,
    peers: tuple[str, ...],
) -> None:
    """Check samples of an index against its records, and of the records against the index, without keeping either."""
    place, (collection, name) = Address.parse(address), parse_index_name(index)

    async def audit() -> None:
        async with open_node(settings.home, peers=peers, join=carry or settings.home.is_running) as node:
            check_reached(node)
            if carry:
                _say_carried(settings, await node.carry(place, collection, name))
                return
            found = await _audit(settings, node, place, collection, name, confidence, bad_fraction)
            print(to_json(_as_row(found)) if settings.as_json else "\n".join(_lines(found)))

    run(audit)


def parse_index_name(text: str) -> tuple[str, str]:
    """A collection and its index. Raises UsageError."""
    collection, dot, name = text.partition(".")
    if not dot:
        raise UsageError(f"not an index of a collection: {text!r}", hint="write it as posts.by_tag")
    return collection, name


async def _audit(
    settings: Settings, node: Node, place: Address, collection: str, name: str, confidence: float, bad_fraction: float
) -> Audited:
    progress = Progress()
    with showing(settings, str(place)) as show:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                while True:
                    show(progress)
                    await trio.sleep(0.1)

            nursery.start_soon(watch)
            try:
                return await node.audit(
                    place, collection, name, confidence=confidence, bad_fraction=bad_fraction, progress=progress
                )
            finally:
                nursery.cancel_scope.cancel()


def _say_carried(settings: Settings, found: Carried) -> None:
    cost, standing = found.cost, found.standing
    row = {
        "proof": str(standing),
        "address": str(found.head.address),
        "head": found.head.sequence,
        "base": found.base.sequence,
        "changes": found.changes,
        "proven": standing.proven,
        "not_proven": standing.open,
        "bytes_received": cost.bytes_received,
        "round_trips": cost.round_trips,
        "peers": cost.peers,
        "seconds": round(cost.seconds, 3),
    }
    text = (
        f"{standing}: head {found.head.sequence} of {found.head.address} follows from head {found.base.sequence} by "
        f"{many(found.changes, 'changed record')}: {standing.proven}\n"
        f"  {say_size(cost.bytes_received)} in {many(cost.round_trips, 'round trip')}, {cost.seconds:.1f} s\n"
        f"  not proven: {standing.open}"
    )
    print(to_json(row) if settings.as_json else text)


def _as_row(found: Audited) -> dict[str, Any]:
    cost = found.cost
    return {
        "proof": "L3",
        "address": str(found.head.address),
        "head": found.head.sequence,
        "collection": found.collection,
        "index": found.index,
        "confidence": found.bound.confidence,
        "bad_fraction": found.bound.bad_fraction,
        "records": found.records,
        "entries": found.entries,
        "record_samples": found.record_samples,
        "entry_samples": found.entry_samples,
        "escape_chance_records": found.escape_records,
        "escape_chance_entries": found.escape_entries,
        "bytes_received": cost.bytes_received,
        "round_trips": cost.round_trips,
        "peers": cost.peers,
        "seconds": round(cost.seconds, 3),
    }


def _lines(found: Audited) -> list[str]:
    cost, bad = found.cost, f"{found.bound.bad_fraction * 100:.10g}%"
    return [
        f"L3: head {found.head.sequence} of {found.head.address}, {found.collection}.{found.index}: nothing wrong in "
        f"{many(found.record_samples, 'record')} of {found.records:,} and "
        f"{many(found.entry_samples, 'entry', 'entries')} of {found.entries:,}",
        f"  {say_size(cost.bytes_received)} in {many(cost.round_trips, 'round trip')}, {cost.seconds:.1f} s",
        f"  were {bad} of the records listed wrongly, this would have been missed with a chance of "
        f"{found.escape_records:.3g}; were {bad} of the entries wrong, of {found.escape_entries:.3g}",
        "  not excluded: less than that is wrong, such as a single record left out; that the publisher lies in the "
        "records themselves; that there is a newer head",
    ]
