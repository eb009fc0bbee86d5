"""Commands that meet other peers: query and node."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from rhizome_index import __version__
from rhizome_index.api import Node, open_node
from rhizome_index.cli.asking import ask_question, explain_question, read_question
from rhizome_index.cli.durations import FRESH
from rhizome_index.cli.logs import LOG, LOG_LEVEL, logging_to, tell_listeners, tell_problems
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.passphrase import given
from rhizome_index.cli.show import many, to_json
from rhizome_index.cli.sizes import NO_QUOTA, QUOTA
from rhizome_index.errors import UnavailableError, UsageError, first_of
from rhizome_index.index.freshness import Freshness
from rhizome_index.node.events import INFO, note
from rhizome_index.node.home import no_passphrase
from rhizome_index.node.room import Room
from rhizome_index.trust.ladder import ANYTHING, Requirement

if TYPE_CHECKING:
    from rhizome_index.node.exposition import Scrapes

PEERS = click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="A peer to connect to.")


@click.command(
    "query",
    epilog="""\b
Examples:
  rhizome query 'first 32 posts tagged #cats'
  rhizome query 'newest 10 posts by alice where likes > 5' --from rhizome:12D3KooW.../main
  rhizome query 'newest 32 posts tagged #cats' --from @following
  rhizome query 'newest 10 posts since 7d where text matches "cute cats" select id, text'
  rhizome query 'count by tags of posts limit 10'
  rhizome query 'max likes of posts tagged #cats'
  rhizome query '{"find": "posts", "where": {"likes": {"$gt": 5}}, "limit": 3}'
  rhizome query 'count posts tagged #cats' --peer /ip4/127.0.0.1/tcp/4711/p2p/12D3KooW...
  rhizome query 'first 5 posts' --fresh 1h
  rhizome query 'newest 32 posts tagged #cats' --watch
  rhizome query 'count posts tagged #cats' --require L3
""",
)
@click.argument("text")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="ADDRESS",
    help="The dataset to ask, by default the only one there is; or several; or @following.",
)
@PEERS
@click.option("--offline", is_flag=True, help="Answer from this home alone.")
@click.option("--scan", is_flag=True, help="Allow reading everything where no index answers.")
@FRESH
@click.option("--unexpired", is_flag=True, help="Insist on a head whose publisher says that it holds still.")
@click.option("--require", "level", metavar="LEVEL", help="Refuse an answer of which less is proven: L1 to L5.")
@click.option("--proof", type=click.Path(path_type=Path, dir_okay=False), help="Save the answer with its proof here.")
@click.option("--watch", is_flag=True, help="Stay, and print what changes of the rows from head to head.")
@common
def query_command(
    settings: Settings,
    text: str,
    sources: tuple[str, ...],
    peers: tuple[str, ...],
    offline: bool,
    scan: bool,
    age_seconds: float | None,
    unexpired: bool,
    level: str | None,
    proof: Path | None,
    watch: bool,
) -> None:
    """Ask a query. Rows go to stdout; what was proven, and at what cost, to stderr."""
    required = Requirement.parse(level) if level is not None else ANYTHING
    fresh = Freshness(age_seconds, unexpired)
    question = read_question(text, sources, scan=scan, fresh=fresh, required=required, proof=proof, watch=watch)
    if offline and peers:
        raise UsageError("--offline and --peer contradict each other")
    was_there = settings.home.exists

    async def ask() -> None:
        async with open_node(settings.home, peers=peers, join=not offline and settings.home.is_running) as node:
            check_reached(node)
            await ask_question(settings, node, question)

    try:
        run(ask)
    except UnavailableError as error:
        if not was_there:
            made = f"{settings.home.path} is a home that was made just now: is --home right?"
            error.hint = "\n".join(filter(None, [made, error.hint]))
        raise


@click.command(
    "explain",
    epilog="""\b
Examples:
  rhizome explain 'newest 32 posts tagged #cats and #dogs'
  rhizome explain 'newest 32 posts tagged #cats where likes > 5' --execute
""",
)
@click.argument("text")
@click.option("--from", "source", metavar="ADDRESS", help="The dataset to ask; by default the only one there is.")
@PEERS
@click.option("--scan", is_flag=True, help="Allow reading everything where no index answers.")
@click.option("--execute", is_flag=True, help="Ask it, too, and say what it really took.")
@common
def explain_command(
    settings: Settings, text: str, source: str | None, peers: tuple[str, ...], scan: bool, execute: bool
) -> None:
    """Show every way to answer a query, what each would read, and why it lost."""
    question = read_question(text, (source,) if source else (), scan=scan)

    async def explain() -> None:
        async with open_node(settings.home, peers=peers, join=settings.home.is_running) as node:
            check_reached(node)
            await explain_question(settings, node, question, execute=execute)

    run(explain)


@click.command(
    "node",
    epilog="""\b
