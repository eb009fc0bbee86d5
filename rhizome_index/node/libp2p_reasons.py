"""Why a connection failed, for people: py-libp2p's errors say it somewhere inside of others."""

from __future__ import annotations

_HUNG_UP = "it hangs up: it takes no more connections, or is no libp2p peer with Noise and Yamux"


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in a few words, from an error with others inside."""
    texts: list[str] = []
    waiting: list[BaseException | None] = [error]
    while waiting and len(texts) < 100:
        item = waiting.pop()
        if item is not None:
            texts.append(f"{type(item).__name__} {item}")
            waiting += [item.__cause__, item.__context__]
            if isinstance(item, BaseExceptionGroup):
                waiting += item.exceptions
    whole = " ".join(texts).lower()
    for sign, words in (
        ("refused", "connection refused"),
        ("mismatch", "another peer answers there"),
        ("resolve", "no such host"),
        ("unreachable", "network unreachable"),
        ("no route", "no route to it"),
        ("timed out", "timed out"),
        ("limit reached", "too many connections are open here"),
        ("received 0 bytes", _HUNG_UP),
        ("reset by peer", _HUNG_UP),
        ("closed by peer", _HUNG_UP),
        ("upgrade", "what answers there is no libp2p peer with Noise and Yamux"),
        ("handshake", "what answers there is no libp2p peer with Noise and Yamux"),
        ("noise", "what answers there is no libp2p peer with Noise and Yamux"),
        ("invalidtag", "what answers there is no libp2p peer with Noise and Yamux"),
    ):
        if sign in whole:
            return words
    return "not reachable"
