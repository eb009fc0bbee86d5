"""`rhizome shell`: queries one after the other, over one open node; at a prompt, or from standard input.

At the prompt Ctrl-C clears the line or ends what is running, and Ctrl-D leaves. What is running is
ended wherever it is, and the node with it; it is opened again for the next line.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import click
import trio

from rhizome_index.api import Node, Results, open_node
from rhizome_index.cli.asking import (
    Question,
    ask_question,
    explain_question,
    only_dataset,
    read_question,
)
from rhizome_index.cli.feeding import FOLLOWING, is_feed
from rhizome_index.cli.lines import EXECUTE, EXPLAIN, QUERY, WATCH, Line, complete_line, help_text, read_line
from rhizome_index.cli.local import say
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.network import PEERS, check_reached, run
from rhizome_index.cli.show import many, print_error, print_rows, shortened
from rhizome_index.errors import RhizomeError, UnavailableError, UsageError, first_of
from rhizome_index.index.address import Address
from rhizome_index.index.slips import did_you_mean
from rhizome_index.node.vocabulary import LocalVocabulary
from rhizome_index.query.complete import Completion
from rhizome_index.query.wording import describe_index

if TYPE_CHECKING:
    from rhizome_index.cli.prompt import Prompt

_INSTEAD = {"--scan": ".scan on", "--from ADDRESS": ".use ADDRESS"}  # what the hints of other commands say


@click.command(
    "shell",
    epilog="""\b
Examples:
  rhizome shell
  rhizome shell rhizome:12D3KooW.../main --peer /ip4/10.0.0.7/tcp/4711/p2p/12D3KooW...
  rhizome shell @following
  echo 'count by tags of posts limit 10' | rhizome shell --json
