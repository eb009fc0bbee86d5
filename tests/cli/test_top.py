"""What `top` draws of a node."""

from io import StringIO

import pytest
from rich.console import Console

from rhizome_index.cli.watching import picture
from rhizome_index.node.status import NodeStatus, RoomStatus

PEER = "12D3KooWQsT4L6GbUuP6AG7T6yNGzT7tuP8GMcQN99rAyUGnW4xj"
ROOM = RoomStatus(
    own_bytes=10**9,
    followed_bytes=10**9,
    pinned_bytes=10**9,
    cached_bytes=10**9,
    file_bytes=10**10,
    others_bytes=9 * 10**9,
    quota_bytes=10**10,
    collected_seconds=None,
    freed_bytes=0,
    is_collecting=True,
    is_waiting=True,
)


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_node_alone_is_drawn_without_empty_tables_and_what_goes_on_is_set_in(width: int) -> None:
    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}"
    now = NodeStatus(PEER, 1, "0", [address], 1.0, "", ROOM, 0, 0, {}, 0, [], 0, [])
    output = StringIO()
    Console(file=output, width=width).print(picture(now, None, 1.0))
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert lines[-1] == "0 peers"
    assert all(len(line) <= width for line in lines)
    room = [line for line in lines if line.startswith(("room ", "gc ", " " * 9))]
    assert lines[-2 - len(room) : -2] == room
    if width >= 80:
        assert "  /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW…W4xj" in lines
