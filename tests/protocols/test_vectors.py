"""The vectors are what the program makes today, and the program refuses every case that must be refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import cid_of, format_cid, parse_cid
from rhizome_index.blocks.store import MemoryStore
from rhizome_index.errors import IntegrityError, RhizomeError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import open_head
from rhizome_index.index.keys import decode_key
from rhizome_index.index.manifest import decode_manifest
from rhizome_index.index.record import decode_record, parse_path
from rhizome_index.index.schema import check_name
from rhizome_index.query.combine import find_candidate
from rhizome_index.query.expr import decode_query
from rhizome_index.query.plan import decode_plan
from rhizome_index.tree.cursor import Cursor
from rhizome_index.tree.node import Tree, decode_node
from rhizome_index.tree.walk import run
from rhizome_index.trust.attest import open_attestation
from rhizome_index.trust.evidence import Fraud, Judging
from rhizome_index.wire import message as m
from rhizome_index.wire.ask import Ask, Asking, Opening
from rhizome_index.wire.frame import FrameReader
from rhizome_index.wire.gossip import Message, address_of, read_head
from rhizome_index.wire.heads import AskingHeads, read_request
from rhizome_index.wire.kad import read_request as read_kad_request
from rhizome_index.wire.sync import Sync, Syncing
from rhizome_index.wire.trust import About, AskingTrust
from rhizome_index.wire.want import Want, Wanting
from tests.protocols.dag_json import from_dag_json
from tests.protocols.dataset import COLLECTION, HEAD, MANIFEST, MANIFEST_DATA
from tests.protocols.make_vectors import FOLDER, MAKERS, path_of, text_of

Case = dict[str, Any]


def vectors(protocol: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path_of(protocol).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("protocol", MAKERS)
def test_vectors_are_up_to_date(protocol: str) -> None:
    """If this fails: `make vectors`, and look at every line that has changed. A format is a promise."""
    assert path_of(protocol).read_text(encoding="utf-8") == text_of(MAKERS[protocol]())


def read_tree(case: Case) -> None:
    blocks = [bytes.fromhex(text) for text in case["blocks"]]
    store = MemoryStore()
    store.put_many((cid_of(data), data) for data in blocks)
    cursor = Cursor(Tree(parse_cid(case["root"]), case["count"]))
    while run(cursor.next_entries(), store.get) is not None:
        pass


def read_replies(case: Case) -> None:
    reader = m.ReplyReader()
    for body in case["bodies"]:
        reader.read(bytes.fromhex(body))


def fields_of(body: str) -> Any:
    return m.decode_request(bytes.fromhex(body)).fields


def asked(case: Case) -> Any:
    (body,) = FrameReader().feed(bytes.fromhex(case["request"]))
    return m.decode_request(body).fields


def feed(case: Case, conversation: Any) -> None:
    reader = m.ReplyReader()
    for body in FrameReader().feed(b"".join(map(bytes.fromhex, case["replies"]))):
        reply = reader.read(body)
        if reply is not None:
            conversation.take(reply)


def take_answer(case: Case) -> None:
    ask = Ask.read(asked(case))
    feed(case, Asking(ask, Opening(HEAD, MANIFEST, MANIFEST_DATA) if ask.known else None))


def take_wanted(case: Case) -> None:
    feed(case, Wanting(Want.read(asked(case)), [bytes.fromhex(cid) for cid in case["wanted"]]))


def judged(blocks: list[str]) -> Fraud:
    judging = Judging()
    for block in blocks:
        judging.feed(bytes.fromhex(block))
    return judging.close()


def find_plan(case: Case) -> None:
    query = decode_query(cbor.encode(from_dag_json(case["query"])))
    find_candidate(query, COLLECTION, decode_plan(from_dag_json(case["plan"])))


def read_topic(topic: str) -> Address:
    address = address_of(topic)
    if address is None:
        raise IntegrityError("not a topic")
    return address


def read_gossip(case: Case) -> None:
    message = Message.read(bytes.fromhex(case["message"]))
    read_head(read_topic(case["topic"]), message.data)
    message.verify()


REFUSED: dict[tuple[str, str], Callable[[Any], object]] = {
    ("block", "not_names"): parse_cid,
    ("block", "not_canonical"): lambda case: cbor.decode(bytes.fromhex(case["data"])),
    ("keys", "not_keys"): lambda case: decode_key(bytes.fromhex(case["key"])),
    ("tree", "not_chunks"): lambda case: decode_node(bytes.fromhex(case["data"])),
    ("tree", "not_trees"): read_tree,
    ("manifest", "not_names"): lambda name: check_name(name, "a collection"),
    ("manifest", "not_paths"): parse_path,
    ("manifest", "not_records"): lambda case: decode_record(bytes.fromhex(case["data"])),
    ("manifest", "not_manifests"): lambda case: decode_manifest(bytes.fromhex(case["data"])),
    ("head", "not_heads"): lambda case: open_head(bytes.fromhex(case["envelope"])),
    ("head", "not_addresses"): Address.parse,
    ("query", "not_queries"): lambda case: decode_query(bytes.fromhex(case["data"])),
    ("query", "not_plans"): find_plan,
    ("message", "not_frames"): lambda case: list(FrameReader().feed(bytes.fromhex(case["stream"]))),
    ("message", "not_requests"): lambda case: m.decode_request(bytes.fromhex(case["body"])),
    ("message", "not_replies"): read_replies,
    ("ask", "not_answers"): take_answer,
    ("ask", "not_requests"): lambda case: Ask.read(fields_of(case["body"])),
    ("want", "not_answers"): take_wanted,
    ("want", "not_requests"): lambda case: Want.read(fields_of(case["body"])),
    ("sync", "not_answers"): lambda case: feed(case, Syncing(Sync.read(asked(case)))),
    ("sync", "not_requests"): lambda case: Sync.read(fields_of(case["body"])),
    ("heads", "not_answers"): lambda case: feed(case, AskingHeads(read_request(asked(case)))),
    ("heads", "not_requests"): lambda case: read_request(fields_of(case["body"])),
    ("gossip", "not_topics"): read_topic,
    ("gossip", "not_heads"): read_gossip,
    ("gossip", "not_messages"): read_gossip,
    ("providers", "not_requests"): lambda case: read_kad_request(bytes.fromhex(case["message"])),
    ("fraud", "not_proofs"): lambda case: judged(case["blocks"]),
    ("trust", "not_attestations"): lambda case: open_attestation(bytes.fromhex(case["envelope"])),
    ("trust", "not_answers"): lambda case: feed(case, AskingTrust(About.read(asked(case)), case["peer_id"])),
    ("trust", "not_requests"): lambda case: About.read(fields_of(case["body"])),
}


@pytest.mark.slow
def test_the_independent_verifier_agrees() -> None:
    """It was written from the specifications alone, and uses nothing but the standard library."""
    done = subprocess.run([sys.executable, "-S", FOLDER / "verify.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[0-9]+ passed, 0 failed$", done.stdout, re.MULTILINE)


def test_the_independent_verifier_notices_a_changed_vector(tmp_path: Path) -> None:
    folder = tmp_path / "protocols"
    shutil.copytree(FOLDER, folder)
    vectors_path = folder / "keys/1/vectors.json"
    vectors_path.write_text(
        vectors_path.read_text(encoding="utf-8").replace('"30610001"', '"30610002"'), encoding="utf-8"
    )
    command = [sys.executable, "-S", folder / "verify.py", "keys"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "FAILED keys/1" in done.stdout


def test_word_characters_are_those_of_the_specification() -> None:
    table = FOLDER / "manifest/1/word-characters.txt"
    assert table.read_text() == files("rhizome_index.index").joinpath("word-characters.txt").read_text()


def test_every_group_of_refusals_is_tried() -> None:
    groups = {(protocol, name) for protocol in MAKERS for name in vectors(protocol) if name.startswith("not_")}
    assert groups == set(REFUSED)


@pytest.mark.parametrize(("protocol", "group"), REFUSED)
def test_what_must_be_refused_is_refused(protocol: str, group: str) -> None:
    believed = []
    for case in vectors(protocol)[group]:
        try:
            REFUSED[protocol, group](case)
            believed.append(case if isinstance(case, str) else case["name"])
        except RhizomeError as error:
            assert isinstance(error, IntegrityError | UsageError)
    assert believed == []


def test_an_answer_that_pauses_is_shown() -> None:
    (paused,) = [case for case in vectors("ask")["exchanges"] if case.get("complete") is False]
    assert paused["rows"] and paused["position"]


def test_wanted_blocks_are_taken_as_shown() -> None:
    for case in vectors("want")["exchanges"]:
        wanting = Wanting(Want.read(asked(case)), [bytes.fromhex(cid) for cid in case["wanted"]])
        feed(case, wanting)
        assert [None if block is None else cid_of(block).hex() for block in wanting.blocks] == case["blocks"]


def test_frauds_are_proven_as_shown() -> None:
    for case in vectors("fraud")["proofs"]:
        fraud = judged(case["blocks"])
        assert (format_cid(fraud.cid), fraud.heads[0].sequence) == (case["cid"], case["sequence"])
        assert str(fraud.heads[0].address) == case["address"]
        assert [one.peer_id for one in fraud.attestations] == case["attesters"]
    for case in vectors("trust")["exchanges"]:
        asking = AskingTrust(About.read(asked(case)), case["peer_id"])
        feed(case, asking)
        assert asking.is_over and (asking.fraud is not None) == case["convicted"]
        assert [one.derivation.given.hex() for one in asking.attestations] == case["attested"]


def test_chunks_and_records_are_read_as_shown() -> None:
    for case in vectors("tree")["chunks"]:
        node = decode_node(bytes.fromhex(case["data"]))
        assert [key.hex() for key in node.keys] == case["keys"] and list(node.counts) == case.get("counts", [])
    for case in vectors("block")["values"]:
        assert cbor.encode(cbor.decode(bytes.fromhex(case["data"]))).hex() == case["data"]


def test_gossip_is_read_as_shown() -> None:
    for case in vectors("gossip")["topics"]:
        assert str(address_of(case["topic"])) == case["address"]
    for case in vectors("gossip")["messages"]:
        read_gossip(case)
        message = Message.read(bytes.fromhex(case["message"]))
        shown = [message.author.hex(), message.seqno.hex(), message.topic, message.data.hex()]
        assert shown == [case["from"], case["seqno"], case["topic"], case["data"]]
