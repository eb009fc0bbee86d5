"""The command line, which says of every block that it has received it, before anything else is done with it."""

from __future__ import annotations

import os
import sys
from typing import Any

from rhizome_index.cli.main import main
from rhizome_index.wire.want import Wanting

ENTRY_BYTES = 4096  # all that the smallest pipe holds

_take_block = Wanting._take_block


def tell_blocks(file: int) -> None:
    """Write the name and the size of each block to a pipe, a page for each: whoever reads it sets the pace."""

    def take(self: Wanting, block: Any) -> None:
        _take_block(self, block)
        if block is not None:
            entry = self._cids[len(self.blocks) - 1] + len(block).to_bytes(4, "big")
            os.write(file, entry.ljust(ENTRY_BYTES, b"\0"))

    Wanting._take_block = take  # type: ignore[method-assign]


if __name__ == "__main__":
    tell_blocks(int(sys.argv.pop(1)))
    main()
