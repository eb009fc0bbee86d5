"""`/rhizome/want/1`: blocks by name, or records by primary key, for whoever walks by himself.

An answer has one item for each thing wanted, in the order of the request: the
bytes, or null for what the peer does not have. It may stop early at the asker's
budget; the rest is asked for again, here or elsewhere. Blocks come packed, if the
asker takes them so and that is shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, check_block
from rhizome_index.errors import IntegrityError
from rhizome_index.limits import KEY_BYTES_MAX, PROOF_BYTES_MAX, WANTS_MAX
from rhizome_index.wire import message as m

PROTOCOL = "/rhizome/want/1"

OnBlocks = Callable[[Sequence[tuple[Cid, bytes]]], None]

_PAUSE_NAMES = 16  # looked up in a few milliseconds, wherever they are


@dataclass(frozen=True, slots=True)
class Want:
    """A request: blocks by CID, or (with a primary's root) records by primary key.

    packed  blocks may come deflated
    """

    root: Cid | None
    names: tuple[bytes, ...]
    budget: int = PROOF_BYTES_MAX
    packed: bool = False

    def fields(self) -> dict[str, Any]:
        more = {"budget": self.budget, "packed": self.packed}
        if self.root is None:
            return {"cids": m.links(self.names), **more}
        return {"root": cbor.Link(self.root), "keys": list(self.names), **more}

    @classmethod
    def read(cls, fields: Any) -> Want:
        """Raises IntegrityError for a request that is none."""
        more = {"budget": m.is_natural, "packed": m.is_flag}
        if "cids" in fields:
            cids, budget, packed = m.read_fields(fields, cids=m.list_of(m.is_link, WANTS_MAX, 1), **more)
            return cls(None, tuple(bytes(cid) for cid in cids), min(budget, PROOF_BYTES_MAX), packed)
        root, keys, budget, packed = m.read_fields(
            fields, root=m.is_link, keys=m.list_of(_is_key, WANTS_MAX, 1), **more
        )
        return cls(bytes(root), tuple(keys), min(budget, PROOF_BYTES_MAX), packed)


def _is_key(value: Any) -> bool:
    return type(value) is bytes and len(value) <= KEY_BYTES_MAX


def answer(number: int, want: Want, get: Callable[[Want, bytes], bytes | None]) -> Iterator[bytes]:
    """The frames that answer a request, reading each block as its turn comes; see `ask.answer` for empty ones."""
    packer = m.BlockPacker(number, deflates=want.packed)
    size = sent = 0
    for name in want.names:
        block = get(want, name)
        size += len(block or b"")
        if size > want.budget and sent:
            break
        yield from packer.add(block)
        sent += 1
        if sent % _PAUSE_NAMES == 0:
            yield b""
    yield from packer.flush()
    yield m.encode_end(number, {"sent": sent})


class Wanting:
    """One request from the asker's side.

    cids       name what must come back, in the order of the request
    on_blocks  told of blocks as they come, each checked
    """

    def __init__(self, want: Want, cids: Sequence[Cid], on_blocks: OnBlocks = lambda blocks: None) -> None:
        self.want = want
        self.blocks: list[bytes | None] = []
        self.failure: m.Failure | None = None
        self.is_over = False
        self._cids = cids
        self._on_blocks = on_blocks
        self._size = 0

    def take(self, reply: m.Reply) -> None:
        """Take one reply. Raises IntegrityError for anything that an honest peer does not send."""
        if self.is_over:
            raise IntegrityError("an answer that goes on behind its end")
        if isinstance(reply, m.Failure):
            self.failure, self.is_over = reply, True
        elif isinstance(reply, m.Blocks):
            start = len(self.blocks)
            for block in reply.blocks if self.want.packed else reply.plain():
                self._take_block(block)
            named = zip(self._cids[start:], self.blocks[start:], strict=False)
            self._on_blocks([(cid, block) for cid, block in named if block is not None])
        elif isinstance(reply, m.End):
            (sent,) = m.read_fields(reply.fields, sent=m.is_natural)
            if sent != len(self.blocks) or not sent:
                raise IntegrityError("an answer with another number of blocks than it says")
            self.is_over = True
        else:
            raise IntegrityError("an answer that opens where none does")

    def _take_block(self, block: bytes | None) -> None:
        if len(self.blocks) == len(self._cids):
            raise IntegrityError("more blocks than were wanted")
        if block is not None:
            self._size += len(block)
            if self._size > self.want.budget and self.blocks:
                raise IntegrityError("more bytes than were asked for")
            check_block(self._cids[len(self.blocks)], block)
        self.blocks.append(block)
