"""What happens in a node, for its log and its terminal.

An event has a name, a level, and fields: numbers and short texts. From WARNING on it
has a text as well, for a person who ought to know of it. Never in one: private keys,
what records hold, what queries ask. docs/logs.md lists them.

They go through the standard logging, so whoever uses this as a library decides what
becomes of them.
"""

from __future__ import annotations

import logging
from logging import DEBUG, ERROR, INFO, WARNING

__all__ = ["DEBUG", "ERROR", "INFO", "LOGGER", "WARNING", "note"]

LOGGER = logging.getLogger("rhizome_index")
LOGGER.addHandler(logging.NullHandler())

Field = str | float | bool | None | list[str]


def note(level: int, event: str, text: str = "", **fields: Field) -> None:
    """Something has happened."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, text, extra={"event": event, "fields": fields})
