"""A client that shares no code with this program, written from the specifications alone, against a real node.

Each query is asked over TCP and over WebSocket; the client replays the proof, and its rows must be those that
plain Python finds in the source records. Beforehand it is held to the vectors, lies included.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.cli import samples
from rhizome_index.limits import ASK_ROWS_MAX, CIRCUIT_BYTES_MAX, CIRCUIT_SECONDS_MAX

pytestmark = pytest.mark.interop

CLIENT = Path(__file__).parent / "js"
NODE_VERSION_MIN = 20
RELAY_BYTES = 131_072  # what js-libp2p's relay allows a circuit
TIMEOUT_SECONDS = 120
Records = list[dict[str, Any]]

EMOJI: Records = [json.loads(line) for line in samples.emoji()]
POSTS: Records = list(samples.posts(3000, seed=1))
WORD = POSTS[0]["text"].split()[0]
INDEXES = (
    "by_tag=tags,-created",
    "by_author=author,-created",
    "by_created=-created",
    "by_word=words(text),-created",
    "liked=author,-likes where likes > 90 include author, likes, id",
    "best=likes where likes > 5000 unique",
)


@dataclass(frozen=True)
class Served:
    """A node in a process of its own."""

    dataset: str
    addresses: dict[str, str]


@dataclass(frozen=True)
class Case:
    """A query in canonical form, what must come of it, and what must be said of how it came."""

    query: list[Any]
    expected: Callable[[], list[Any]]
    options: tuple[str, ...] = ()
    says: tuple[tuple[str, Any], ...] = ()


def tagged(records: Records, *tags: str) -> Records:
    return [record for record in records if set(tags) <= set(record["tags"])]


def newest(records: Records) -> Records:
    """Equal times the other way round by key, as the key takes the direction of the last term."""
    return sorted(records, key=lambda record: (record["created"], record["id"]), reverse=True)


def starting_with_p() -> Records:
    return [post for post in POSTS if any(tag.startswith("p") for tag in post["tags"])]


def texts_with(*words: str) -> Records:
    return [post for post in POSTS if set(words) <= set(post["text"].split())]


def grouped(values: Iterable[str], *, counts: bool = True) -> list[dict[str, Any]]:
    counted = sorted(Counter(values).items(), key=lambda group: (-group[1] if counts else 0, group[0].encode()))
    return [{"value": value, "count": count} if counts else {"value": value} for value, count in counted]


CASES = {
    "tagged": Case(
        ["emoji", ["=", "tags", "cat"], "declared", 5, False],
        lambda: sorted(tagged(EMOJI, "cat"), key=lambda emoji: emoji["order"])[:5],
        says=(("indexes", ["by_tag"]), ("ordered", True)),
    ),
    "two tags, one of them residual": Case(
        ["posts", ["and", ["=", "tags", "photography"], ["=", "tags", "travel"]], "declared", None, False],
        lambda: newest(tagged(POSTS, "photography", "travel")),
        says=(("kind", "one"), ("indexes", ["by_tag"]), ("residual", 1), ("ordered", True)),
    ),
    "two tags, by both of their ranges": Case(
        ["posts", ["and", ["=", "tags", "art"], ["=", "tags", "travel"]], "newest", None, False],
        lambda: newest(tagged(POSTS, "art", "travel")),
        says=(("kind", "all"), ("indexes", ["by_tag", "by_tag"]), ("residual", 0), ("ordered", True)),
    ),
    "an author's posts under a tag, backwards, in many answers": Case(
        ["posts", ["and", ["=", "tags", "music"], ["=", "author", "alice"], [">", "likes", 3]], "oldest", 50, False],
        lambda: newest([post for post in tagged(POSTS, "music") if post["author"] == "alice" and post["likes"] > 3])[
            ::-1
        ][:50],
        options=("--budget", "80000"),
        says=(("kind", "all"), ("indexes", ["by_author", "by_tag"]), ("residual", 1), ("ordered", True)),
    ),
    "one of three tags, in many answers": Case(
        ["posts", ["in", "tags", ["cats", "dogs", "tea"]], "newest", 150, False],
        lambda: newest([post for post in POSTS if {"cats", "dogs", "tea"} & set(post["tags"])])[:150],
        options=("--budget", "40000"),
        says=(("kind", "any"), ("indexes", ["by_tag"] * 3), ("residual", 0), ("ordered", True)),
    ),
    "one of two conditions, sorted by the asker": Case(
        ["posts", ["or", ["=", "tags", "cats"], ["=", "author", "bob"]], ["likes"], 30, False],
        lambda: sorted(
            (post for post in POSTS if "cats" in post["tags"] or post["author"] == "bob"),
            key=lambda post: (post["likes"], post["id"]),
        )[:30],
        says=(("kind", "any"), ("indexes", ["by_tag", "by_author"]), ("ordered", False)),
    ),
    "a count of two tags": Case(
        ["posts", ["and", ["=", "tags", "photography"], ["=", "tags", "travel"]], "declared", None, True],
        lambda: [len(tagged(POSTS, "photography", "travel"))],
        says=(("kind", "all"), ("residual", 0)),
    ),
    "newest of all": Case(
        ["posts", ["and"], "newest", 20, False],
        lambda: newest(POSTS)[:20],
        says=(("indexes", ["by_created"]), ("ordered", True)),
    ),
    "oldest, an index read backwards": Case(
        ["posts", ["=", "author", "alice"], "oldest", 7, False],
        lambda: newest([post for post in POSTS if post["author"] == "alice"])[::-1][:7],
        says=(("indexes", ["by_author"]), ("ordered", True)),
    ),
    "a count from inner nodes": Case(
        ["posts", ["=", "tags", "photography"], "declared", None, True],
        lambda: [len(tagged(POSTS, "photography"))],
        says=(("residual", 0),),
    ),
    "a count of records": Case(
        ["posts", ["and", ["=", "tags", "cats"], [">", "likes", 10]], "declared", None, True],
        lambda: [len([post for post in tagged(POSTS, "cats") if post["likes"] > 10])],
        says=(("residual", 1),),
    ),
    "sorted by the asker": Case(
        ["posts", ["=", "tags", "travel"], ["-likes", "author"], 9, False],
        lambda: sorted(tagged(POSTS, "travel"), key=lambda post: (-post["likes"], post["author"], post["id"]))[:9],
        says=(("ordered", False),),
    ),
    "an answer that pauses near its end or, as the publisher's key has it, does not": Case(
        ["posts", ["=", "tags", "photography"], ["-likes"], 7, False],
        lambda: sorted(tagged(POSTS, "photography"), key=lambda post: (post["likes"], post["id"]), reverse=True)[:7],
        says=(("indexes", ["by_tag"]), ("ordered", False)),
    ),
    "a scan": Case(
        ["posts", ["and", [">=", "likes", 100], ["not", ["in", "author", ["alice", "bob"]]]], ["text"], None, False],
        lambda: sorted(
            (post for post in POSTS if post["likes"] >= 100 and post["author"] not in ("alice", "bob")),
            key=lambda post: (post["text"], post["id"]),
        ),
        options=("--scan",),
        says=(("ordered", False), ("residual", 2)),
    ),
    "in order, in many answers": Case(
        ["posts", ["=", "tags", "photography"], "newest", 600, False],
        lambda: newest(tagged(POSTS, "photography"))[:600],
        options=("--budget", "60000"),
        says=(("indexes", ["by_tag"]), ("ordered", True)),
    ),
    "words of a text": Case(
        ["posts", ["and", ["=", "words(text)", WORD], ["<", "time()", POSTS[-1]["created"]]], "newest", 8, False],
        lambda: newest([post for post in texts_with(WORD) if post["created"] < POSTS[-1]["created"]])[:8],
        says=(("indexes", ["by_word"]), ("ordered", True)),
    ),
    "fields of records, from an index of some of them that includes these": Case(
        ["posts", ["and", ["=", "author", "alice"], [">", "likes", 95]], ["-likes"], 9, ["select", "id", "likes"]],
        lambda: [
            {"id": post["id"], "likes": post["likes"]}
            for post in sorted(
                (post for post in POSTS if post["author"] == "alice" and post["likes"] > 95),
                key=lambda post: (post["likes"], post["id"]),
                reverse=True,
            )
        ][:9],
        says=(("indexes", ["liked"]), ("covered", True), ("ordered", True), ("residual", 0)),
    ),
    "counts by author, from inner nodes": Case(
        ["posts", ["and"], "declared", None, ["count by", "author"]],
        lambda: grouped(post["author"] for post in POSTS),
        says=(("indexes", ["by_author"]), ("grouped", True)),
    ),
    "counts by tag, in many answers": Case(
        ["posts", ["and"], "declared", 12, ["count by", "tags"]],
        lambda: grouped(tag for post in POSTS for tag in post["tags"])[:12],
        options=("--budget", "20000"),
        says=(("indexes", ["by_tag"]), ("grouped", True)),
    ),
    "the tags of an author, from records": Case(
        ["posts", ["=", "author", "bob"], "declared", None, ["distinct", "tags"]],
        lambda: grouped((tag for post in POSTS if post["author"] == "bob" for tag in post["tags"]), counts=False),
        says=(("indexes", ["by_author"]), ("grouped", False)),
    ),
    "records that come more than once, in many answers": Case(
        ["posts", ["starts with", "tags", "p"], "declared", None, True],
        lambda: [len(starting_with_p())],
        options=("--scan", "--budget", "60000"),
        says=(("indexes", ["by_tag"]), ("repeats", True)),
    ),
}


@pytest.fixture(scope="module")
def node() -> str:
    """The JavaScript engine. Where it is missing these tests fail: they were asked for by name."""
    found = shutil.which("node")
    if found is None:
        pytest.fail(f"node is not on the PATH: these tests need Node.js {NODE_VERSION_MIN} or later")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < NODE_VERSION_MIN:
        pytest.fail(f"node is {version.strip()}: these tests need Node.js {NODE_VERSION_MIN} or later")
    if not (CLIENT / "node_modules").exists():
        pytest.fail("the client's libraries are not installed: run `make test-interop`")
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    rhizome = [sys.executable, "-m", "rhizome_index.cli", "--home", str(home), "--json"]
    publish(rhizome, EMOJI, "emoji", "--order", "order", "--index", "by_tag=tags,order")
    indexes = [f"--index={index}" for index in INDEXES]
    publish(rhizome, POSTS, "posts", "--time", "created", "--order", "-created", *indexes)
    listen = ["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/tcp/0/ws"]
    with subprocess.Popen([*rhizome, "node", "--as-relay", *listen], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
            tcp, websocket = said["addresses"]
            assert re.search(r"/tcp/\d+/p2p/", tcp) and re.search(r"/tcp/\d+/ws/p2p/", websocket)
            yield Served(f"rhizome:{said['peer_id']}/main", {"tcp": tcp, "websocket": websocket})
        finally:
            process.send_signal(signal.SIGINT)


@contextmanager
def behind(home: Path, relay: str) -> Iterator[Served]:
    """A node that publishes the emoji and is reached through a relay."""
    rhizome = [sys.executable, "-m", "rhizome_index.cli", "--home", str(home), "--json"]
    publish(rhizome, EMOJI, "emoji", "--order", "order", "--index", "by_tag=tags,order")
    with subprocess.Popen([*rhizome, "node", "--relay", relay], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
            through = next(address for address in said["addresses"] if address.startswith(f"{relay}/p2p-circuit/"))
            yield Served(f"rhizome:{said['peer_id']}/main", {"relayed": through})
        finally:
            process.send_signal(signal.SIGINT)


def publish(rhizome: list[str], records: Records, collection: str, *options: str) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    subprocess.run(
        [*rhizome, "import", collection, "-", *options], input=lines, text=True, check=True, capture_output=True
    )


def run(node: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node, str(CLIENT / program), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env={name: value for name, value in os.environ.items() if name not in ("NODE_OPTIONS", "DEBUG")},
    )


def test_the_client_is_held_to_the_vectors(node: str) -> None:
    """Among them every answer that must be refused, fed to the conversations that the queries below use."""
    checked = run(node, "vectors.mjs")
    assert checked.returncode == 0, checked.stderr
    for refused in ("ask not_answers", "want not_answers", "heads not_answers", "tree not_trees", "head not_heads"):
        (held, cases) = re.search(rf"^{refused}: (\d+) of (\d+)$", checked.stdout, re.MULTILINE).groups()  # type: ignore[union-attr]
        assert held == cases != "0"


@pytest.mark.parametrize("transport", ["tcp", "websocket"])
@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_the_source_records(node: str, served: Served, transport: str, name: str) -> None:
    case = CASES[name]
    expected = case.expected()
    assert expected and expected != [0]
    asked = run(node, "main.mjs", served.addresses[transport], json.dumps(case.query), *case.options)
    assert asked.returncode == 0, asked.stderr
    assert [json.loads(line) for line in asked.stdout.splitlines()] == expected
    summary = json.loads(asked.stderr)
    assert summary["dataset"] == served.dataset and summary["sequence"] == 2
    assert {field: summary[field] for field, _ in case.says} == dict(case.says)
    *paused, _ = summary["answers"]
    if "--budget" in case.options:
        assert paused
    else:  # what follows the 1,000th row needs another block or not, depending on where the publisher's key cuts trees
        assert all(rows >= ASK_ROWS_MAX for rows in paused)
    # By want: the manifest, the primary's root and, if there were rows, a record by its primary key.
    has_rows = not summary["grouped"] and case.query[-1] is not True
    assert len(summary["fetched"]) == (3 if has_rows else 2)


def test_a_dataset_may_be_named(node: str, served: Served) -> None:
    query = json.dumps(CASES["tagged"].query)
    named = run(node, "main.mjs", served.addresses["tcp"], served.dataset, query)
    assert named.returncode == 0 and len(named.stdout.splitlines()) == 5
    other = run(node, "main.mjs", served.addresses["tcp"], served.dataset.replace("/main", "/other"), query)
    assert other.returncode == 2 and "knows no head" in other.stderr


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (["nothing", ["and"], "declared", 1, False], "refused: no collection called 'nothing'"),
        (["posts", ["<", "likes", 100], ["likes"], 1, False], "refused: no index answers this"),
    ],
)
def test_what_the_node_refuses_is_told(node: str, served: Served, query: list[Any], says: str) -> None:
    asked = run(node, "main.mjs", served.addresses["websocket"], json.dumps(query))
    assert asked.returncode == 2 and says in asked.stderr and not asked.stdout


def test_another_peer_at_the_address_is_not_believed(node: str, served: Served) -> None:
    wrong = re.sub(r"/p2p/.*", "/p2p/12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB", served.addresses["tcp"])
    asked = run(node, "main.mjs", wrong, json.dumps(CASES["tagged"].query))
    assert asked.returncode == 2 and not asked.stdout


@pytest.mark.parametrize("transport", ["tcp", "websocket"])
def test_peers_reach_each_other_through_a_node(node: str, served: Served, transport: str) -> None:
    """Peers of js-libp2p, by its own circuit relay v2; one of them listens nowhere else."""
    relay = served.addresses[transport]
    relayed = run(node, "relayed.mjs", relay)
    assert relayed.returncode == 0, relayed.stderr
    said = json.loads(relayed.stdout)
    assert said["same"] and any(address.startswith(f"{relay}/p2p-circuit/p2p/") for address in said["addresses"])
    # What has opened the circuit has been counted by the client already.
    assert CIRCUIT_BYTES_MAX - 10_000 < said["bytes"] <= CIRCUIT_BYTES_MAX
    assert said["seconds"] == CIRCUIT_SECONDS_MAX


@pytest.mark.parametrize("transport", ["tcp", "websocket"])
def test_a_node_behind_a_node_is_asked(node: str, served: Served, transport: str, tmp_path: Path) -> None:
    case = CASES["tagged"]
    with behind(tmp_path, served.addresses[transport]) as hidden:
        asked = run(node, "main.mjs", hidden.addresses["relayed"], json.dumps(case.query))
    assert asked.returncode == 0, asked.stderr
    assert [json.loads(line) for line in asked.stdout.splitlines()] == case.expected()
    assert json.loads(asked.stderr)["dataset"] == hidden.dataset


def test_a_node_behind_another_programs_relay_is_asked(node: str, tmp_path: Path) -> None:
    """By a node, through a relay of js-libp2p: for a few records, and for more than the relay allows one circuit."""
    relay = subprocess.Popen(
        [node, str(CLIENT / "relay.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with relay:
        assert relay.stdout is not None and relay.stdin is not None
        try:
            with behind(tmp_path / "behind", relay.stdout.readline().strip()) as hidden:
                ask = [sys.executable, "-m", "rhizome_index.cli", "--home", str(tmp_path / "asking"), "query"]
                asked, all_asked = (
                    subprocess.run(
                        [*ask, query, "--peer", hidden.addresses["relayed"]],
                        capture_output=True,
                        text=True,
                        timeout=TIMEOUT_SECONDS,
                    )
                    for query in ("first 5 emoji tagged #cat", "all emoji")
                )
        finally:
            relay.stdin.close()
    assert asked.returncode == 0, asked.stderr
    tags = [json.loads(line)["tags"] for line in asked.stdout.splitlines()]
    assert len(tags) == 5 and all("cat" in found for found in tags)
    assert all_asked.returncode == 0, all_asked.stderr
    assert len(all_asked.stdout) > 2 * RELAY_BYTES
    assert [json.loads(line) for line in all_asked.stdout.splitlines()] == sorted(EMOJI, key=itemgetter("order"))


@pytest.mark.parametrize("role", ["reach", "wait"])
@pytest.mark.parametrize(
    ("listening", "opened_by"),
    [(("/ip4/11.0.0.1/tcp/0", "-"), "outbound"), (("-", "/ip4/11.0.0.1/tcp/4001"), "inbound")],
)
def test_a_direct_connection_comes_of_one_through_a_relay(
    node: str, role: str, listening: tuple[str, str], opened_by: str
) -> None:
    """With js-libp2p's DCUtR, whichever of the two was reached, and whichever can be dialled.

    In a network of its own, whose one address looks public: js-libp2p does not dial others.
    """
    network = ["unshare", "--map-root-user", "--net", "sh", "-c"]
    if subprocess.run([*network, "ip link set lo up"], capture_output=True, check=False).returncode:
        pytest.skip("no network of its own can be made here")
    python = [sys.executable, "-m", "tests.interop.direct", role, *listening]
    script = f"ip link set lo up && ip address add 11.0.0.1/32 dev lo && exec {shlex.join(python)}"
    made = subprocess.run(
        [*network, script], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, cwd=CLIENT.parents[2], check=False
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout) == {"direct": opened_by, "is_relayed": False}
