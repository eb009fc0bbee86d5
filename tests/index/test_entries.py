"""Records that an index can just hold, and those that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from rhizome_index.errors import RecordError
from rhizome_index.index.entries import Entries, entry_maker
from rhizome_index.index.keys import encode_component
from rhizome_index.limits import INDEX_ELEMENTS_MAX, KEY_BYTES_MAX
from rhizome_index.query.parse import parse_index

KEY = encode_component("k")


def entries(record: dict[str, Any], *indexes: str) -> list[Entries]:
    return entry_maker([parse_index(text) for text in indexes])(record, KEY)


def test_elements_at_the_limit_and_one_past_it() -> None:
    elements = list(range(INDEX_ELEMENTS_MAX))
    ((keys, list_at, _),) = entries({"tags": [*elements, *elements]}, "by_tag=tags,n")  # equal ones are one
    assert len(keys) == INDEX_ELEMENTS_MAX and list_at == 0
    with pytest.raises(RecordError, match="1,025 elements for the index 'by_tag'; at most 1,024 fit") as caught:
        entries({"tags": [*elements, "more"]}, "by_n=n", "by_tag=tags")
    assert caught.value.key == KEY and caught.value.exit_code == 2 and caught.value.hint


@pytest.mark.parametrize("sign", ["", "-"])
def test_an_entrys_key_at_the_limit_and_one_past_it(sign: str) -> None:
    most = "x" * (KEY_BYTES_MAX - len(KEY) - 3)
    for value in (most, [most, "other"]):
        ((keys, _, _),) = entries({"n": value}, f"by_n={sign}n")
        assert max(map(len, keys)) == KEY_BYTES_MAX
    for value in (most + "x", ["other", most + "x"]):
        with pytest.raises(RecordError, match="a value too long for the index 'by_n'"):
            entries({"n": value}, f"by_n={sign}n")


def test_one_list_and_two() -> None:
    record = {"tags": ["a", "b"], "a": [{"b": 1}], "n": 1}
    assert [list_at for _, list_at, _ in entries(record, "one=n,tags", "two=a.b,n", "three=n")] == [1, 0, -1]
    with pytest.raises(RecordError, match="two lists in one record for the index 'both'"):
        entries(record, "one=n,tags", "both=tags,a.b")
