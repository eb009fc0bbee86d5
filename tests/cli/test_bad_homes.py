"""Homes and disks that fail in every way: one clear line each, and what was published is still there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from rhizome_index.cli import archives
from rhizome_index.node import disk
from rhizome_index.node.disk import DiskStore
from tests.cli.faulty_disk import broken, files_of_at_most, from_step, full, give_up_rights, killed
from tests.cli.faulty_disk import need_rights_that_can_be_given_up as need_rights
from tests.cli.terminal import Terminal, check_error, check_json_error

READING = [["status"], ["query", "first 1 posts tagged #cats"], ["get", "posts", "a"]]
MISSING = "bafyrei" + "a" * 51 + "q"  # a block that nobody has
WRITING = [["put", "posts", '{"id": "z"}'], ["index", "add", "posts", "by_id=id"], ["delete", "posts", "a"]]
MORE = b"".join(b'{"id": %d, "tags": ["cats", "%d"], "t": "%s"}\n' % (n, n, b"x" * 3000) for n in range(100))


def check_whole(rhizome: Terminal, state: Any) -> None:
    """The home holds what it held, and goes on from there."""
    assert rhizome.state() == state
    found, _ = rhizome("query", "first 9 posts tagged #cats")
    assert [json.loads(row)["id"] for row in found.splitlines()] == ["b", "a"]
    rhizome("put", "posts", '{"id": "z"}')
    assert rhizome.state()[0]["sequence"] == state[0]["sequence"] + 1


# --- homes that are none ---


@pytest.mark.parametrize("below", ["", "below"])
def test_a_home_that_is_a_file(rhizome: Terminal, tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    rhizome.home = file / below if below else file
    others = [["init"], ["id"], ["import", "posts", "/dev/null"], ["follows"], ["inspect", MISSING]]
    for words in [*READING, *WRITING, *others]:
        rhizome.fails(*words, code=3, says=f"there can be no home in {rhizome.home}: not a folder")
    assert file.read_text() == "mine"


DAMAGED_KEYS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda key: b"", "is not a private key"),
    "cut": (lambda key: key[:-1], "is not a private key"),
    "longer": (lambda key: key + b"\n", "is not a private key"),
    "another kind": (lambda key: b"\x08\x00" + key[2:], "is not a private key"),
    "a bit of the seed": (lambda key: key[:10] + bytes([key[10] ^ 1]) + key[11:], "is damaged"),
    "a bit of the public half": (lambda key: key[:50] + bytes([key[50] ^ 1]) + key[51:], "is damaged"),
}


@pytest.mark.parametrize("kind", DAMAGED_KEYS)
def test_a_damaged_key(published: Terminal, kind: str) -> None:
    damage, says = DAMAGED_KEYS[kind]
    state = published.state()
    path = published.home / "identity.key"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    for words in [*READING, *WRITING, ["id"], ["init"]]:
        published.fails(*words, code=3, says=says)
    assert path.read_bytes() == damage(whole)
    path.write_bytes(whole)
    check_whole(published, state)


# --- stores that are none ---


def test_a_store_of_another_format(published: Terminal) -> None:
    state = published.state()
    database = apsw.Connection(str(published.home / "store.sqlite"))
    (version,) = database.execute("pragma user_version").fetchone()
    database.execute("pragma user_version = 70")
    for words in [*READING, *WRITING, ["init"]]:
        published.fails(*words, code=3, says=f"has format 70; this program reads {version}")
    database.execute(f"pragma user_version = {version}")
    database.close()
    check_whole(published, state)


DAMAGED_STORES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "is empty: what was in it is lost"),
    "cut within its header": (lambda data: data[:100], "is damaged"),
    "cut": (lambda data: data[: len(data) // 2], "is damaged"),
    "something else": (lambda data: b"hello\n" * 999, "is damaged: file is not a database"),
    "a page overwritten": (lambda data: data[:32768] + b"\xff" * 16384 + data[49152:], "is damaged"),
    "its header overwritten": (lambda data: data[:18] + b"\xff" * 30 + data[48:], "is damaged"),
}


@pytest.mark.parametrize("kind", DAMAGED_STORES)
def test_a_damaged_store(published: Terminal, tmp_path: Path, kind: str) -> None:
    damage, says = DAMAGED_STORES[kind]
    published("export", str(tmp_path / "x.car"))
    state = published.state()
    path = published.home / "store.sqlite"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    for words in [*READING, *WRITING]:
        published.fails(*words, code=3, says=says)
    assert path.read_bytes() == damage(whole)
    path.rename(tmp_path / "damaged")
    for words in [*READING, *WRITING]:
        published.fails(*words, code=3, says="is missing")
    published("restore", str(tmp_path / "x.car"))
    check_whole(published, state)


def test_a_block_with_one_bit_flipped_is_never_believed(published: Terminal, tmp_path: Path) -> None:
    published("export", str(tmp_path / "x.car"))
    state = published.state()
    with apsw.Connection(str(published.home / "store.sqlite")) as database:
        for number, data in database.execute("select id, data from blocks").fetchall():
            database.execute("update blocks set data = ? where id = ?", (bytes([data[0] ^ 1]) + data[1:], number))
    published.fails("query", "first 1 posts tagged #cats", code=3, says="is not here")
    published.fails("put", "posts", '{"id": "z"}', code=3, says="is not here")
    published("restore", str(tmp_path / "x.car"))
    check_whole(published, state)


# --- homes that cannot be written ---


def read_only(home: Path, mode: int) -> None:
    for path in (*home.iterdir(), home):
        path.chmod(mode | 0o111 if path.is_dir() else mode)
    (home / "identity.key").chmod(mode & 0o700)


@pytest.mark.parametrize("log_is_left", [False, True], ids=["at rest", "with a log"])
def test_a_read_only_home_is_read(published: Terminal, log_is_left: bool) -> None:
    need_rights()
    reader = apsw.Connection(str(published.home / "store.sqlite"))
    if log_is_left:  # as after a kill: the newest head stands in the log alone
        reader.execute("select count(*) from blocks").fetchall()
        published("put", "posts", '{"id": "c", "tags": ["cats"], "created": 0}')
    else:
        reader.close()
    assert (published.home / "store.sqlite-wal").exists() is log_is_left
    state = published.state()
    read_only(published.home, 0o444)
    prepare = give_up_rights
    for words in READING:
        code, _, err = published.in_a_child(*words, prepare=prepare)
        assert code == 0, err
    out = published.in_a_child("status", "--json", prepare=prepare)[1]
    assert json.loads(out)["datasets"][0]["sequence"] == 1 + log_is_left
    for words in WRITING:
        published.child_fails(*words, code=3, says="cannot be written", prepare=prepare)
    read_only(published.home, 0o644)
    reader.close()
    assert published.state() == state


def test_a_home_that_may_not_be_entered(published: Terminal) -> None:
    need_rights()
    state = published.state()
    prepare = give_up_rights
    published.home.chmod(0)
    for words in [*READING, *WRITING]:
        published.child_fails(*words, code=3, says=str(published.home), prepare=prepare)
    published.home.chmod(0o500)
    (published.home / "identity.key").chmod(0)
    published.child_fails("status", code=3, says="cannot read", prepare=prepare)
    (published.home / "identity.key").chmod(0o600)
    (published.home / "store.sqlite").chmod(0)
    published.child_fails("status", code=3, says="cannot be opened", prepare=prepare)
    read_only(published.home, 0o644)
    check_whole(published, state)


def test_no_home_can_be_made(rhizome: Terminal, tmp_path: Path) -> None:
    need_rights()
    folder = tmp_path / "folder"
    folder.mkdir()
    for rhizome.home in (folder, folder / "home"):
        for mode in (0o555, 0):
            folder.chmod(mode)
            for words in (WRITING[0], ["init"]):
                rhizome.child_fails(*words, code=3, says=str(rhizome.home), prepare=give_up_rights)
        assert not list(folder.iterdir())


# --- full and broken disks ---


@pytest.mark.parametrize("step", [1, 2, 5, 20])
@pytest.mark.parametrize(("fault", "says"), [(full, "is full; nothing was lost"), (broken, "failed: ")])
def test_a_disk_that_fails_at_a_step(published: Terminal, step: int, fault: Callable[[], None], says: str) -> None:
    state = published.state()
    prepare = from_step(step, fault)
    published.child_fails("import", "posts", "-", stdin=MORE, code=3, says=says, prepare=prepare)
    check_whole(published, state)


@pytest.mark.parametrize("pages", [1, 12, 20])
def test_a_disk_that_is_full_after_so_many_pages(published: Terminal, pages: int) -> None:
    """SQLite itself finds it full, wherever that happens: in the log, in the file, in its own order."""

    def limit() -> None:
        apsw.connection_hooks.append(lambda database: database.execute(f"pragma max_page_count = {pages}").fetchall())

    state = published.state()
    published.child_fails("import", "posts", "-", stdin=MORE, code=3, says="is full; nothing was lost", prepare=limit)
    check_whole(published, state)


@pytest.mark.parametrize("size", [0, 33_000, 100_000])
def test_files_that_cannot_grow(published: Terminal, size: int) -> None:
    state = published.state()
    prepare = files_of_at_most(size)
    published.child_fails("import", "posts", "-", stdin=MORE, code=3, says="the store in", prepare=prepare)
    check_whole(published, state)


def test_a_home_on_a_full_disk_is_not_half_made(rhizome: Terminal) -> None:
    rhizome.child_fails("init", code=3, says=str(rhizome.home), prepare=files_of_at_most(0))
    assert not (rhizome.home / "identity.key").exists()
    rhizome("init")
    assert rhizome.state() == []


def test_files_of_ours_that_do_not_fit(published: Terminal, tmp_path: Path) -> None:
    published("import", "posts", "-", stdin=MORE)
    file = tmp_path / "x.car"
    file.write_bytes(b"the one before")
    prepare = files_of_at_most(100_000)
    published.child_fails("export", str(file), code=3, says=f"cannot write {file}", prepare=prepare)

    def print_nothing() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        prepare()

    query = ["query", "first 99 posts", "--proof", str(file)]
    published.child_fails(*query, code=3, says=f"cannot write {file}", prepare=print_nothing)
    assert file.read_bytes() == b"the one before" and [path.name for path in tmp_path.iterdir()] == ["home", "x.car"]


def test_a_pipe_is_written_to_not_replaced(published: Terminal, tmp_path: Path) -> None:
    pipe = tmp_path / "x.car"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    published("export", str(pipe))
    assert os.read(reader, 4096).startswith(b"\x3a\xa2eroots") and pipe.is_fifo()
    os.close(reader)


def close_output() -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 1)


@pytest.mark.parametrize("words", [*READING, ["sample", "posts"], ["sample", "emoji"], ["--help"]], ids=" ".join)
def test_output_that_cannot_be_written(published: Terminal, words: list[str]) -> None:
    published.child_fails(*words, code=3, says="cannot write the output: Bad file", prepare=close_output)


@pytest.mark.parametrize("size", [0, 5000])
def test_output_that_does_not_fit(rhizome: Terminal, size: int) -> None:
    prepare = files_of_at_most(size)
    rhizome.child_fails("sample", "posts", code=3, says="there is no space left", prepare=prepare)


def test_output_that_nobody_reads_to_its_end(rhizome: Terminal) -> None:
    def leave() -> None:
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)

    assert rhizome.in_a_child("sample", "posts", prepare=leave) == (141, "", "")


# --- interrupted, killed, and two at once ---


def at_block(number: int, do: Callable[[], None]) -> Callable[[], None]:
    """Do something when an import hands its n-th batch of blocks to the store."""

    def prepare() -> None:
        put_many = DiskStore.put_many
        calls = iter(range(1, 10**6))

        def put_or_do(self: DiskStore, blocks: Any) -> None:
            put_many(self, blocks)
            if next(calls) == number:
                do()

        DiskStore.put_many = put_or_do  # type: ignore[method-assign]

    return prepare


def interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a process has that was started in the foreground
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("words", [["import", "posts", "-"], ["--json", "import", "posts", "-"]], ids=" ".join)
def test_an_interrupted_import(published: Terminal, words: list[str]) -> None:
    state = published.state()
    code, out, err = published.in_a_child(*words, stdin=MORE, prepare=at_block(1, interrupt))
    assert (code, out) == (130, "")
    if "--json" in words:
        check_json_error(err, 130, "interrupted")
    else:
        check_error(err, "interrupted; nothing half-done was kept")
    check_whole(published, state)


def check_killed_at(published: Terminal, step: int) -> bool:
    """Kill an import at a step; whether it came so far. Afterwards there is the old head, or the new one complete."""
    state = published.state()
    code, out, _ = published.in_a_child("import", "posts", "-", stdin=MORE, prepare=from_step(step, killed))
    now = published.state()
    records = now[0]["collections"]["posts"]["records"]
    assert (now[0]["sequence"], records) in ((1, 2), (2, 102))
    if code:
        assert code == -signal.SIGKILL and not out
    else:
        assert now[0]["sequence"] == 2  # acknowledged
    count, _ = published("query", "count posts tagged #cats")
    assert json.loads(count) == {"count": records}
    if now[0]["sequence"] == 1:
        check_whole(published, state)
    return code != 0


@pytest.mark.parametrize("step", [1, 2, 9, 40])
def test_a_killed_import(published: Terminal, step: int) -> None:
    assert check_killed_at(published, step)


@pytest.mark.slow
def test_an_import_killed_at_every_step(published: Terminal, tmp_path: Path) -> None:
    home = published.home
    step, is_killed = 1, True
    while is_killed:
        published.home = tmp_path / str(step)
        shutil.copytree(home, published.home)
        is_killed = check_killed_at(published, step)
        shutil.rmtree(published.home)
        step += 1
    assert step > 40


def test_a_second_writer_at_the_same_time(published: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_BUSY_MILLISECONDS", 1)
    state = published.state()
    with DiskStore(published.home / "store.sqlite").transaction():
        for words in WRITING:
            published.fails(*words, code=3, says="another process is writing to")
        for words in READING:
            published(*words)
    check_whole(published, state)


def start(home: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rhizome_index.cli", "--home", str(home), *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_real_processes_at_once_interrupted_and_killed(published: Terminal) -> None:
    """One process imports, and waits for more; another wants to write, others read; then the first is stopped."""
    state = published.state()
    for stop, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM)):
        importing = start(published.home, "import", "posts", "-")
        assert importing.stdin is not None
        importing.stdin.write(MORE)  # more than a pipe holds: when this returns, it is being read
        importing.stdin.flush()
        if stop is signal.SIGINT:
            with start(published.home, "put", "posts", '{"id": "y"}') as second:
                _, err = second.communicate()
            assert second.returncode == 3
            check_error(err.decode(), "another process is writing to")
        assert published.state() == state
        importing.send_signal(stop)
        out, err = importing.communicate()
        assert (importing.returncode, out) == (code, b"")
        if stop is signal.SIGINT:
            check_error(err.decode(), "interrupted; nothing half-done was kept")
        assert published.state() == state
    check_whole(published, state)


def test_nobody_foresees_the_file_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have laid in a folder that is theirs too is neither written through nor read; the rest stays."""
    secret, target = tmp_path / "secret", tmp_path / "x.car"
    secret.write_bytes(b"mine")
    for trap in (target.with_name("x.car.part"), target.with_name(".x.car.part")):
        trap.symlink_to(secret)
    before = set(tmp_path.iterdir())
    modes: list[int] = []
    sync = os.fsync

    def watch(descriptor: int) -> None:
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in set(tmp_path.iterdir()) - before - {target})
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(archives, "_mode_of", lambda path: 0o600)
        patched.setattr(os, "fsync", watch)
        with archives.open_for_writing(target) as stream:
            stream.write(b"x")
    assert modes[0] == 0o600 and len(modes) == 1, "it has its name when it is durable"
    assert set(tmp_path.iterdir()) == before | {target} and secret.read_bytes() == b"mine"


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, umask: int) -> None:
    target = tmp_path / "x.car"
    before = os.umask(umask)
    try:
        for mode in (0o666 & ~umask, 0o640):
            with archives.open_for_writing(target) as stream:
                stream.write(b"x")
            assert stat.S_IMODE(target.stat().st_mode) == mode
            target.chmod(0o640)
    finally:
        os.umask(before)
