"""Which keys sign in place of which, as far as a store has been told. The first word counts.

A key delegates each dataset once. So whatever else it, or somebody who has stolen it,
says later is against what is known here: heads signed with a key that was replaced,
and heads on behalf of another successor, are disowned. They are kept as evidence, one
for each dataset, and never answered from.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

from rhizome_index.blocks import cbor
from rhizome_index.errors import IntegrityError, UsageError
from rhizome_index.index.address import Address
from rhizome_index.index.head import Delegation, Head, open_head, verify_delegation
from rhizome_index.limits import DELEGATIONS_MAX


class Tables(Protocol):
    """Where statements are executed: a store."""

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]: ...


class Successions:
    """The delegations known to a store."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def chain(self, key: bytes, dataset: Address | None) -> tuple[Delegation, ...]:
        """From a key on, who signs a dataset in whose place; None: any dataset of which nothing else is said."""
        found: list[Delegation] = []
        while len(found) <= DELEGATIONS_MAX:
            words = [word for word in self.said_by([key]) if word.dataset in (None, dataset)]
            if not words:
                return tuple(found)
            found.append(words[0])
            key = words[0].successor
        raise UsageError(f"the keys of {dataset or 'all datasets'} replace each other without an end")

    def said_by(self, keys: Iterable[bytes]) -> list[Delegation]:
        """What keys have said, of whatever datasets; without what is damaged."""
        found = []
        for key in dict.fromkeys(keys):
            for (data,) in self._tables.execute(
                "select cast(delegation as blob) from delegations where key = ? order by dataset", (key,)
            ):
                with suppress(IntegrityError, UsageError):
                    found.append(_decode(data or b""))
        return found

    def disowns(self, head: Head) -> bool:
        """Whether a head goes against what is known here."""
        return head.is_disowned_by(self.said_by([*(one.key for one in head.delegations), head.signer]))

    def learn(self, delegation: Delegation) -> None:
        """Note what a key has said, in the transaction under way, and disown what that is against."""
        if delegation in self.said_by([delegation.key]):
            return
        self._tables.execute(  # in the place of one that is damaged, if there is such
            "insert or replace into delegations values (?, ?, ?)",
            (delegation.key, str(delegation.dataset or ""), _encode(delegation)),
        )
        rows = self._tables.execute(
            "select dataset, sequence, cast(envelope as blob) from heads "
            "where not disowned and sequence >= ? and instr(envelope, ?) > 0",
            (delegation.start, delegation.key),
        )
        for dataset, sequence, envelope in rows:
            with suppress(IntegrityError):  # what is damaged is no head anyway
                if open_head(envelope).is_disowned_by([delegation]):
                    values = (dataset, sequence, envelope)
                    self._tables.execute(
                        "update heads set disowned = 1 where dataset = ? and sequence = ? and envelope = ?", values
                    )
                    self._tables.execute("delete from held where dataset = ? and envelope = ?", values[::2])


def _encode(delegation: Delegation) -> bytes:
    dataset = None if delegation.dataset is None else str(delegation.dataset)
    return cbor.encode([delegation.key, dataset, delegation.start, delegation.successor, delegation.signature])


def _decode(data: bytes) -> Delegation:
    fields = cbor.decode(data)
    if type(fields) is not list or len(fields) != 5 or not _are_fields(*fields):
        raise IntegrityError("a delegation that is none")
    key, dataset, start, successor, signature = fields
    found = Delegation(key, None if dataset is None else Address.parse(dataset), start, successor, signature)
    verify_delegation(found, signature)
    return found


def _are_fields(key: Any, dataset: Any, start: Any, successor: Any, signature: Any) -> bool:
    are_bytes = all(type(part) is bytes for part in (key, successor, signature))
    return are_bytes and type(dataset) in (str, type(None)) and type(start) is int and 0 <= start < 2**53
