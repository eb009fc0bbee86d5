"""Commands for what is kept of others: follow, unfollow, follows, sync, find."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import click
import trio

from rhizome_index.api import Node, open_node
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.network import PEERS, check_reached, run
from rhizome_index.cli.show import many, print_rows, to_json
from rhizome_index.cli.watching import fetch_status
from rhizome_index.errors import IntegrityError, PartialError, QuotaError, RhizomeError, UnavailableError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.size import say_size
from rhizome_index.node.call import tell_changed
from rhizome_index.node.cost import Cost
from rhizome_index.node.directory import CONNECTED, LOCAL, REMEMBERED
from rhizome_index.node.part import kept_by, standing_of
from rhizome_index.node.register import INDEX, WHERE, Follow, Policy, Register
from rhizome_index.node.sync import Progress


@click.command(
    "follow",
    epilog="""\b
Examples:
  rhizome follow rhizome:12D3KooW.../main --peer /ip4/10.0.0.7/tcp/4711/p2p/12D3KooW...
  rhizome follow rhizome:12D3KooW.../main --only posts.by_tag
  rhizome follow rhizome:12D3KooW.../main --where 'newest 1000 posts tagged #cats'
""",
)
@click.argument("address")
@click.option("--only", metavar="COLLECTION.INDEX", help="Keep one index and the records it lists.")
@click.option("--where", metavar="QUERY", help="Keep what this query needs.")
@PEERS
@click.option("--later", is_flag=True, help="Only note it: a running node, or `sync`, brings it.")
@common
def follow_command(
    settings: Settings, address: str, only: str | None, where: str | None, peers: tuple[str, ...], later: bool
) -> None:
    """Keep a dataset here, and up to date. What is kept is served on to others.

    With --where, `since 7d` means seven days before now, and goes on meaning that moment.
    """
    place, policy = Address.parse(address), _policy(only, where)
    settings.home.create()
    if place.publisher == settings.home.peer_id:
        raise UsageError(f"{place} is yours: nothing to follow", hint="publish into it with put or import")
    with settings.home.open_store() as store:
        before = next((follow for follow in Register(store).follows() if follow.address == place), None)
        Register(store).follow(Follow(place, policy))
    if later:
        _tell_node(settings)
        found = {"address": str(place), "policy": str(policy)}
        print(to_json(found) if settings.as_json else f"follows {place}: {policy}")
        return
    try:
        _bring(settings, [place], peers)
    except QuotaError:
        if before is None:
            with settings.home.open_store() as store:
                Register(store).unfollow(place)
            _tell_node(settings)
        raise
    except UnavailableError as error:
        noted = f"it is noted, and brought as soon as it can be: rhizome sync {place}"
        error.hint = "\n".join(filter(None, [error.hint, noted]))
        raise


def _policy(only: str | None, where: str | None) -> Policy:
    if only and where:
        raise UsageError("--only and --where contradict each other")
    if only:
        collection, dot, name = only.partition(".")
        if not dot:
            raise UsageError(f"not an index of a collection: {only!r}", hint="write it as posts.by_tag")
        return Policy(INDEX, collection, name)
    if where:
        return kept_by(Policy(WHERE, query=where), int(time.time() * 1000))
    return Policy()


@click.command("unfollow", epilog="\b\nExample:\n  rhizome unfollow rhizome:12D3KooW.../main")
@click.argument("address")
@common
def unfollow_command(settings: Settings, address: str) -> None:
    """Follow a dataset no longer. Its blocks stay until space is needed."""
    place = Address.parse(address)
    with settings.home.open_store() as store:
        if not Register(store).unfollow(place):
            raise UsageError(f"{place} is not followed", hint="rhizome follows lists what is")
    _tell_node(settings)
    print(to_json({"address": str(place), "followed": False}) if settings.as_json else f"no longer follows {place}")


@click.command("follows", epilog="\b\nExample:\n  rhizome follows --json")
@common
def follows_command(settings: Settings) -> None:
    """List what is followed, and how far it is behind the newest head that is known here.

    Whether there is a newer one nobody is asked: `rhizome sync` does that.
    """
    rows = []
    with settings.home.open_store() as store:
        for follow in Register(store).follows():
            held, newest = store.held_head(follow.address), store.newest_head(follow.address)
            rows.append(
                {
                    "address": str(follow.address),
                    "keeps": str(follow.policy),
                    "head": held.sequence if held else None,
                    "newest_known": newest.sequence if newest else None,
                    "behind": newest.sequence - (held.sequence if held else 0) if newest else None,
                    "age_seconds": round(max(0.0, time.time() - held.time_ms / 1000), 3) if held else None,
                    "proof": str(standing_of(store, held, follow.policy)) if held else None,
                }
            )
    print_rows(rows, as_json=settings.as_json)
    if rows and not settings.as_json and sys.stdout.isatty():
        print("behind: as far as is known here; rhizome sync asks for newer heads", file=sys.stderr)
    if not rows and not settings.as_json:
        print("none: nothing is followed; rhizome follow ADDRESS", file=sys.stderr)


@click.command("sync", epilog="\b\nExample:\n  rhizome sync --peer /ip4/10.0.0.7/tcp/4711/p2p/12D3KooW...")
@click.argument("addresses", nargs=-1)
@PEERS
@common
def sync_command(settings: Settings, addresses: tuple[str, ...], peers: tuple[str, ...]) -> None:
    """Bring what is followed up to date now: all of it, or these ADDRESSES."""
    with settings.home.open_store() as store:
        followed = [follow.address for follow in Register(store).follows()]
    places = [Address.parse(text) for text in addresses] or followed
    for place in places:
        if place not in followed:
            raise UsageError(f"{place} is not followed", hint=f"follow it: rhizome follow {place}")
    if not places:
        raise UsageError("nothing is followed", hint="rhizome follow ADDRESS")
    _bring(settings, places, peers)


@click.command("find", epilog="\b\nExample:\n  rhizome find rhizome:12D3KooW.../main")
@click.argument("address")
@PEERS
@common
def find_command(settings: Settings, address: str, peers: tuple[str, ...]) -> None:
    """Show who serves a dataset, what head they know, and how each was heard of.

    Heard of: named with --peer; remembered from earlier; connected, and said so itself; the same of one that was
    heard on the local network (mdns); told by other peers; or found in the dht, which is asked where nobody else helps.
    """
    place = Address.parse(address)

    async def find() -> None:
        async with open_node(settings.home, peers=peers, join=True) as node:
            rows = await _serving(node, place)
            if node.is_lent:
                await _tell_local(settings, rows)
            if not rows:
                check_reached(node)
        if not rows:
            raise UnavailableError(f"nobody was found who serves {place}", hint="name a peer that might: --peer")
        print_rows(rows, as_json=settings.as_json)

    run(find)


async def _tell_local(settings: Settings, rows: list[dict[str, Any]]) -> None:
    """Of the peers that the running node remembers, some were heard by it on the local network."""
    with suppress(UnavailableError, IntegrityError):
        local = {peer.peer for peer in (await fetch_status(settings)).peers if peer.is_local}
        for row in rows:
            if row["heard"] in (REMEMBERED, CONNECTED) and row["peer"] in local:
                row["heard"] = LOCAL


async def _serving(node: Node, place: Address) -> list[dict[str, Any]]:
    assert node.peer.membership is not None
    membership = node.peer.membership
    rows: list[dict[str, Any]] = []
    for peer in [*node.peers, *await membership.directory.providers(place)]:
        try:
            told = (await membership.directory.ask(peer, [place], Cost())).get(place)
        except RhizomeError:
            continue
        if told is None or not told.heads or any(row["peer"] == peer for row in rows):
            continue
        latency = membership.swarm.latency_seconds(peer)
        rows.append(
            {
                "peer": peer,
                "head": told.heads[0].sequence,
                "latency_ms": None if latency is None else round(latency * 1000, 1),
                "address": next(iter(node.peer.register.addresses_of(peer)), None),
                "heard": "named" if peer in node.peer.named else membership.directory.how_heard(place, peer),
            }
        )
    return rows


def _tell_node(settings: Settings) -> None:
    """What is followed has changed: a running node need not find out by itself."""
    if settings.home.is_running:
        run(partial(tell_changed, settings.home.socket_path))


def _bring(settings: Settings, places: list[Address], peers: tuple[str, ...]) -> None:
    """Sync datasets one after another; say what each has cost."""
    failures: dict[Address, RhizomeError] = {}

    async def bring() -> None:
        async with open_node(settings.home, peers=peers, join=True) as node:
            check_reached(node)
            for place in places:
                try:
                    await _bring_one(settings, node, place)
                except RhizomeError as error:
                    failures[place] = error

    run(bring)
    if failures and len(places) == 1:
        raise failures[places[0]]
    if failures:
        reasons = "; ".join(f"{place}: {error}" for place, error in failures.items())
        kind = PartialError if len(failures) < len(places) else UnavailableError
        raise kind(f"{len(failures)} of {many(len(places), 'dataset')} could not be brought: {reasons}")


async def _bring_one(settings: Settings, node: Node, place: Address) -> None:
    assert node.peer.membership is not None
    follower = node.peer.membership.follower
    before = node.peer.store.held_head(place)
    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        with showing(settings, str(place)) as show:

            async def watch() -> None:
                while True:
                    if (state := follower.states.get(place)) is not None:
                        show(state.progress)
                    await trio.sleep(0.1)

            nursery.start_soon(watch)
            try:
                head = await node.sync(place)
            finally:
                nursery.cancel_scope.cancel()
    cost, seconds = follower.states[place].cost, time.perf_counter() - started
    found = {
        "address": str(place),
        "sequence": head.sequence,
        "before": before.sequence if before else None,
        "bytes_received": cost.bytes_received,
        "round_trips": cost.round_trips,
        "peers": cost.peers,
        "seconds": round(seconds, 3),
    }
    changed = f"head {head.sequence}" if before != head else f"up to date at head {head.sequence}"
    text = (
        f"{place} {changed}: {say_size(cost.bytes_received)} in {many(cost.round_trips, 'round trip')}, {seconds:.1f} s"
    )
    print(to_json(found) if settings.as_json else text)


@contextmanager
def showing(settings: Settings, label: str) -> Iterator[Any]:
    """A function that shows how far something is: a bar on a terminal, else nothing."""
    if settings.as_json or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.fields[phase]:<9}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,} entries, {task.fields[received]}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=0, phase="asking", received="")

        def show(progress: Progress) -> None:
            received = say_size(progress.bytes_received)
            total, done = progress.entries_total, progress.entries_done
            bar.update(task, total=total, completed=done, phase=progress.phase, received=received)

        yield show
