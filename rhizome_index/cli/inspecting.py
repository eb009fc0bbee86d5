"""`inspect`: view source. A dataset, a tree or any block, as what it is."""

from __future__ import annotations

from typing import Any

import click

from rhizome_index.blocks import cbor
from rhizome_index.blocks.cid import Cid, format_cid, parse_cid
from rhizome_index.cli.main import Settings, common
from rhizome_index.cli.show import printable, to_json
from rhizome_index.errors import IntegrityError, UnavailableError
from rhizome_index.index.address import Address, peer_id_of
from rhizome_index.index.keys import decode_key
from rhizome_index.index.manifest import decode_manifest
from rhizome_index.node.disk import DiskStore, describe_missing
from rhizome_index.query.wording import describe_index
from rhizome_index.tree.node import decode_node


@click.command(
    "inspect", epilog="\b\nExamples:\n  rhizome inspect rhizome:12D3KooW.../main\n  rhizome inspect bafyrei..."
)
@click.argument("what", metavar="ADDRESS|CID")
@common
def inspect_command(settings: Settings, what: str) -> None:
    """Show a dataset, a tree's node or a record, readably."""
    with settings.home.open_store() as store:
        is_address = what.startswith("rhizome:")
        found = _dataset(store, Address.parse(what)) if is_address else _block(store, parse_cid(what))
    print(to_json(found) if settings.as_json else "\n".join(_lines(found, "")))


def _dataset(store: DiskStore, address: Address) -> dict[str, Any]:
    head = store.current_head(address)
    if head is None:
        raise UnavailableError(f"no head of {address} here", hint="rhizome status lists what is")
    return {
        "kind": "dataset",
        "address": str(address),
        "sequence": head.sequence,
        "time_ms": head.time_ms,
        "expires_ms": head.expires_ms,
        "signed_by": peer_id_of(head.signer),
        "delegations": [
            {
                "key": peer_id_of(word.key),
                "all": word.dataset is None,
                "from": word.start,
                "to": peer_id_of(word.successor),
            }
            for word in head.delegations
        ],
        "manifest": format_cid(head.manifest),
        **_block(store, head.manifest),
    }


def _block(store: DiskStore, cid: Cid) -> dict[str, Any]:
    data = store.get(cid)
    if data is None:
        raise UnavailableError(describe_missing(cid))
    for kind, read in (("manifest", _manifest), ("node", _node)):
        try:
            return {"kind": kind, "cid": format_cid(cid), "bytes": len(data), **read(data)}
        except IntegrityError:
            continue
    return {"kind": "record", "cid": format_cid(cid), "bytes": len(data), "content": cbor.decode(data)}


def _manifest(data: bytes) -> dict[str, Any]:
    manifest = decode_manifest(data)
    collections: dict[str, Any] = {}
    for name, collection in sorted(manifest.collections.items()):
        collections[name] = {
            "key": collection.key,
            "time": collection.time,
            "order": list(map(str, collection.order)),
            "records": collection.primary.count,
            "primary": format_cid(collection.primary.root),
            "indexes": {
                label: {
                    "definition": describe_index(index.definition),
                    "entries": index.tree.count,
                    "root": format_cid(index.tree.root),
                }
                for label, index in sorted(collection.indexes.items())
            },
        }
    rule = {"salt": manifest.rule.salt.hex(), "max_weight": manifest.rule.max_weight}
    return {"rule": rule, "collections": collections}


def _node(data: bytes) -> dict[str, Any]:
    node = decode_node(data)
    items: list[dict[str, Any]] = []
    for place, key in enumerate(node.keys):
        item: dict[str, Any] = {"key": _key(key)}
        if node.level:
            item |= {"link": format_cid(node.values[place]), "entries": node.counts[place]}
        else:
            item["value"] = _value(node.values[place])
        items.append(item)
    return {"level": node.level, "entries": node.count, "items": items}


def _key(key: bytes) -> Any:
    try:
        return decode_key(key)
    except IntegrityError:
        return key.hex()


def _value(value: bytes) -> Any:
    if isinstance(value, cbor.Link):
        return {"link": format_cid(bytes(value))}
    try:
        content = cbor.decode(value)
        return content if isinstance(content, dict) else value.hex()
    except IntegrityError:
        return value.hex()


def _lines(value: Any, indent: str) -> list[str]:
    """A value as indented lines."""
    lines = []
    for name, content in value.items():
        label = f"{indent}{printable(str(name))}:"
        if isinstance(content, dict) and content:
            lines += [label, *_lines(content, indent + "  ")]
        elif isinstance(content, list) and content and isinstance(content[0], dict):
            lines.append(label)
            for item in content:
                lines.append(f"{indent}  " + printable("  ".join(to_json(part) for part in item.values())))
        else:
            lines.append(f"{label} {printable(content if isinstance(content, str) else to_json(content))}")
    return lines
