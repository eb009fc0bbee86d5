"""Sample records: the bundled emoji, and made-up posts in any number.

Promises: `emoji` gives the bundled file line by line, byte for byte. `posts` is a
pure function of (count, seed): the same records on every machine and every Python
version, made one at a time in constant memory.

How that is kept: the only source of chance is `random.Random(seed).random()`, whose
sequence Python promises to keep for a seed (choice, shuffle and sample carry no such promise).
Of its floats only sums, products and quotients are taken, which IEEE 754 fixes to
the last bit; powers and logarithms differ between C libraries and are not used.

Does not know: collections, indexes, JSON. The words mean nothing.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from importlib.resources import files
from itertools import accumulate
from typing import Any

END_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z: every post is older
_PACE_MS = 60_000  # one post a minute,
_SPAN_MS = 5 * 365 * 86_400_000  # or faster where that would reach back more than five years
_LIKES_SCALE = 8  # half of all posts have fewer likes than this

_2_48 = 2.0**48
_WORDS = """
a about after again all almost along also always and another any around as at away back be because
been before below between both bread bridge bright but by came candle carry city clear cloud coast
coffee cold could country day deep did door down dream each early earth east edge end enough even
evening ever every few field find fire first follow for forest found friend from garden give glass
go good grass green had half hand harbour has have he hear here high hill home hour house how idea
if in into island it just keep kind know lake lamp large last late leaf learn leave left letter
light like line little long look made make many map market may meadow might moment moon more morning
mountain much music must near never new next night no north not nothing now of off often old on once
one only open or orange other our out over own page paper part path people place plain quiet rain
read red rest river road room round run said same saw say sea season see seem seven shadow she shore
should side silver simple since small snow some song soon south spring stand star still stone story
street summer sun sure table take tell than that the their them then thing this those through time
to too train tree turn under up us village voice wait walk warm was water way we week well west what
when where which why will wind window winter with word work world write
""".split()  # noqa: SIM905 (a list literal is laid out one word a line)

_NAMES = """
alice bob carol dave erin frank grace heidi ivan judy kim leo mallory nina oscar peggy
quentin ruth sybil trent uma victor walter xena yusuf zoe amir bianca chen dora emil
fatima george hana igor jana karim lena mateo nadia omar paula rosa sven tara ulrich
vera wei yara zeno anders beata cleo dmitri elif femi
""".split()  # noqa: SIM905 (a list literal is laid out one word a line)

_TOPICS = """
photography music travel news art food nature books science movies sports history gaming coding
design fitness garden cooking weather cats dogs birds coffee space linux python maps trains cycling
hiking running yoga poetry writing drawing painting sculpture architecture film theatre dance jazz
opera guitar piano radio podcasts privacy security networks databases hardware robotics electronics
energy climate oceans mountains rivers forests insects mushrooms flowers trees bees horses fish wine
bread cheese tea chess puzzles boardgames comics anime fantasy mystery biography philosophy
languages mathematics physics chemistry biology medicine astronomy geology economics law politics
education parenting fashion knitting woodworking pottery sewing sailing climbing
""".split()  # noqa: SIM905 (a list literal is laid out one word a line)

_KINDS = ("", "-tips", "-daily", "-history", "-friends")
AUTHORS = tuple(name + suffix for suffix in ("", "2", "3", "4", "5") for name in _NAMES)
TAGS = tuple(topic + kind for kind in _KINDS for topic in _TOPICS)  # by rank: TAGS[19] is "cats"


def emoji() -> Iterator[bytes]:
    """The JSON lines of the bundled emoji, each with its newline."""
    with (files("rhizome_index") / "data" / "emoji.jsonl").open("rb") as file:
        yield from file


def posts(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` posts, oldest first: id, author, created (ms since 1970), text, tags, likes.

    Ids sort as the posts were made. Authors and tags follow Zipf's law by rank with
    exponent 1; likes have a Pareto tail with exponent 1. As JSON a post takes some
    230 bytes.

    The first posts of a greater `count` are these same posts but for `created`, which is
    counted back from END_MS, and for the digits of `id`, of which there are more from a
    count of 10**8 on. Seeds n and -n are one seed to Python.
    """
    chance = random.Random(seed).random
    id_digits = max(8, len(str(count)))
    slot_ms = max(1, min(_PACE_MS, _SPAN_MS // max(1, count)))
    author_weights, tag_weights = _zipf(len(AUTHORS)), _zipf(len(TAGS))
    author_total, tag_total = author_weights[-1], tag_weights[-1]
    words = _WORDS
    start_ms = END_MS - count * slot_ms
    for number in range(count):
        author = AUTHORS[bisect_right(author_weights, chance() * author_total)]
        # One slot each, and a moment within it: strictly increasing, whatever chance says.
        created = start_ms + number * slot_ms + int(chance() * slot_ms)
        # 48 of the 53 bits of a float pick six words of 256 at once: a third of the time of one by one.
        picks = b"".join([int(chance() * _2_48).to_bytes(6, "big") for _ in range(5)])
        text = " ".join([words[pick] for pick in picks[: 8 + int(chance() * 23)]])
        tag_count = 1 + int(chance() * 4)
        tags: list[str] = []
        while len(tags) < tag_count:
            tag = TAGS[bisect_right(tag_weights, chance() * tag_total)]
            if tag not in tags:
                tags.append(tag)
        yield {
            "id": f"p{number:0{id_digits}}",
            "author": author,
            "created": created,
            "text": text,
            "tags": tags,
            "likes": int(_LIKES_SCALE / (1.0 - chance())) - _LIKES_SCALE,
        }


def _zipf(ranks: int) -> list[int]:
    """Running sums of the weights 1/rank, as integers so that no rounding depends on the order of sums."""
    return list(accumulate(10**9 // rank for rank in range(1, ranks + 1)))
