"""No decoder raises anything but what it documents: for every beginning, and for some inputs made from them."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.fuzzing.inputs import INPUT_BYTES_MAX, changed
from tests.fuzzing.targets import TARGETS, Target

QUICKLY, THOROUGHLY = 150, 20_000


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_raises_what_it_documents(name: str) -> None:
    begin = list(TARGETS[name].begin())
    assert begin, "a target begins with something"
    for data in (b"", *begin, *islice(changed(begin, seed=1), QUICKLY)):
        TARGETS[name].take(data)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_raises_what_it_documents_thoroughly(name: str) -> None:
    for data in islice(changed(list(TARGETS[name].begin()), seed=2), THOROUGHLY):
        TARGETS[name].take(data)


def test_inputs_are_the_same_again_bounded_and_different() -> None:
    begin = [b"abc", bytes(INPUT_BYTES_MAX)]
    some = list(islice(changed(begin, seed=3), 500))
    assert some == list(islice(changed(begin, seed=3), 500))
    assert len(set(some)) > 400 and max(map(len, some)) == INPUT_BYTES_MAX


def test_what_is_not_documented_comes_through() -> None:
    def fail(data: bytes) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        Target(fail, (ValueError,), lambda: iter(())).take(b"")
