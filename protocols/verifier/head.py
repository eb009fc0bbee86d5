"""head/1: peer ids, addresses, and the signed head."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from . import ed25519
from .dag import Cid, Value, as_bool, as_bytes, as_fields, as_int, as_link, as_list, as_map, decode, encode
from .errors import Refused
from .harness import Case, Groups, Vectors, each, expect, none, whole
from .records import read_name

MAX_ENVELOPE: Final = 1_024
DOMAIN: Final = b"rhizome-head"
PAYLOAD_TYPE: Final = b"/rhizome/head/1"
DELEGATION_TYPE: Final = b"/rhizome/delegation/1"
MAX_DELEGATIONS: Final = 6
DAY: Final = 24 * 60 * 60 * 1_000

# --- Varints -----------------------------------------------------------------------------------------------


def uvarint(number: int) -> bytes:
    """A number, 7 bits a byte, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def read_uvarint(data: bytes, at: int, most_bytes: int) -> tuple[int, int]:
    """A number in its shortest form, and where it ends."""
    number = 0
    for position in range(most_bytes):
        if at + position == len(data):
            break
        byte = data[at + position]
        number |= (byte & 127) << 7 * position
        if byte < 128:
            if byte == 0 and position:
                raise Refused("a varint that is not in its shortest form")
            return number, at + position + 1
    raise Refused("a varint that does not end, or is too long")


# --- Publishers and addresses ------------------------------------------------------------------------------

_KEY_PREFIX: Final = bytes.fromhex("08011220")
_PEER_PREFIX: Final = bytes.fromhex("0024") + _KEY_PREFIX
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SCHEME: Final = "rhizome:"


def peer_id(key: bytes) -> str:
    """The peer id of a public key, in base58btc. (Its first byte is zero, for which there is a 1 in front.)"""
    data = _PEER_PREFIX + key
    number = int.from_bytes(data, "big")
    letters = ""
    while number:
        number, rest = divmod(number, 58)
        letters = _BASE58[rest] + letters
    return "1" * (len(data) - len(data.lstrip(b"\x00"))) + letters


def read_peer_id(text: str) -> bytes:
    """The public key that a peer id holds."""
    number = 0
    for letter in text[:64]:
        if letter not in _BASE58:
            raise Refused("not base58btc")
        number = number * 58 + _BASE58.index(letter)
    key = number.to_bytes(64, "big")[-32:]
    if peer_id(key) != text:
        raise Refused("not the peer id of an Ed25519 key")
    return key


class Address(NamedTuple):
    """What a dataset is called: its publisher's public key, and a name."""

    key: bytes
    name: str

    def __str__(self) -> str:
        return f"{_SCHEME}{peer_id(self.key)}/{self.name}"


@cache
def read_address(text: str) -> Address:
    """A dataset's address."""
    peer, slash, name = text.removeprefix(_SCHEME).partition("/")
    if not text.startswith(_SCHEME) or not slash:
        raise Refused("not an address")
    return Address(read_peer_id(peer), read_name(name))


# --- Heads -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delegation:
    """A key's word that another one signs in its place: a dataset, or all that it signs (None)."""

    key: bytes
    dataset: Address | None
    start: int
    to: bytes
    signature: bytes

    def payload(self) -> bytes:
        """What is signed."""
        return encode(
            {"dataset": None if self.dataset is None else str(self.dataset), "from": self.start, "to": self.to}
        )

    def to_value(self) -> Value:
        """The link that says it in a head."""
        return [self.key, self.dataset is None, self.start, self.signature]

    def contradicts(self, other: "Delegation") -> bool:
        """Whether one key says two things."""
        both = None in (self.dataset, other.dataset) or self.dataset == other.dataset
        return self.key == other.key and both and self.payload() != other.payload()


@dataclass(frozen=True)
class Head:
    """What a publisher has signed."""

    address: Address
    manifest: Cid
    sequence: int
    time: int
    expires: int | None = None
    delegations: tuple["Delegation", ...] = ()

    def payload(self) -> bytes:
        """What is signed."""
        fields: dict[str, Value] = {"dataset": self.address.name, "manifest": self.manifest}
        if self.expires is not None:
            fields["expires"] = self.expires
        if self.delegations:
            fields["delegations"] = [one.to_value() for one in self.delegations]
        return encode({**fields, "sequence": self.sequence, "time": self.time})

    def signer(self) -> bytes:
        """The key that has signed it."""
        return self.delegations[-1].to if self.delegations else self.address.key

    def is_disowned_by(self, delegations: Sequence["Delegation"]) -> bool:
        """Whether one of these delegations disowns it."""
        return any(
            (one.dataset in (None, self.address) and one.key == self.signer() and self.sequence >= one.start)
            or any(one.contradicts(own) for own in self.delegations)
            for one in delegations
        )

    def contradicts(self, other: "Head") -> bool:
        """Whether two heads of one dataset contradict each other."""
        if self.sequence == other.sequence and self.manifest != other.manifest:
            return True
        return self.is_disowned_by(other.delegations) or other.is_disowned_by(self.delegations)

    def check_time(self, now: int) -> None:
        """Refuse to accept a head from the future."""
        if self.time > now + DAY:
            raise Refused("a head from the future")


class Kind(NamedTuple):
    """What an envelope is signed for."""

    domain: bytes
    payload_type: bytes

    def signed(self, payload: bytes) -> bytes:
        """What is signed of a payload."""
        return b"".join(uvarint(len(part)) + part for part in (*self, payload))


HEAD: Final = Kind(DOMAIN, PAYLOAD_TYPE)
DELEGATION: Final = Kind(DOMAIN, DELEGATION_TYPE)


