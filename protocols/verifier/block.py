"""block/1: the checks of its vectors. (What it specifies is in `dag`: the harness needs it too.)"""

from typing import Final

from .dag import cid_of, decode, encode, read_cid, read_cid_text
from .harness import Case, Groups, Vectors, each, expect, expect_values, none


def _check_name(_: Vectors, case: Case) -> None:
    cid = cid_of(case.hex("data"))
    shown, text = case.hex("cid"), case.text("text")
    expect("cid", bytes(cid), shown)
    expect("cid as text", str(cid), text)
    expect("cid that was read", read_cid(shown), cid)
    expect("cid whose text was read", read_cid_text(text), cid)


def _check_not_name(_: Vectors, case: Case) -> None:
    read_cid_text(case.as_text())


def _check_value(_: Vectors, case: Case) -> None:
    value, data = case.value("value"), case.hex("data")
    expect("bytes", encode(value), data)
    expect_values("value", decode(data), value)


def _check_not_canonical(_: Vectors, case: Case) -> None:
    decode(case.hex("data"))


GROUPS: Final[Groups] = {
    "names": each(_check_name),
    "not_names": none(_check_not_name),
    "values": each(_check_value),
    "not_canonical": none(_check_not_canonical),
}
