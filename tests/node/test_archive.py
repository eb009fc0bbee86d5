"""Saved answers: as large as they may be, and larger ones."""

from __future__ import annotations

import io

import pytest

from rhizome_index.errors import IntegrityError
from rhizome_index.limits import PROOF_BYTES_MAX, SAVED_PROOF_BYTES_MAX
from rhizome_index.node import saved
from rhizome_index.node.archive import verify
from rhizome_index.node.saved import write_answer
from rhizome_index.query.expr import Query
from tests.properties.test_conversations import answer_in_parts, things


def test_a_saved_answer_at_the_limit_and_one_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, asking, blocks = answer_in_parts(Query("things"), things(300), None, PROOF_BYTES_MAX)
    assert asking.answer is not None and asking.opening is not None
    file = io.BytesIO()
    write_answer(file, asking.opening, asking.answer, None, blocks)
    size = sum(len(data) for _, data in blocks)
    assert size < SAVED_PROOF_BYTES_MAX
    monkeypatch.setattr(saved, "SAVED_PROOF_BYTES_MAX", size)
    verified = verify(io.BytesIO(file.getvalue()))
    assert [row.record for row in verified.rows] == rows and verified.bytes == size
    monkeypatch.setattr(saved, "SAVED_PROOF_BYTES_MAX", size - 1)
    with pytest.raises(IntegrityError, match="larger than any is"):
        verify(io.BytesIO(file.getvalue()))
