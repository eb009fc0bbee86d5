"""Records at their limits, and one past each: how they are made and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.record import decode_record, encode_record, parse_path
from rhizome_index.limits import PATH_BYTES_MAX, RECORD_BYTES_MAX, RECORD_DEPTH_MAX


def sized(size: int) -> dict[str, Any]:
    """A record of so many canonical bytes."""
    record = {"t": "x" * (size - 8)}
    assert len(cbor.encode(record)) == size
    return record


def nested(kind: Callable[[Any], Any]) -> Callable[[int], dict[str, Any]]:
    """Records with so many lists or maps inside of each other below them."""

    def make(depth: int) -> dict[str, Any]:
        value: Any = {} if kind is in_map else []
        for _ in range(depth - 1):
            value = kind(value)
        return {"a": value}

    return make


def in_map(value: Any) -> Any:
    return {"a": value}


def in_list(value: Any) -> Any:
    return [value]


LIMITS = [
    (sized, RECORD_BYTES_MAX),
    (nested(in_map), RECORD_DEPTH_MAX),
    (nested(in_list), RECORD_DEPTH_MAX),
    (lambda value: {"a": value}, 2**63 - 1),
    (lambda value: {"a": -value}, 2**63),
]


@pytest.mark.parametrize(("make", "most"), LIMITS)
def test_a_record_at_the_limit_and_one_past_it(make: Callable[[int], dict[str, Any]], most: int) -> None:
    record = make(most)
    assert decode_record(encode_record(record)) == record
    with pytest.raises(UsageError):
        encode_record(make(most + 1))
    with pytest.raises(IntegrityError):
        decode_record(cbor.encode(make(most + 1)))


def test_a_path_at_the_limit_and_one_past_it() -> None:
    for letter in ("a", "é"):
        most = letter * (PATH_BYTES_MAX // len(letter.encode()))
        assert parse_path(most) == (most,)
        with pytest.raises(UsageError, match="not a path"):
            parse_path(most + "a")


def test_half_of_a_surrogate_pair_is_said_to_be_that() -> None:
    with pytest.raises(UsageError, match="half of a surrogate pair"):
        encode_record({"a": "\ud800"})
