"""What may have been meant by a word that is not known."""

from __future__ import annotations

from collections.abc import Iterable

from rhizome_index.limits import NAME_BYTES_MAX


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The hint that a word was a slip for one of those that are known, before what else is to be said.

    What is longer than names are is no slip, and would take long to compare.
    """
    from difflib import get_close_matches  # slips are rare

    close = get_close_matches(word, list(known), 1) if len(word) <= NAME_BYTES_MAX else []
    return "; ".join(filter(None, (f'did you mean "{close[0]}"?' if close else "", otherwise)))