def seal(seed: bytes, kind: Kind, payload: bytes) -> bytes:
    """The envelope in which who has this seed says something."""
    key, signature = ed25519.public_key(seed), ed25519.sign(seed, kind.signed(payload))
    fields = {1: _KEY_PREFIX + key, 2: kind.payload_type, 3: payload, 5: signature}
    return b"".join(uvarint(number << 3 | 2) + uvarint(len(content)) + content for number, content in fields.items())


def unseal(envelope: bytes, kind: Kind, most_bytes: int) -> tuple[bytes, bytes]:
    """The public key and the payload of an envelope, its signature verified."""
    if len(envelope) > most_bytes:
        raise Refused("an envelope of too many bytes")
    contents: list[bytes] = []
    at = 0
    for field in (1, 2, 3, 5):
        tag, at = read_uvarint(envelope, at, 2)
        length, at = read_uvarint(envelope, at, 2)
        if tag != field << 3 | 2 or at + length > len(envelope):
            raise Refused("an envelope with another field, or that ends too early")
        contents.append(envelope[at : at + length])
        at += length
    public, payload_type, payload, signature = contents
    if at != len(envelope):
        raise Refused("bytes behind the envelope")
    if len(public) != 36 or not public.startswith(_KEY_PREFIX) or payload_type != kind.payload_type:
        raise Refused("an envelope with another kind of key or of payload")
    ed25519.verify(public[4:], kind.signed(payload), signature)
    return public[4:], payload


@cache
def read_head(envelope: bytes) -> Head:
    """The head that an envelope holds, its signature verified."""
    key, payload = unseal(envelope, HEAD, MAX_ENVELOPE)
    fields = as_map(decode(payload), "head")
    may_say = [name for name in ("expires", "delegations") if name in fields]
    dataset, manifest, sequence, time, *_ = as_fields(
        fields, "head", ("dataset", "manifest", "sequence", "time", *may_say)
    )
    links = as_list(fields["delegations"], "delegations", 1, MAX_DELEGATIONS) if "delegations" in fields else []
    delegations = _read_delegations(links, read_name(dataset), key)
    head = Head(
        Address(delegations[0].key if delegations else key, read_name(dataset)),
        as_link(manifest, "manifest"),
        as_int(sequence, "sequence"),
        as_int(time, "time"),
        as_int(fields["expires"], "expires") if "expires" in fields else None,
        delegations,
    )
    if any(head.sequence < one.start for one in delegations):
        raise Refused("a head signed by a key before its time")
    if head.expires is not None and head.expires <= head.time:
        raise Refused("a head that expires before it was signed")
    return head


def _read_delegations(links: list[Value], name: str, signer: bytes) -> tuple[Delegation, ...]:
    """The delegations that lead from a publisher to the key that has signed its head, each verified."""
    read = [as_list(link, "link", 4, 4) for link in links]
    keys = [*(as_bytes(link[0], "key", 32, 32) for link in read), signer]
    if len(set(keys)) < len(keys):
        raise Refused("a key twice")
    found = []
    for (_, of_all, start, signature), key, to in zip(read, keys[:-1], keys[1:], strict=True):
        dataset = None if as_bool(of_all, "all") else Address(keys[0], name)
        signed = as_bytes(signature, "signature", 64, 64)
        delegation = Delegation(key, dataset, as_int(start, "from"), to, signed)
        ed25519.verify(key, DELEGATION.signed(delegation.payload()), signed)
        found.append(delegation)
    return tuple(found)


# --- Vectors -----------------------------------------------------------------------------------------------


def _check_identity(_: Vectors, case: Case) -> None:
    key = ed25519.public_key(case.hex("seed"))
    expect("public key", key, case.hex("public_key"))
    expect("peer id", peer_id(key), case.text("peer_id"))
    expect("key in the peer id", read_peer_id(peer_id(key)), key)


def _check_head(vectors: Vectors, case: Case) -> None:
    envelope = case.hex("envelope")
    head = read_head(envelope)
    address = case.text("address")
    expect("address", head.address, read_address(address))
    expect("address as text", str(head.address), address)
    expect("sequence", head.sequence, case.integer("sequence"))
    expect("time", head.time, case.integer("time"))
    expect("expires", head.expires, case.integer("expires") if case.has("expires") else None)
    expect("manifest", head.manifest, case.cid("manifest"))
    shown = [(peer_id(one.key), one.dataset is None, one.start, peer_id(one.to)) for one in head.delegations]
    given_ = list(case.items("delegations")) if case.has("delegations") else []
    expect("delegations", shown, [(o.text("key"), o.flag("all"), o.integer("from"), o.text("to")) for o in given_])
    seed = case.hex("seed") if case.has("seed") else vectors.group("head", "identity").hex("seed")
    expect("envelope signed again", seal(seed, HEAD, head.payload()), envelope)


def _check_contradiction(_: Vectors, case: Case) -> None:
    one, other = map(read_head, case.hexes("heads"))
    expect("one dataset", one.address, other.address)
    for found in (one.contradicts(other), other.contradicts(one)):
        expect("contradict", found, case.flag("contradict"))


def _check_not_head(_: Vectors, case: Case) -> None:
    read_head(case.hex("envelope"))


def _check_not_address(_: Vectors, case: Case) -> None:
    read_address(case.as_text())


GROUPS: Final[Groups] = {
    "identity": whole(_check_identity),
    "heads": each(_check_head),
    "contradictions": each(_check_contradiction),
    "not_heads": none(_check_not_head),
    "not_addresses": none(_check_not_address),
}
