"""Commands that meet other peers: query and node."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from rhizome_index import __version__
from rhizome_index.api import DEFAULT_DATASET, Node, Results, open_node
from rhizome_index.cli.archives import open_for_writing
from rhizome_index.cli.durations import FRESH
from rhizome_index.cli.feeding import ask_feed, is_feed
from rhizome_index.cli.live import watch_query
from rhizome_index.cli.logs import LOG, LOG_LEVEL, logging_to, tell_listeners, tell_problems
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.passphrase import given
from rhizome_index.cli.show import print_rows, summary, summary_line, to_json
from rhizome_index.errors import RhizomeError, UnavailableError, UsageError, first_of
from rhizome_index.index.address import Address
from rhizome_index.index.freshness import Freshness
from rhizome_index.node.cost import Cost
from rhizome_index.node.events import INFO, note
from rhizome_index.node.home import no_passphrase
from rhizome_index.node.saved import write_answer
from rhizome_index.node.weigh import Location
from rhizome_index.query.answer import Cursor
from rhizome_index.query.explain import Explained
from rhizome_index.query.expr import COUNT
from rhizome_index.query.parse import parse
from rhizome_index.trust.ladder import ANYTHING, Requirement

if TYPE_CHECKING:
    from rhizome_index.node.exposition import Scrapes
from rhizome_index.query.phrases import is_extreme

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
    query, after = parse(text, int(time.time() * 1000))
    cursor = Cursor.parse(after, query) if after else None
    address = Address.parse(sources[0]) if sources and not is_feed(sources) else None
    fresh = Freshness(age_seconds, unexpired)
    if is_feed(sources) and (cursor is not None or proof is not None):
        raise UsageError("a feed has no cursor, and no proof to save", hint="ask one dataset: --from ADDRESS")
    if watch and (cursor is not None or proof is not None or is_feed(sources)):
        raise UsageError("--watch is for one dataset, without a cursor and without --proof")
    if offline and peers:
        raise UsageError("--offline and --peer contradict each other")

    async def ask() -> None:
        async with open_node(settings.home, peers=peers, join=not offline and settings.home.is_running) as node:
            check_reached(node)
            if is_feed(sources):
                await ask_feed(settings, node, query, sources, scan=scan, fresh=fresh, required=required)
                return
            place = address or await _only_dataset(node, query.collection)
            if watch:
                await watch_query(settings, node, place, query, scan=scan, fresh=fresh, required=required)
                return
            results = Results(
                node, place, query, cursor, scan=scan, proof=proof is not None, fresh=fresh, required=required
            )
            rows = 0
            try:
                batch = []
                async for record in results:
                    batch.append(record)
                    rows += 1
                    if len(batch) >= 1000:
                        print_rows(batch, as_json=settings.as_json)
                        batch = []
                if query.kind == COUNT and results.resolution.answer is not None:
                    print(to_json({"count": results.resolution.answer.count}))
                else:
                    print_rows(batch, as_json=settings.as_json)
            except RhizomeError:
                print_rows(batch, as_json=settings.as_json)
                if rows:
                    _say_summary(settings, results, rows)
                raise
            if proof is not None:
                _save(results, proof)
            _say_summary(settings, results, rows)

    run(ask)


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
    query, _ = parse(text, int(time.time() * 1000))
    address = Address.parse(source) if source else None

    async def explain() -> None:
        async with open_node(settings.home, peers=peers, join=settings.home.is_running) as node:
            check_reached(node)
            place = address or await _only_dataset(node, query.collection)
            found, places = await node.explain(query, place, scan=scan)
            print_rows(list(map(asdict, found)), as_json=settings.as_json)
            if places:
                rows = [{**asdict(item), "seconds": round(item.seconds, 6)} for item in places]
                print_rows(rows, as_json=settings.as_json)
            if execute:
                results = Results(node, place, query, None, scan=scan)
                count = len([record async for record in results])
                if places:
                    print_rows(beside_actuals(found[0], places[0], results), as_json=settings.as_json)
                _say_summary(settings, results, count)

    run(explain)


def beside_actuals(plan: Explained, place: Location, results: Results) -> list[dict[str, object]]:
    """What each step was expected to take, beside what it took."""
    cost = results.resolution.cost
    return [
        {"step": "entries read", "expected": plan.entries, "actual": cost.entries_scanned},
        {"step": "blocks from peers", "expected": place.blocks, "actual": cost.blocks_remote},
        {"step": "bytes from peers", "expected": place.bytes, "actual": cost.bytes_received},
        {"step": "round trips", "expected": place.round_trips, "actual": cost.round_trips},
        {"step": "milliseconds", "expected": round(place.seconds * 1e3, 3), "actual": round(cost.seconds * 1e3, 3)},
    ]


def _say_summary(settings: Settings, results: Results, rows: int) -> None:
    found = summary(results, rows, time.time())
    if settings.as_json:
        print(to_json(found), file=sys.stderr)
        return
    print(summary_line(found), file=sys.stderr)
    if found["cursor"] and not is_extreme(results.resolution.query):
        print(f"more: after {found['cursor']}", file=sys.stderr)


def _save(results: Results, path: Path) -> None:
    resolution = results.resolution
    assert resolution.opening is not None and resolution.answer is not None and resolution.proof is not None
    with open_for_writing(path) as file:
        write_answer(file, resolution.opening, resolution.answer, resolution.after, resolution.proof)


async def _only_dataset(node: Node, collection: str) -> Address:
    """The dataset that a query without --from means. Raises UsageError unless there is exactly one."""
    if node.peers:
        known = await node.peer.datasets_of(node.peers, Cost())
    else:
        known = sorted(node.catalog)
        own = node.peer.publisher.address(DEFAULT_DATASET)
        if own in known or not known:
            return own
    if len(known) == 1:
        return known[0]
    listed = "; ".join(map(str, known[:5])) or "none"
    raise UsageError(f"say which dataset to ask for {collection!r}: --from ADDRESS", hint=f"known here: {listed}")


@click.command(
    "node",
    epilog="""\b