""",
)
@click.argument("place", required=False, metavar="[ADDRESS|NAME|@following]")
@PEERS
@click.option("--offline", is_flag=True, help="Answer from this home alone.")
@click.option("--scan", is_flag=True, help="Allow reading everything where no index answers.")
@common
def shell_command(settings: Settings, place: str | None, peers: tuple[str, ...], offline: bool, scan: bool) -> None:
    """Ask queries one after the other: at a prompt that knows the names there are, or from standard input.

    Each line is a query, as `rhizome query` takes it. `.help` says what else there is. From standard
    input all lines are read; the exit code is that of the first error.
    """
    if offline and peers:
        raise UsageError("--offline and --peer contradict each other")
    session = Session(settings, place, peers, offline=offline, scan=scan)
    while not session.is_over:
        session.lines_since_opened = 0
        try:
            run(session.run)
        except KeyboardInterrupt:
            if session.prompt is None:
                raise
            print("\ninterrupted", file=sys.stderr)
        except RhizomeError as error:
            if session.prompt is None or not session.lines_since_opened:
                raise
            session.tell(error)
    if session.exit_code:
        sys.stdout.flush()
        sys.exit(session.exit_code)


def is_at_terminal() -> bool:
    """Whether somebody types, and sees what is asked."""
    return sys.stdin is not None and sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())


class Session:
    """A shell, over one node after the other.

    sources    the datasets that are asked, as of a Question
    prompt     where lines are typed; None: they come from standard input
    exit_code  that of the first error in lines from standard input
    """

    def __init__(
        self, settings: Settings, place: str | None, peers: tuple[str, ...], *, offline: bool, scan: bool
    ) -> None:
        self.is_over = False
        self.exit_code = 0
        self.lines_since_opened = 0
        self.sources: tuple[str, ...] = ()
        self._settings = settings
        self._wanted = place
        self._peers = peers
        self._offline = offline
        self._scan = scan
        self._waiting: str | None = None  # a line that was read before the node had to be opened again
        self._is_introduced = False
        self._last: tuple[Question, Results] | None = None
        self._node: Node | None = None
        self._vocabulary: LocalVocabulary | None = None
        self._number = 0
        self._stream: IO[bytes] | None = None
        self.prompt: Prompt | None = None
        if sys.stdin is None:
            raise UsageError("there is no standard input to read from")
        if is_at_terminal():
            from rhizome_index.cli.prompt import Prompt

            settings.home.create()
            self.prompt = Prompt(settings.home.path / "history", self._complete)
        else:
            self._stream = sys.stdin.buffer

    @property
    def _joins(self) -> bool:
        return not self._offline and self._settings.home.is_running

    async def run(self) -> None:
        """Open a node, and do what lines say until they end or another node is needed."""
        joins = self._joins
        async with open_node(self._settings.home, peers=self._peers, join=joins) as node:
            check_reached(node)
            await self._begin(node)
            while True:
                line, self._waiting = self._waiting, None
                if line is None:
                    line = await self._next_line()
                if line is None:
                    self.is_over = True
                    return
                self.lines_since_opened += 1
                if self._joins != joins:  # a node of this home has come or gone
                    self._waiting = line
                    return
                await self._obey(node, line)
                if self.is_over:
                    return

    async def _begin(self, node: Node) -> None:
        self._node = node
        if not self._is_introduced:
            if self._wanted is not None:
                await self._use(node, self._wanted)
            elif place := await only_dataset(node):
                self.sources = (str(place),)
            if self.prompt is not None:
                print(await self._introduction(node), file=sys.stderr, flush=True)
            self._is_introduced = True
        self._vocabulary = LocalVocabulary(node.peer.store, self._place)

    @property
    def _place(self) -> Address | None:
        return Address.parse(self.sources[0]) if self.sources and not is_feed(self.sources) else None

    # --- lines ---

    async def _next_line(self) -> str | None:
        if self.prompt is not None:
            # At the prompt Ctrl-C is a key; whoever sends the signal means what is running, and nothing is.
            with trio.open_signal_receiver(signal.SIGINT):
                return await trio.to_thread.run_sync(self.prompt.ask, self._prompt_text())
        data = await trio.to_thread.run_sync(self._read_bytes, abandon_on_cancel=True)  # type: ignore[call-arg]
        self._number += 1
        return data.decode(errors="replace") if data else None

    def _read_bytes(self) -> bytes:
        assert self._stream is not None
        return self._stream.readline()

    def _prompt_text(self) -> str:
        place = self._place
        if place is None:
            return f"{self.sources[0] if self.sources else 'rhizome'}> "
        is_own = self._node is not None and place.publisher == self._node.peer_id
        return f"{place.name if is_own else f'…{place.publisher[-4:]}/{place.name}'}> "

    def _complete(self, text: str, cursor: int) -> Sequence[Completion]:
        """Completions, asked for in the prompt's thread and found where the store is open."""
        try:
            return trio.from_thread.run_sync(self._complete_here, text, cursor)
        except (trio.Cancelled, trio.RunFinishedError):
            return ()

    def _complete_here(self, text: str, cursor: int) -> Sequence[Completion]:
        assert self._vocabulary is not None and self._node is not None
        return complete_line(text, cursor, self._vocabulary, self._named_places)

    def _named_places(self) -> list[str]:
        assert self._node is not None
        return [
            FOLLOWING,
            *dict.fromkeys(address.name for address in self._node.catalog),
            *map(str, self._node.catalog),
        ]

    def tell(self, error: RhizomeError) -> None:
        """Say what is wrong."""
        at = "" if self.prompt is not None else f"line {self._number}: "
        if self.prompt is None:
            self.exit_code = self.exit_code or error.exit_code
        hint = error.hint
        for said, meant in _INSTEAD.items():
            hint = hint.replace(said, meant)
        print_error(error, as_json=self._settings.as_json, at=at, hint=hint)

    # --- what they say ---

    async def _obey(self, node: Node, line: str) -> None:
        try:
            await self._do(node, read_line(line))
        except RhizomeError as error:
            self.tell(error)
        except BaseExceptionGroup as group:
            found = first_of(group)
            if not isinstance(found, RhizomeError):
                raise found from None
            self.tell(found)

    async def _do(self, node: Node, line: Line) -> None:
        if line.verb in (QUERY, EXPLAIN, EXECUTE, WATCH):
            await self._ask(node, line)
        elif line.verb == ".help":
            print(help_text())
        elif line.verb == ".use":
            await self._use(node, line.text)
        elif line.verb == ".datasets":
            self._print_datasets(node)
        elif line.verb in (".collections", ".indexes"):
            await self._print_contents(node, line)
        elif line.verb == ".more":
            await self._go_on(node)
        elif line.verb == ".json":
            self._settings.as_json = self._switched("json", line.text, self._settings.as_json)
        elif line.verb == ".scan":
            self._scan = self._switched("scan", line.text, self._scan)
        elif line.verb == ".quit":
            self.is_over = True

    def _switched(self, name: str, text: str, before: bool) -> bool:
        if not text:
            say(self._settings, {name: before}, f"{name} is {'on' if before else 'off'}")
        return before if not text else text == "on"

    async def _ask(self, node: Node, line: Line) -> None:
        question = read_question(line.text, self._asked(node), scan=self._scan, watch=line.verb == WATCH)
        if line.verb in (EXPLAIN, EXECUTE):
            if is_feed(question.sources):
                raise UsageError("a feed is not explained", hint="ask one dataset: .use ADDRESS")
            await explain_question(self._settings, node, question, execute=line.verb == EXECUTE)
            return
        await self._answer(node, question)

    def _asked(self, node: Node) -> tuple[str, ...]:
        if not self.sources:
            known = "; ".join(map(str, sorted(node.catalog)[:5])) or "none"
            raise UsageError("say which dataset to ask: .use ADDRESS", hint=f"known here: {known}")
        return self.sources

    async def _answer(self, node: Node, question: Question) -> None:
        self._last = None
        results = await ask_question(self._settings, node, question, more=".more")
        self._last = None if results is None else (question, results)

    async def _go_on(self, node: Node) -> None:
        if self._last is None:
            raise UsageError("there is no answer to go on with", hint="ask for the first N of something")
        question, results = self._last
        cursor = results.resolution.cursor()
        if cursor is None:
            raise UsageError("there are no more rows")
        await self._answer(node, replace(question, cursor=cursor))

    async def _use(self, node: Node, name: str) -> None:
        if not name:
            say(self._settings, {"asked": self.sources}, "; ".join(self.sources) or "no dataset")
            return
        if name != FOLLOWING:
            place = Address.parse(name) if ":" in name else self._named(node, name)
            await node.manifest(place)  # so that it is there, and its names can be completed
            name = str(place)
        self.sources = (name,)
        self._last = None
        self._vocabulary = LocalVocabulary(node.peer.store, self._place)

    @staticmethod
    def _named(node: Node, name: str) -> Address:
        found = [address for address in sorted(node.catalog) if address.name == name]
        own = [address for address in found if address.publisher == node.peer_id]
        if len(own or found) == 1:
            return (own or found)[0]
        if found:
            raise UsageError(f"several datasets are called {name!r}", hint=f"one of {'; '.join(map(str, found[:5]))}")
        names = sorted({address.name for address in node.catalog})
        hint = did_you_mean(name, names, f"known here: {', '.join(names) or 'none'}")
        raise UsageError(f"no dataset called {name!r}", hint=hint)

    # --- what there is ---

    async def _introduction(self, node: Node) -> str:
        """What is asked, and what is in it."""
        about = ".help says what there is, Ctrl-D leaves"
        if (place := self._place) is None:
            asked = (
                self.sources[0] if self.sources else f"{many(len(node.catalog), 'dataset')} known; choose: .use NAME"
            )
            return f"{asked} · {about}"
        try:  # also so that it is here, and its names can be completed
            collections = (await node.manifest(place)).collections
        except UnavailableError:
            return f"{shortened(str(place))}: nothing yet · {about}"
        held = [f"{name} ({collections[name].primary.count:,})" for name in sorted(collections)]
        return f"{shortened(str(place))}: {', '.join(held)} · {about}"

    def _print_datasets(self, node: Node) -> None:
        rows = [
            {"dataset": str(address), "head": head.sequence, "asked": str(address) in self.sources}
            for address, head in sorted(node.catalog.items(), key=lambda item: str(item[0]))
        ]
        print_rows(rows, as_json=self._settings.as_json, key="dataset")

    async def _print_contents(self, node: Node, line: Line) -> None:
        self._asked(node)
        if (place := self._place) is None:
            raise UsageError("a feed has the collections of many datasets", hint="ask one dataset: .use ADDRESS")
        manifest = await node.manifest(place)
        names = [line.text] if line.text else sorted(manifest.collections)
        collections = [manifest.collection(name) for name in names]
        if line.verb == ".collections":
            rows = [
                {
                    "collection": item.name,
                    "records": item.primary.count,
                    "key": item.key,
                    "time": item.time,
                    "order": ",".join(map(str, item.order)) or item.key,
                    "indexes": sorted(item.indexes),
                }
                for item in collections
            ]
        else:
            rows = [
                {
                    "collection": item.name,
                    "index": index.name,
                    "definition": describe_index(index.definition),
                    "entries": index.tree.count,
                }
                for item in collections
                for _, index in sorted(item.indexes.items())
            ]
        print_rows(rows, as_json=self._settings.as_json, key="collection")
