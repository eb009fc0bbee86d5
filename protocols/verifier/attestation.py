"""What a peer attests: trust/1 gives attestations, and fraud/1 convicts of them."""

from typing import Final, NamedTuple

from .dag import Cid, as_bytes, as_fields, as_int, as_link, as_list, as_map, decode, encode, sha256
from .head import Kind, peer_id, unseal

ATTESTATION: Final = Kind(b"rhizome-attestation", b"/rhizome/attestation/1")
MAX_ATTESTATION: Final = 512


class Attestation(NamedTuple):
    """A peer's word for what is made of something."""

    peer: str
    given: bytes
    tree: tuple[Cid, int]
    lists: tuple[int, ...]

    def payload(self) -> bytes:
        """What is signed."""
        return encode({"given": self.given, "tree": list(self.tree), "lists": list(self.lists)})


def read_attestation(envelope: bytes) -> Attestation:
    """The attestation that an envelope holds, its signature verified."""
    key, payload = unseal(envelope, ATTESTATION, MAX_ATTESTATION)
    made_of, tree, lists = as_fields(decode(payload), "attestation", ("given", "tree", "lists"))
    root, count = as_list(tree, "tree", 2, 2)
    return Attestation(
        peer_id(key),
        as_bytes(made_of, "given", 32, 32),
        (as_link(root, "root"), as_int(count, "count")),
        tuple(as_int(one, "lists") for one in as_list(lists, "lists", 0, 8)),
    )


def disproven(manifest: bytes, collection: str, index: str) -> tuple[bytes, tuple[Cid, int], tuple[int, ...]]:
    """What an attestation says of a tree that a manifest lists: what it is made of, the tree, and the lists."""
    body = as_map(decode(manifest), "manifest")
    listed = as_map(as_map(body["collections"], "collections")[collection], "collection")
    primary = listed["primary"]
    definition = as_map(as_map(listed["indexes"], "indexes")[index], "index") if index else {}
    said = {name: value for name, value in definition.items() if name not in ("tree", "lists")} or None
    made_of = encode({"rule": body["rule"], "key": listed["key"], "primary": primary, "index": said})
    root, count = as_list(definition["tree"] if index else primary, "tree", 2, 2)
    lists = as_list(definition["lists"], "lists") if index else []
    tree = as_link(root, "root"), as_int(count, "count")
    return sha256(made_of), tree, tuple(as_int(one, "lists") for one in lists)
