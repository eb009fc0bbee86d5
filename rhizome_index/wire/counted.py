"""What is kept of each peer is kept of so many peers, and no more."""

from __future__ import annotations

from typing import Any

from rhizome_index.limits import PEERS_COUNTED_MAX


def make_room(noted: dict[Any, Any]) -> None:
    """For one more peer: of as many as are kept the one noted first is forgotten."""
    if len(noted) >= PEERS_COUNTED_MAX:
        del noted[next(iter(noted))]