Examples:
  rhizome node --listen /ip4/0.0.0.0/tcp/4711 --listen /ip4/0.0.0.0/tcp/4712/ws
  rhizome node --quota 2GB --metrics 127.0.0.1:9464 --log node.log
  rhizome node --listen /ip4/0.0.0.0/tcp/4711 --as-relay
  rhizome node --listen /ip4/0.0.0.0/tcp/4711 --relay /ip4/203.0.113.5/tcp/4711/p2p/12D3KooW...
  rhizome node --json | head -1
""",
)
@click.option("--listen", multiple=True, metavar="MULTIADDR", help="Where to listen. Default: /ip4/127.0.0.1/tcp/0.")
@PEERS
@click.option("--relay", "relays", multiple=True, metavar="MULTIADDR", help="Be reached through this relay.")
@click.option("--as-relay", is_flag=True, help="Let peers that nobody can dial be reached through this node.")
@click.option("--quota", type=QUOTA, metavar="SIZE|none", help="Room for what is kept of others, from now on.")
@click.option(
    "--mdns/--no-mdns",
    default=None,
    help="Find peers on the local network, and be found there. Default: unless it listens on loopback alone.",
)
@click.option("--metrics", metavar="ADDRESS:PORT", help="Serve Prometheus metrics there; without ADDRESS, on loopback.")
@LOG
@LOG_LEVEL
@common
def node_command(
    settings: Settings,
    listen: tuple[str, ...],
    peers: tuple[str, ...],
    relays: tuple[str, ...],
    as_relay: bool,
    quota: int | None,
    mdns: bool | None,
    metrics: str | None,
    log: str | None,
    log_level: str,
) -> None:
    """Serve this home's datasets until interrupted."""
    settings.home.create()
    settings.home.unlock()  # who is asked for a passphrase can still interrupt
    if given(settings) is None:
        settings.home.ask = no_passphrase  # and is not asked again in the middle of it

    if quota is not None:
        with settings.home.open_store() as store:
            Room(store).quota = quota if quota != NO_QUOTA else None

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            signals = stack.enter_context(trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
            stack.enter_context(logging_to(log, log_level, as_json=settings.as_json))
            addresses = listen or ("/ip4/127.0.0.1/tcp/0",)
            scrapes = await stack.enter_async_context(_scraping(metrics))
            node = await stack.enter_async_context(
                open_node(settings.home, listen=addresses, peers=peers, relays=relays, as_relay=as_relay, mdns=mdns)
            )
            gc.collect()
            gc.freeze()  # what is here stays: looking through it all again would hold up every answer for 0.1 s
            if settings.as_json:
                found = {
                    "peer_id": node.peer_id,
                    "addresses": node.addresses,
                    "unreachable": dict(node.unreachable),
                    "metrics": scrapes.url if scrapes else None,
                }
                print(to_json(found), flush=True)
            else:
                print(f"peer {node.peer_id} serves {many(len(node.catalog), 'dataset')} on", flush=True)
                for address in node.addresses:
                    print(f"  {address}", flush=True)
                for dataset in sorted(node.catalog):
                    print(f"  {dataset}", flush=True)
                if scrapes:
                    print(f"metrics on {scrapes.url}", flush=True)
                for reason in sorted(node.unreachable.values()):
                    print(f"rhizome: {reason}", file=sys.stderr)
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(tell_problems, node)
            nursery.start_soon(tell_listeners, node)
            if scrapes:
                nursery.start_soon(scrapes.serve, node.peer)
            note(INFO, "started", peer=node.peer_id, addresses=list(node.addresses), version=__version__)
            async for _ in signals:
                break
            note(INFO, "stopped")
            nursery.cancel_scope.cancel()
        if not settings.as_json:
            print("stopped", file=sys.stderr)

    run(serve)


@asynccontextmanager
async def _scraping(endpoint: str | None) -> AsyncIterator[Scrapes | None]:
    """Where metrics can be had, if that is wanted. Raises UsageError."""
    if endpoint is None:
        yield None
        return
    from rhizome_index.node.exposition import open_scrapes

    async with open_scrapes(endpoint) as scrapes:
        yield scrapes


_REACH_HINTS = {
    "another peer answers": "is what stands behind /p2p/ the peer id that `rhizome id` prints there?",
    "no libp2p peer": "does its address end in /ws before /p2p/, and should it? TCP and WebSocket have a port each",
    "no such host": "is the name spelled right?",
}


def check_reached(node: Node) -> None:
    """Raise UnavailableError if of the peers that the user named none could be reached."""
    if node.unreachable and not node.peers:
        hints = dict.fromkeys(map(_hint_of, node.unreachable.values()))
        raise UnavailableError("; ".join(node.unreachable.values()), hint="\n".join(hints))


def _hint_of(reason: str) -> str:
    """What to do about an address that could not be reached."""
    return next((hint for sign, hint in _REACH_HINTS.items() if sign in reason), "is that peer running?")


def run(main: object) -> None:
    """Run an async command; of errors that come in groups, raise the first of ours."""
    try:
        trio.run(main)  # type: ignore[arg-type]
    except BaseExceptionGroup as group:
        raise first_of(group) from None
