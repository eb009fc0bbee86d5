"""Ask for the first part of an answer whoever gives it first.

Promises: the next peer is asked when one has failed, or when nobody has been heard for
a moment, and the first good answer counts; so a peer that has stalled costs that moment.
It counts as a failure of those who let it pass, so that they are rarely asked first again.

It does not know what is asked, nor what makes an answer good: both are given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from rhizome_index.errors import RhizomeError, first_of
from rhizome_index.node.link import Links
from rhizome_index.node.race import Race
from rhizome_index.wire.ask import Asking


async def ask_hedged(
    links: Links,
    peers: Sequence[str],
    ask: Callable[[str, Race[Asking]], Awaitable[Asking]],
    problems: list[RhizomeError],
) -> tuple[Asking, list[str]] | None:
    """The first good answer, and whom to ask on: its peer, then those that have not failed.

    ask  gives a peer's answer, telling the race what it hears; or raises UnavailableError or IntegrityError

    None if nobody has one; why they have not is added to `problems`. Raises what else `ask` raises.
    """
    race: Race[Asking] = Race()
    try:
        found = await race.run(peers, lambda peer: ask(peer, race))
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    problems += race.problems.values()
    late = race.late - race.problems.keys() - {found[1] if found else ""}
    for peer in late:
        links.note_late(peer)
    if found is None:
        return None
    asking, winner = found
    return asking, [winner, *(peer for peer in peers if peer != winner and peer not in race.problems)]
