"""A process that publishes for as long as it lives, and says of each head that it stands: to be killed."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from rhizome_index.node import disk
from rhizome_index.node.disk import DiskStore
from tests.durability.story import a_publisher, first_step, some_step


def main(path: str, seed: str) -> None:
    disk.LOG_PAGES_MAX = 12
    chance = random.Random(int(seed))
    publisher = a_publisher(DiskStore(Path(path), make=True))
    step = first_step(chance)
    while True:
        sys.stdout.write(step(publisher).envelope.hex() + "\n")
        sys.stdout.flush()
        step = some_step(chance)


if __name__ == "__main__":
    main(*sys.argv[1:])
