"""What may be declared: names, paths and keys at their limits, and one past each."""

from __future__ import annotations

import pytest

from rhizome_index.errors import UsageError
from rhizome_index.index.schema import Definition, SortPath, check_name, primary_key
from rhizome_index.limits import INDEX_PATHS_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX
from rhizome_index.query.parse import parse_index


def test_a_name_at_the_limit_and_one_past_it() -> None:
    assert check_name("n" * NAME_BYTES_MAX, "a dataset") == "n" * NAME_BYTES_MAX
    with pytest.raises(UsageError, match="not a name for a dataset"):
        check_name("n" * (NAME_BYTES_MAX + 1), "a dataset")


def test_an_index_has_so_many_paths_and_no_more() -> None:
    paths = [SortPath(f"p{number}") for number in range(INDEX_PATHS_MAX + 1)]
    assert parse_index("name=" + ",".join(map(str, paths[:-1])))[1] == Definition(tuple(paths[:-1]))
    for wrong in (paths, [], [paths[0], paths[0]], [paths[0], paths[0].flipped()]):
        with pytest.raises(UsageError, match=f"1 to {INDEX_PATHS_MAX} different paths"):
            Definition(tuple(wrong))


@pytest.mark.parametrize("kind", [str, str.encode])
def test_a_primary_key_at_the_limit_and_one_past_it(kind: type) -> None:
    most = "k" * (KEY_BYTES_MAX - 3)  # its type goes before, and two bytes of its end behind
    assert len(primary_key({"id": kind(most)}, ("id",))) == KEY_BYTES_MAX
    with pytest.raises(UsageError, match=f"a primary key of {KEY_BYTES_MAX + 1} bytes"):
        primary_key({"id": kind(most + "k")}, ("id",))


@pytest.mark.parametrize("key", [2**63, -(2**63) - 1, "\ud800"])
def test_what_no_record_can_hold_is_no_primary_key(key: object) -> None:
    with pytest.raises(UsageError, match="not a primary key"):
        primary_key({"id": key}, ("id",))
