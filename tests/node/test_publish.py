"""Publishing at the limits of a dataset, and one past each: refused before anything is worked out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rhizome_index.errors import UsageError
from rhizome_index.index.record import Record
from rhizome_index.index.schema import Definition, SortPath
from rhizome_index.limits import COLLECTIONS_MAX, INDEX_PATHS_MAX, INDEXES_MAX, SORT_BYTES_MAX
from rhizome_index.node import publish
from rhizome_index.node.home import Home
from rhizome_index.node.publish import Declaration, Publisher
from rhizome_index.node.spill import SpillingSorter
from rhizome_index.query.parse import parse_index


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
