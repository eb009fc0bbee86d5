"""The shape of the package, kept by a test: imports point downwards, and below the rim nothing touches the world."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rhizome_index"
LAYERS = ["errors", "limits", "blocks", "tree", "index", "query", "trust", "wire", "node", "api", "simulation", "cli"]
RIM = ("node", "api", "simulation", "cli")
ANYWHERE = {"rhizome_index.cli.samples"}  # made-up records, which know nothing of the command line
WORLD = {"trio", "libp2p", "apsw", "socket", "time", "random", "secrets", "os", "pathlib", "tempfile", "threading"}
BANNED = {"utils", "common", "helper", "helpers", "manager", "data", "info", "misc"}
LINES_MAX = 70


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__")


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_keeps_to_its_layer(path: Path) -> None:
    own = LAYERS.index(layer_of(path))
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "rhizome_index" and len(parts) > 1 and name not in ANYWHERE:
            assert LAYERS.index(parts[1]) <= own, f"{path.name} imports {name} from above"
        if layer_of(path) not in RIM:
            assert parts[0] not in WORLD, f"{path.name} imports {name}, which is the world's"
        if parts[0] == "libp2p":
            assert path.stem.startswith("libp2p_"), "importing libp2p takes half a second"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_sum_is_taken_up_before_waiting(path: Path) -> None:
    """`count += await …` reads the count before it waits, and so loses what is added to it meanwhile."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            waits = [one for one in ast.walk(node.value) if isinstance(one, ast.Await)]
            assert not waits, f"line {node.lineno} adds to what others may add to"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_can_be_read(path: Path) -> None:
    assert path.stem not in BANNED
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a module says what it promises"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < LINES_MAX, f"{node.name} does not fit a screen"
