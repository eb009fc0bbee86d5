"""What peers do: posts published over time, questions about them, peers that come and go. All from a seed.

Each question knows its right answer, worked out in plain Python over plain records:
`Model` keeps those of every head.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rhizome_index.blocks.cid import Cid
from rhizome_index.cli.samples import posts
from rhizome_index.index.address import Address
from rhizome_index.index.head import Head
from rhizome_index.simulation.cluster import Changes, Member, Observer
from rhizome_index.simulation.network import REGIONS, Place

Record = Mapping[str, Any]
_ROWS = (1, 5, 10, 32)
_KEPT = 8  # versions of a dataset worked out and kept


@dataclass(frozen=True, slots=True)
class Question:
    """A query and how to answer it: `answer` gives the rows, or their number for a count."""

    text: str
    answer: Callable[[Mapping[str, Record]], list[Record] | int]


class Model(Observer):
    """What each dataset holds at each head, by what its publisher was told.

    newest  the last head of each dataset that was acknowledged
    """

    def __init__(self) -> None:
        self.newest: dict[Address, Head] = {}
        self._signed: set[bytes] = set()
        self._changes: dict[Cid, tuple[Head | None, Changes]] = {}
        self._unsure: dict[Address, Changes] = {}
        self._kept: dict[Cid, Mapping[str, Record]] = {}

    def on_published(self, member: Member, head: Head, changes: Changes, before: Head | None) -> None:
        self._signed.add(head.envelope)
        self._changes.setdefault(head.manifest, (before, changes))
        self.newest[head.address] = head

    def on_unsure(self, member: Member, changes: Changes) -> None:
        self._unsure[member.dataset] = changes

    def on_started(self, member: Member) -> None:
        """What was cut off has happened if there is a head for it."""
        changes, before = self._unsure.pop(member.dataset, None), self.newest.get(member.dataset)
        head = member.running.peer.store.newest_head(member.dataset)
        if changes is not None and head is not None and (before is None or head.sequence > before.sequence):
            self.on_published(member, head, changes, before)
            first = before.sequence + 1 if before else 1
            for other in member.running.peer.store.all_heads():
                if other.address == head.address and first <= other.sequence < head.sequence:
                    self._signed.add(other.envelope)

    def __contains__(self, head: Head) -> bool:
        """Whether a head was published, exactly this one."""
        return head.envelope in self._signed

    def records(self, head: Head) -> Mapping[str, Record]:
        """All records by id, as of a head that was published."""
        found = self._kept.get(head.manifest)
        if found is None:
            way: list[Changes] = []
            at: Head | None = head
            while at is not None and at.manifest not in self._kept:
                at, changes = self._changes[at.manifest]
                way.append(changes)
            made = dict(self._kept[at.manifest]) if at is not None else {}
            for changes in reversed(way):
                for key, record in changes.items():
                    if record is None:
                        made.pop(key, None)
                    else:
                        made[key] = record
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            found = self._kept[head.manifest] = made
        return found


class Posts:
    """Posts to publish, one after another, and changes of those published."""

    def __init__(self, count: int, seed: int) -> None:
        self._coming: Iterator[Record] = posts(count, seed)
        self._chance = random.Random(seed)
        self.published: dict[str, Record] = {}
        self._keys: list[str] = []  # of these

    def more(self, count: int) -> Changes:
        """The next posts."""
        changes = {str(post["id"]): post for post in islice(self._coming, count)}
        self.published |= changes
        self._keys += changes
        return changes

    def edits(self, count: int) -> Changes:
        """New likes for some posts, and about every tenth of them deleted."""
        changes: dict[str, Record | None] = {}
        for _ in range(min(count, len(self.published) // 2)):
            place = draw(self._chance, range(len(self._keys)))
            key = self._keys[place]
            if self._chance.random() < 0.1:
                changes[key] = None
                del self.published[key], self._keys[place]
            else:
                changes[key] = self.published[key] = {**self.published[key], "likes": int(self._chance.random() * 100)}
        return changes


class Questions:
    """Questions about posts: tags and authors as common as in the posts themselves."""

    def __init__(self, sample: Sequence[Record], chance: random.Random) -> None:
        self._sample = sample
        self._chance = chance

    def next(self) -> Question:
        """Another question."""
        post = draw(self._chance, self._sample)
        rows = draw(self._chance, _ROWS)
        tag = draw(self._chance, post["tags"])
        return (tagged(tag, rows), by_author(post["author"], rows), oldest_tagged(tag, rows), count_tagged(tag))[
            int(self._chance.random() * 4)
        ]


def tagged(tag: str, rows: int) -> Question:
    """The newest posts with a tag."""
    return Question(f"first {rows} posts tagged #{tag}", lambda all_: _newest(all_, lambda p: tag in p["tags"])[:rows])


def oldest_tagged(tag: str, rows: int) -> Question:
    """The oldest posts with a tag."""
    return Question(
        f"oldest {rows} posts tagged #{tag}", lambda all_: _newest(all_, lambda p: tag in p["tags"])[::-1][:rows]
    )


def by_author(author: str, rows: int) -> Question:
    """The newest posts of an author."""
    return Question(
        f"newest {rows} posts by {author}", lambda all_: _newest(all_, lambda p: p["author"] == author)[:rows]
    )


def count_tagged(tag: str) -> Question:
    """How many posts have a tag."""
    return Question(f"count posts tagged #{tag}", lambda all_: sum(tag in post["tags"] for post in all_.values()))


def _newest(records: Mapping[str, Record], fits: Callable[[Record], bool]) -> list[Record]:
    return sorted((post for post in records.values() if fits(post)), key=lambda post: -post["created"])


def draw(chance: random.Random, items: Sequence[Any]) -> Any:
    """One of several, each as likely."""
    return items[int(chance.random() * len(items))]


def some(chance: random.Random, items: Sequence[Any], count: int) -> list[Any]:
    """What so many draws give, each once; nothing of nothing."""
    return list(dict.fromkeys(draw(chance, items) for _ in range(count))) if items else []


def somewhere(chance: random.Random, **how: Any) -> Place:
    """A place drawn among the regions, otherwise as said."""
    return Place(**{"region": draw(chance, REGIONS), **how})


def spread(chance: random.Random, count: int, seconds: float) -> list[float]:
    """Moments within a time, in order, as visitors come that know nothing of each other."""
    return sorted(chance.random() * seconds for _ in range(count))
