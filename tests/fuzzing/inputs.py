"""Inputs made from others: what a fuzzer tries where no engine of its own is at hand.

Promises: the same beginnings and the same seed give the same inputs. It does not know
what takes them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

INPUT_BYTES_MAX = 64 * 1024  # a frame; more is refused by its length alone
_TELLING = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xf6", b"\x9f", b"\xbf", b"\x5f", b"\xd8\x2a", b"\xfb\x7f\xf8")
_LENGTHS = (b"\x1b" + b"\xff" * 8, b"\x9a\xff\xff\xff\xff", b"\xba\x00\x01\x00\x00", b"\x5a\x7f\xff\xff\xff")

Change = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def _flip(chance: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(chance: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _step(chance: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """One more or one less: what a length, or a number in order, is sensitive to."""
    if data:
        place = chance.randrange(len(data))
        data[place] = (data[place] + chance.choice((1, -1))) % 256


def _cut(chance: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.choice((1, 2, 8, 36, len(data)))]


def _insert(chance: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice((*_TELLING, *_LENGTHS))


def _repeat(chance: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    piece = data[start : start + chance.choice((1, 4, 36, 200))]
    data[start:start] = piece * chance.choice((1, 2, 50))


def _splice(chance: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = chance.choice(others)
    start = chance.randrange(len(other) + 1)
    place = chance.randrange(len(data) + 1)
    size = chance.choice((4, 40, len(other)))
    data[place : place + chance.choice((0, size))] = other[start : start + size]


_CHANGES: tuple[Change, ...] = (_flip, _set, _set, _step, _cut, _insert, _repeat, _splice)


def changed(begin: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Inputs without end, each one of the beginnings changed in one to eight places."""
    chance = random.Random(seed)
    begin = begin or [b""]
    while True:
        data = bytearray(chance.choice(begin))
        for _ in range(chance.choice((1, 1, 2, 3, 8))):
            chance.choice(_CHANGES)(chance, data, begin)
        yield bytes(data[:INPUT_BYTES_MAX])
