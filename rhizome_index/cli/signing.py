"""Commands about what is signed: renew."""

from __future__ import annotations

import time

import click

from rhizome_index.cli.durations import VALID_FOR
from rhizome_index.cli.local import DATASET, open_published, say
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.show import say_expiry
from rhizome_index.index.freshness import expires_in


@click.command("renew", epilog="\b\nExamples:\n  rhizome renew\n  rhizome renew --valid-for 30d")
@DATASET
@VALID_FOR
@common
def renew_command(settings: Settings, dataset: str, valid_seconds: float | None) -> None:
    """Sign the newest head again, as of now: nothing has changed, and it holds on.

    A running node does so by itself, for heads that expire.
    """
    settings.home.unlock()
    with open_published(settings, valid_seconds) as publisher:
        head = publisher.renew(dataset)
    left = expires_in(head, time.time())
    found = {"address": str(head.address), "sequence": head.sequence, "expires_in_seconds": left}
    say(settings, found, f"{head.address} head {head.sequence}{say_expiry(left)}")
