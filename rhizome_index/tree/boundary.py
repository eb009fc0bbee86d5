"""Where a level of a tree is cut into nodes: the gap rule.

The gap before item i of a level has a priority: the first 8 bytes of
SHA-256(salt || level || key of i). Of equal priorities the earlier is lower.

    While a run of items weighs more than MAX and has two items or more,
    cut it at its lowest-priority gap.

The same said of one gap: it is cut exactly if the longest run in which it is
the lowest weighs more than MAX. So a cut depends on nothing further away than
MAX in weight, whatever the keys: every node is bounded and every edit local,
even where keys were ground against it, and the cuts are a pure function of the
items, whatever the order in which they came.

Both readings are one pass with a monotonic stack. Its source is the Cartesian
tree: Vuillemin, A unifying look at data structures, CACM 23(4), 1980.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate

from rhizome_index.errors import UsageError
from rhizome_index.limits import MAX_WEIGHT_DEFAULT, MAX_WEIGHT_RANGE, SALT_BYTES_MAX

Priority = bytes  # 8 bytes; their order is that of the big-endian number they spell


@dataclass(frozen=True, slots=True)
class Rule:
    """What a dataset's manifest fixes about cutting: the salt and MAX, a weight."""

    salt: bytes
    max_weight: int = MAX_WEIGHT_DEFAULT

    def __post_init__(self) -> None:
        low, high = MAX_WEIGHT_RANGE
        if not low <= self.max_weight <= high or len(self.salt) > SALT_BYTES_MAX:
            raise UsageError(
                f"a cutting rule needs a salt of at most {SALT_BYTES_MAX} bytes and a weight from {low} to {high}"
            )

    def priorities(self, level: int, keys: Iterable[bytes]) -> list[Priority]:
        """The priority of the gap before each of these keys."""
        prefix = self.salt + bytes([level])
        hash_ = sha256
        return [hash_(prefix + key).digest()[:8] for key in keys]


@dataclass(frozen=True, slots=True)
class Cuts:
    """Positions of items that begin a node (never 0), ascending, and from where on nothing is decided yet."""

    positions: list[int]
    undecided_from: int


def find_cuts(
    priorities: Sequence[Priority],
    weights: Sequence[int],
    max_weight: int,
    *,
    before: bool,
    after: Priority | None = None,
    at_end: bool = True,
) -> Cuts:
    """Cut a window of a level.

    before  the window begins at a cut that is known to stand: its priority is the first item's.
            Otherwise it begins where the level begins.
    after   the priority of a cut known to stand right behind the window
    at_end  with no `after`: the level ends here. Otherwise more items will follow, and gaps that
            they may still decide are left undecided.
    """
    size = len(priorities)
    sums = list(accumulate(weights, initial=0))
    # A run that reaches over a standing cut contains that cut's own run, which weighs more than MAX.
    floor = -max_weight - 1 if before else 0
    stack = [0] if before else []
    positions: list[int] = []
    for here in range(1, size):
        priority = priorities[here]
        while stack and priorities[stack[-1]] > priority:
            gap = stack.pop()
            if sums[here] - (sums[stack[-1]] if stack else floor) > max_weight:
                positions.append(gap)
        stack.append(here)
    undecided_from = size
    for place, gap in enumerate(stack):
        reach = sums[size] - (sums[stack[place - 1]] if place else floor)
        if reach > max_weight or (after is not None and priorities[gap] <= after):
            positions.append(gap)
        elif not at_end and after is None and undecided_from == size:
            undecided_from = gap
    positions.sort()
    if positions and positions[0] == 0:
        del positions[0]
    return Cuts(positions, undecided_from)
