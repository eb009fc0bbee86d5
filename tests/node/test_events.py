"""What a follow has to say for the log: each trouble once, and nothing of records."""

from __future__ import annotations

from typing import Any

import pytest

from rhizome_index.errors import IntegrityError, RemoteError, RhizomeError, UnavailableError
from rhizome_index.index.address import Address
from rhizome_index.node.events import INFO, LOGGER, WARNING, note
from rhizome_index.node.follow import FollowState, _tell_problem
from rhizome_index.node.register import Follow, Policy
from tests.node.test_libp2p_swarm import NOBODY

ADDRESS = Address(NOBODY, "main")


def test_a_trouble_is_told_once_until_it_is_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(INFO, LOGGER.name)
    state = FollowState(Follow(ADDRESS, Policy()))
    problems: list[RhizomeError | None] = [
        None,
        UnavailableError("nobody"),
        UnavailableError("nobody"),
        RemoteError("12D", "lies"),
        None,
        UnavailableError("nobody"),
        IntegrityError("two records have 'secret' there"),
        IntegrityError("two records have 'secret' there"),
    ]
    for problem in problems:
        _tell_problem(state, problem)
        state.settle(problem)
    found: list[Any] = [(record.levelno, record.event, record.fields) for record in caplog.records]  # type: ignore[attr-defined]
    dataset = str(ADDRESS)
    assert found == [
        (INFO, "follow_failing", {"dataset": dataset, "reason": "nobody"}),
        (INFO, "follow_failing", {"dataset": dataset, "reason": "peer 12D: lies"}),
        (INFO, "follow_failing", {"dataset": dataset, "reason": "nobody"}),
        (WARNING, "publisher_refused", {"dataset": dataset}),
    ]
    assert dataset in caplog.records[-1].getMessage() and "secret" not in caplog.records[-1].getMessage()


def test_what_nobody_listens_to_is_not_even_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(WARNING, LOGGER.name)
    note(INFO, "event")
    assert not caplog.records
