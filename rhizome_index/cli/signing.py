"""Commands about what is signed, and with which key: renew, key."""

from __future__ import annotations

import time
from typing import Any

import click

from rhizome_index.cli.durations import VALID_FOR
from rhizome_index.cli.local import DATASET, open_published, say
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.show import many, print_rows, say_expiry
from rhizome_index.index.address import peer_id_of, public_key_of
from rhizome_index.index.freshness import expires_in
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.home import Home
from rhizome_index.node.signed import Signed


@click.command("renew", epilog="\b\nExamples:\n  rhizome renew\n  rhizome renew --valid-for 30d")
@DATASET
@VALID_FOR
@common
def renew_command(settings: Settings, dataset: str, valid_seconds: float | None) -> None:
    """Sign the newest head again, as of now: nothing has changed, and it holds on.

    A running node does so by itself, for heads that expire.
    """
    settings.home.unlock()
    with open_published(settings, valid_seconds) as publisher:
        head = publisher.renew(dataset)
    left = expires_in(head, time.time())
    found = {"address": str(head.address), "sequence": head.sequence, "expires_in_seconds": left}
    say(settings, found, f"{head.address} head {head.sequence}{say_expiry(left)}")


@click.group("key")
def key_command() -> None:
    """Show this home's keys, and let a new one sign."""


@key_command.command("list", epilog="\b\nExample:\n  rhizome key list")
@common
def key_list(settings: Settings) -> None:
    """List the keys of this home, the one that names it first, and what each of them signs."""
    with settings.home.open_store() as store:
        print_rows(_keys(settings.home, store), as_json=settings.as_json)


def _keys(home: Home, store: DiskStore) -> list[dict[str, Any]]:
    own = public_key_of(home.peer_id)
    chains = {"all": store.successions.chain(own, None)}
    for address in Signed(store).addresses():
        if address.publisher == home.peer_id and (chain := store.successions.chain(own, address)) != chains["all"]:
            chains[address.name] = chain
    signers = {name: chain[-1].successor if chain else own for name, chain in chains.items()}
    said = {word.key: word for chain in chains.values() for word in chain}
    since = {word.successor: word.start for word in said.values()}
    keys = map(public_key_of, home.peer_ids)
    return [
        {
            "key": peer_id_of(key),
            "signs": ", ".join(name for name, signer in signers.items() if signer == key),
            "since": since.get(key),
            "replaced_by": peer_id_of(said[key].successor) if key in said and key not in signers.values() else None,
        }
        for key in keys
    ]


@key_command.command("rotate", epilog="\b\nExamples:\n  rhizome key rotate\n  rhizome key rotate --dataset main")
@click.option("--dataset", help="Only this one. Its key cannot be replaced for all datasets at once any more.")
@common
def key_rotate(settings: Settings, dataset: str | None) -> None:
    """Make a new key, which signs heads from now on. Addresses stay, and so does this peer's name on the network.

    The old key says so, once and for all. This does not help against somebody who has the old key already.
    """
    home = settings.home
    home.unlock()
    with open_published(settings) as publisher, home.open_store() as store:
        used = {row["key"] for row in _keys(home, store) if row["signs"] or row["replaced_by"]}
        key = home.spare_key(used)
        heads = publisher.rotate(key.public_key, dataset)
    found = {"key": key.peer_id, "dataset": dataset, "heads": {str(head.address): head.sequence for head in heads}}
    text = f"{key.peer_id} signs {dataset or 'all datasets'} from now on"
    text += f"; {many(len(heads), 'head')} signed anew" if heads else ", of which there are none yet"
    say(settings, found, f"{text}\nback up {home.identity_path}: it holds the new key, too")