Examples:
  rhizome node --listen /ip4/0.0.0.0/tcp/4711 --listen /ip4/0.0.0.0/tcp/4712/ws
  rhizome node --metrics 127.0.0.1:9464 --log node.log
  rhizome node --listen /ip4/0.0.0.0/tcp/4711 --as-relay
  rhizome node --json | head -1
""",
)
@click.option("--listen", multiple=True, metavar="MULTIADDR", help="Where to listen. Default: /ip4/127.0.0.1/tcp/0.")
@PEERS
@click.option("--as-relay", is_flag=True, help="Let peers that nobody can dial be reached through this node.")
@click.option("--metrics", metavar="ADDRESS:PORT", help="Serve Prometheus metrics there; without ADDRESS, on loopback.")
@LOG
@LOG_LEVEL
@common
def node_command(
    settings: Settings,
    listen: tuple[str, ...],
    peers: tuple[str, ...],
    as_relay: bool,
    metrics: str | None,
    log: str | None,
    log_level: str,
) -> None:
    """Serve this home's datasets until interrupted."""
    settings.home.create()
    settings.home.unlock()  # who is asked for a passphrase can still interrupt
    if given(settings) is None:
        settings.home.ask = no_passphrase  # and is not asked again in the middle of it

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            signals = stack.enter_context(trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
            stack.enter_context(logging_to(log, log_level, as_json=settings.as_json))
            addresses = listen or ("/ip4/127.0.0.1/tcp/0",)
            scrapes = await stack.enter_async_context(_scraping(metrics))
            node = await stack.enter_async_context(
                open_node(settings.home, listen=addresses, peers=peers, as_relay=as_relay)
            )
            if settings.as_json:
                found = {
                    "peer_id": node.peer_id,
                    "addresses": node.addresses,
                    "unreachable": dict(node.unreachable),
                    "metrics": scrapes.url if scrapes else None,
                }
                print(to_json(found), flush=True)
            else:
                print(f"peer {node.peer_id} serves {len(node.catalog)} datasets on", flush=True)
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


def check_reached(node: Node) -> None:
    """Raise UnavailableError if of the peers that the user named none could be reached."""
    if node.unreachable and not node.peers:
        raise UnavailableError("; ".join(node.unreachable.values()), hint="is that peer running?")


def run(main: object) -> None:
    """Run an async command; of errors that come in groups, raise the first of ours."""
    try:
        trio.run(main)  # type: ignore[arg-type]
    except BaseExceptionGroup as group:
        raise first_of(group) from None
