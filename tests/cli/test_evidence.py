"""Publishers that were found out: the proofs are listed and saved, and anybody can check them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rhizome_index.blocks.cid import format_cid
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.frauds import Frauds
from rhizome_index.trust.evidence import Fraud
from tests.cli.terminal import Terminal
from tests.protocols.trust_vectors import frauds


def kept(rhizome: Terminal) -> dict[str, Fraud]:
    """A home that keeps two proofs."""
    rhizome("init")
    found = dict(frauds())
    store = DiskStore(rhizome.home / "store.sqlite")
    for name in ("an entry missing", "two heads of one sequence"):
        Frauds(store).keep(found[name])
    store.close()
    return found


def test_proofs_are_listed_saved_and_checked(rhizome: Terminal, tmp_path: Path) -> None:
    found = kept(rhizome)
    rows = [
        json.loads(row) for row in rhizome("evidence", "--json", "--save", str(tmp_path / "proofs"))[0].splitlines()
    ]
    assert [row["head"] for row in rows] == [1, 1]
    assert format_cid(found["an entry missing"].cid) in {row["proof"] for row in rows}
    for row in rows:
        path = tmp_path / "proofs" / f"{row['proof']}.car"
        (told,) = rhizome("verify", str(path))[0].splitlines()
        assert told == f"proven fraud: head 1 of {row['address']}: {row['fraud']}"
        assert json.loads(rhizome("verify", str(path), "--json")[0]) == row
        rhizome("verify", str(path), "--publisher", row["address"][8:60])
        rhizome("verify", str(path), "--publisher", "12D3KooWSxpeJpcAebtV9emdNM7bUNATFhTx2JirESHYLkxhVvHC", code=4)
        data = path.read_bytes()
        for wrong in (data[:-1], data + data[-40:], data[:500] + bytes([data[500] ^ 1]) + data[501:]):
            path.write_bytes(wrong)
            rhizome("verify", str(path), code=4)


def test_whoever_checks_a_proof_loads_neither_a_store_nor_the_network(tmp_path: Path) -> None:
    path = tmp_path / "fraud.car"
    with path.open("wb") as file:
        dict(frauds())["an entry missing"].write(file)
    script = """import sys
from rhizome_index.cli.main import main
try:
    main()
finally:
    print([name for name in ("apsw", "socket", "trio", "libp2p", "rhizome_index.wire.ask") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "--home", str(tmp_path / "none"), "verify", str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    told, loaded = done.stdout.splitlines()
    assert (done.returncode, done.stderr, loaded) == (0, "", "[]") and told.startswith("proven fraud: head 1 of ")


def test_no_evidence_is_nothing(rhizome: Terminal, tmp_path: Path) -> None:
    rhizome("init")
    assert rhizome("evidence", "--save", str(tmp_path / "proofs"))[0] == ""
    (tmp_path / "file").write_bytes(b"")
    assert "cannot make the folder" in rhizome("evidence", "--save", str(tmp_path / "file" / "x"), code=2)[1]


def test_damaged_evidence_is_left_out(rhizome: Terminal) -> None:
    kept(rhizome)
    store = DiskStore(rhizome.home / "store.sqlite")
    with store.transaction():
        store.execute("update frauds set proof = substr(proof, 1, 5000)")
    store.close()
    (row,) = rhizome("evidence", "--json")[0].splitlines()
    assert "signed as head 1" in json.loads(row)["fraud"]
