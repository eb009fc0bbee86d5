"""Values as DAG-JSON, the notation of the vectors: https://ipld.io/specs/codecs/dag-json/spec/"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from rhizome_index.blocks.cbor import Link
from rhizome_index.blocks.cid import format_cid


def to_dag_json(value: Any) -> Any:
    """What `json.dump` writes for a value of the data model."""
    if type(value) is Link:
        return {"/": format_cid(bytes(value))}
    if type(value) is bytes:
        return {"/": {"bytes": b64encode(value).rstrip(b"=").decode()}}
    if isinstance(value, list | tuple):
        return [to_dag_json(item) for item in value]
    if isinstance(value, dict):
        return {name: to_dag_json(item) for name, item in value.items()}
    return value


def from_dag_json(value: Any) -> Any:
    """The value that `to_dag_json` has written, as far as it holds no links."""
    if isinstance(value, list):
        return [from_dag_json(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"/"}:
            text = value["/"]["bytes"]
            return b64decode(text + "=" * (-len(text) % 4))
        return {name: from_dag_json(item) for name, item in value.items()}
    return value
