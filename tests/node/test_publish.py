"""Publishing at the limits of a dataset, and one past each: refused before anything is worked out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rhizome_index.blocks.cid import cid_of
from rhizome_index.errors import UsageError
from rhizome_index.index.head import Head, Identity, sign_head
from rhizome_index.index.record import Record
from rhizome_index.index.schema import Definition, SortPath
from rhizome_index.limits import COLLECTIONS_MAX, INDEX_PATHS_MAX, INDEXES_MAX, SORT_BYTES_MAX
from rhizome_index.node import publish
from rhizome_index.node.home import Home
from rhizome_index.node.publish import FOREVER, Declaration, Publisher
from rhizome_index.node.spill import SpillingSorter
from rhizome_index.query.parse import parse_index


class At:
    """A clock that stands until it is set; in seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    home = Home(tmp_path / "home")
    home.create(b"k" * 32)
    with home.open_store() as store:
        yield Publisher(store, home.identity, lambda: 1_700_000_000.0)


def never() -> Iterator[Record]:
    """Records that nobody may read: what is refused is refused first."""
    raise AssertionError("read")
    yield


def indexes(count: int) -> Declaration:
    return Declaration(indexes=dict(parse_index(f"i{number}=n") for number in range(count)))


def test_collections_at_the_limit_and_one_past_it(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "COLLECTIONS_MAX", 3)
    assert COLLECTIONS_MAX > 3
    for number in range(3):
        publisher.put_many("main", f"c{number}", [], Declaration())
    with pytest.raises(UsageError, match="at most 3 collections"):
        publisher.put_many("main", "c3", never(), Declaration())
    assert sorted(publisher.manifest("main").collections) == ["c0", "c1", "c2"]
    publisher.put_many("main", "c2", [{"id": 1}])
    publisher.put_many("other", "c3", [{"id": 1}], Declaration())


def test_declared_indexes_at_the_limit_and_one_past_it(publisher: Publisher) -> None:
    """65 were published once, and then nobody could read the dataset, its publisher included."""
    with pytest.raises(UsageError, match=f"at most {INDEXES_MAX} indexes"):
        publisher.put_many("main", "c", never(), indexes(INDEXES_MAX + 1))
    publisher.put_many("main", "c", [{"id": 1}], indexes(INDEXES_MAX))
    assert len(publisher.manifest("main").collection("c").indexes) == INDEXES_MAX
    with pytest.raises(UsageError, match=f"at most {INDEXES_MAX} indexes"):
        publisher.add_index("main", "c", "one-more", Definition.over("n"))


@pytest.mark.parametrize(
    "wrong",
    [
        Declaration(key="a..b"),
        Declaration(time="-a"),
        Declaration(order=(SortPath("a"), SortPath("a", True))),
        Declaration(order=tuple(SortPath(f"p{number}") for number in range(INDEX_PATHS_MAX + 1))),
    ],
)
def test_a_declaration_that_nobody_could_read(publisher: Publisher, wrong: Declaration) -> None:
    with pytest.raises(UsageError):
        publisher.put_many("main", "c", never(), wrong)
    assert not publisher.manifest("main").collections


def test_the_sorters_of_an_import_share_their_memory(publisher: Publisher) -> None:
    for count in (1, 3, 65):
        sorters = [publisher._spilling(count)() for _ in range(count)]
        assert all(isinstance(sorter, SpillingSorter) for sorter in sorters)
        assert 0 < sum(sorter._bytes_max for sorter in sorters) <= SORT_BYTES_MAX


# --- how long heads hold ---


def held_ms(head: Head) -> int | None:
    return None if head.expires_ms is None else head.expires_ms - head.time_ms


def test_a_head_holds_as_long_as_the_one_before_unless_it_is_said(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create(b"k" * 32)
    with home.open_store() as store:
        heads = []
        for number, seconds in enumerate([None, 60.0, None, 90.5, None, FOREVER, None]):
            publisher = Publisher(store, home, lambda: 1_700_000_000.0, seconds)
            heads.append(publisher.put_many("main", "c", [{"id": number}], Declaration())[0])
        assert [held_ms(head) for head in heads] == [None, 60_000, 60_000, 90_500, 90_500, None, None]
        assert held_ms(Publisher(store, home, lambda: 0.0).put_many("other", "c", [], Declaration())[0]) is None


def test_nothing_changed_is_signed_again_if_it_is_said_how_long_it_holds(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create(b"k" * 32)
    with home.open_store() as store:
        first, _ = Publisher(store, home, At(10.0), 60).put_many("main", "c", [{"id": 1}], Declaration())
        assert Publisher(store, home, At(20.0)).put_many("main", "c", [{"id": 1}])[0] == first
        again, _ = Publisher(store, home, At(20.0), 60).put_many("main", "c", [{"id": 1}])
        assert (again.sequence, again.manifest, again.expires_ms) == (2, first.manifest, 80_000)
        renewed = Publisher(store, home, At(30.0)).renew("main")
        assert (renewed.sequence, renewed.manifest, renewed.expires_ms) == (3, first.manifest, 90_000)
        assert store.newest_head(first.address) == renewed


def test_nothing_published_cannot_be_renewed(publisher: Publisher) -> None:
    with pytest.raises(UsageError, match="nothing was published as"):
        publisher.renew("main")


def test_what_expires_is_renewed_when_its_share_of_the_time_is_over(tmp_path: Path) -> None:
    home, clock = Home(tmp_path / "home"), At(1000.0)
    home.create(b"k" * 32)
    with home.open_store() as store:
        publisher = Publisher(store, home, clock)
        publisher.put_many("forever", "c", [{"id": 1}], Declaration())
        Publisher(store, home, clock, 100).put_many("short", "c", [{"id": 1}], Declaration())
        Publisher(store, home, clock, 1000).put_many("long", "c", [{"id": 1}], Declaration())
        others = sign_head(Identity(b"o" * 32), "main", 1, cid_of(b""), 0, 1)
        store.put_head(others)
        for seconds, renewed in ((0, []), (49.9, []), (50, ["short"]), (99, []), (500, ["long", "short"]), (501, [])):
            clock.now = 1000 + seconds
            heads = publisher.renew_those_that_expire()
            assert sorted(head.address.name for head in heads) == renewed
            assert all(head.time_ms == clock.now * 1000 for head in heads)
