"""Machines that misbehaved: who is one, for how long, and how many are remembered."""

from __future__ import annotations

from rhizome_index.limits import SUSPECT_SECONDS, SUSPECTS_MAX
from rhizome_index.node.suspects import PAUSE_SECONDS, Suspects


def test_who_behaves_for_a_while_is_no_suspect() -> None:
    suspects = Suspects()
    suspects.note("once", 0.0)
    suspects.note("again", 0.0)
    suspects.note("again", 1.0)
    assert suspects.is_one("once", SUSPECT_SECONDS - 0.1) and not suspects.is_one("other", 0.0)
    assert not suspects.is_one("once", SUSPECT_SECONDS)
    assert suspects.is_one("again", SUSPECT_SECONDS) and not suspects.is_one("again", SUSPECT_SECONDS + 1)


def test_so_many_are_remembered_and_the_oldest_is_forgotten() -> None:
    suspects = Suspects()
    for number in range(SUSPECTS_MAX):
        suspects.note(str(number), 0.0)
    suspects.note("0", 1.0)  # known already: nobody has to go
    suspects.note("new", 1.0)
    found = [suspects.is_one(name, 1.0) for name in ("0", "1", "2", "new")]
    assert found == [True, False, True, True]


def test_turns_are_evenly_spaced() -> None:
    suspects = Suspects()
    assert suspects.next_turn <= 0
    suspects.begin(7.0)
    assert suspects.next_turn == 7.0 + PAUSE_SECONDS
