"""What a walk finds: known to whoever drives walks, without what finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rhizome_index.query.groups import Group
    from rhizome_index.query.rows import Row


@dataclass(frozen=True, slots=True)
class Found:
    """What a walk has found since it last said so: maybe nothing, but always how far it has come."""

    rows: Sequence[Row]
    entries: int
    position: bytes
    groups: Sequence[Group] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """The result of a count that needed no entries, or of groups: what came behind the last of them found."""

    count: int
    groups: Sequence[Group] = ()
