"""The command that asks peers for their word: who made an index himself, and whether all say the same."""

from __future__ import annotations

from typing import Any

import click

from rhizome_index.api import open_node
from rhizome_index.cli.auditing import parse_index_name
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.network import PEERS, check_reached, run
from rhizome_index.cli.show import many, to_json
from rhizome_index.errors import UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.index.size import say_size
from rhizome_index.node.attested import Attested, Word


@click.command(
    "attestations",
    epilog="""\b
Examples:
  rhizome attestations rhizome:12D3KooW.../main posts.by_tag
  rhizome query 'newest 32 posts tagged #cats' --from rhizome:12D3KooW.../main --require L2:5

\b
A peer that follows a dataset makes its indexes from the records, and signs what came out. That is its
word, not a proof: attesters count by the networks at which they were reached, and none of them counts
where peers say different things.
""",
)
@click.argument("address")
@click.argument("index", metavar="COLLECTION.INDEX")
@PEERS
@common
def attestations_command(settings: Settings, address: str, index: str, peers: tuple[str, ...]) -> None:
    """Ask peers which of them made an index from the records, and what came out."""
    place, (collection, name) = Address.parse(address), parse_index_name(index)

    async def ask() -> None:
        async with open_node(settings.home, peers=peers, join=True) as node:
            check_reached(node)
            found = await node.attested(place, collection, name)
            if not found.cost.peers and not found.words:
                raise UnavailableError(
                    f"nobody was asked: no peer was found who serves {place}", hint="name a peer that might: --peer"
                )
            print(to_json(_as_row(found)) if settings.as_json else "\n".join(_lines(found)))

    run(ask)


def _as_row(found: Attested) -> dict[str, Any]:
    cost = found.cost
    return {
        "proof": str(found.standing),
        "address": str(found.head.address),
        "head": found.head.sequence,
        "collection": found.collection,
        "index": found.index,
        "attestations": [
            {"peer": word.attestation.peer_id, "network": word.network, "same": _is_same(found, word)}
            for word in found.words
        ],
        "disputed": found.standing.is_disputed,
        "proven": found.standing.proven,
        "not_proven": found.standing.open,
        "bytes_received": cost.bytes_received,
        "round_trips": cost.round_trips,
        "peers": cost.peers,
        "seconds": round(cost.seconds, 3),
    }


def _is_same(found: Attested, word: Word) -> bool:
    return word.attestation.derivation == found.derivation


def _lines(found: Attested) -> list[str]:
    cost, standing = found.cost, found.standing
    agree = sum(_is_same(found, word) for word in found.words)
    said = f"{many(agree, 'peer')} made the same index" + (
        f", {many(len(found.words) - agree, 'peer')} another one" if agree < len(found.words) else ""
    )
    if not cost.peers:
        said += " (from earlier: nobody was found to ask now)"
    return [
        f"{standing}: head {found.head.sequence} of {found.head.address}, {found.collection}.{found.index}: {said}",
        *(
            f"  {word.attestation.peer_id}  {word.network or 'no network that counts'}"
            + ("" if _is_same(found, word) else "  another index")
            for word in found.words
        ),
        f"  {say_size(cost.bytes_received)} in {many(cost.round_trips, 'round trip')}, {cost.seconds:.1f} s",
        f"  proven: {standing.proven}",
        f"  not proven: {standing.open}",
    ]
