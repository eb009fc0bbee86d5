"""An index that would answer a query that has none, as a command to paste.

Indexes are proposed from the query's conditions, order and groups, the most useful first. Of each it
is looked whether it would do, by the same rules by which candidates are found.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rhizome_index.errors import UsageError
from rhizome_index.index.condition import Compare, Expr, Or, conjuncts_of
from rhizome_index.index.schema import Collection, Definition, Index
from rhizome_index.limits import INDEXES_MAX, NAME_BYTES_MAX
from rhizome_index.query.combine import Choice, all_candidates
from rhizome_index.query.expr import ROWS, Query
from rhizome_index.query.plan import PRIMARY, is_equality, is_range, order_of, settled
from rhizome_index.query.wording import describe_index
from rhizome_index.tree.node import EMPTY_TREE


def advice(query: Query, collection: Collection) -> str:
    """What to do about a query that no index answers."""
    query = settled(query, collection)
    for definitions in _proposals(query, collection):
        try:
            named = _named(collection, definitions)
            after = replace(collection, indexes=collection.indexes.update(named))
            helps = any(_helps(query, item) for item in all_candidates(query, after))
        except UsageError:
            continue  # too many paths, or no name is left
        if not helps or len(after.indexes) > INDEXES_MAX:
            continue
        commands = [
            f"rhizome index add {collection.name} {shlex.quote(f'{name}={describe_index(index.definition)}')}"
            for name, index in named.items()
        ]
        return f"allow the scan with --scan; or, if it is yours, add an index: {' && '.join(commands)}"
    return "narrow the query, or allow the scan with --scan"


def _helps(query: Query, candidate: Choice) -> bool:
    """Whether a candidate reads less than everything, or everything as it is wanted."""
    if candidate.parts[0].access.index == PRIMARY or candidate.repeats:
        return False
    if query.is_grouped:
        return not candidate.is_full or candidate.grouped
    return not candidate.is_full or (candidate.ordered and query.limit is not None)


def _proposals(query: Query, collection: Collection) -> Iterator[list[Definition]]:
    terms = [term for term in query.conjuncts() if isinstance(term, Compare)]
    order = [str(path) for path in order_of(query, collection)] if query.kind == ROWS else list(query.paths)
    equal = list(dict.fromkeys(term.path for term in terms if is_equality(term)))
    for path in equal:
        yield _over([[path, *order]])
    for path in equal:
        yield _over([[path]])
    for branches in _branches(query):
        yield _over([[path, *order] for path in branches])
        yield _over([[path] for path in branches])
    for term in terms:
        if is_range(term) and term.path not in equal:
            yield _over([[term.path]])
    if order:
        yield _over([order])


def _over(indexes: Sequence[Sequence[str]]) -> list[Definition]:
    """Definitions over paths, of which each counts where it stands first."""
    found = []
    for paths in indexes:
        first = {path.lstrip("-"): path for path in reversed(paths)}
        found.append(Definition.over(*(path for path in dict.fromkeys(paths) if first[path.lstrip("-")] == path)))
    return found


def _branches(query: Query) -> Iterator[list[str]]:
    """For each condition that leaves a choice, the paths that its branches fix."""
    for term in query.conjuncts():
        if isinstance(term, Compare) and term.operator == "in":
            yield [term.path]
        elif isinstance(term, Or):
            paths = [_fixed(branch) for branch in term.terms]
            if all(paths):
                yield list(dict.fromkeys(filter(None, paths)))


def _fixed(branch: Expr) -> str | None:
    fixed = (term.path for term in conjuncts_of(branch) if isinstance(term, Compare) and is_equality(term))
    return next(fixed, None)


def _named(collection: Collection, definitions: Sequence[Definition]) -> dict[str, Index]:
    """Indexes with nothing in them, under names that are free. What holds lists elsewhere does so here."""
    listed = {
        path.path
        for index in collection.indexes.values()
        for path, count in zip(index.paths, index.lists, strict=True)
        if count
    }
    found: dict[str, Index] = {}
    for definition in definitions:
        words = re.sub(r"[^a-z0-9]+", "_", "_".join(path.path for path in definition.paths).lower()).strip("_")
        name = "by_" + (words or "path")[: NAME_BYTES_MAX - len("by_")].rstrip("_")
        while name in collection.indexes or name in found:
            name = name[: NAME_BYTES_MAX - len("_")] + "_"
            if len(name) == NAME_BYTES_MAX:
                raise UsageError(f"no name is left for an index over {words}")
        lists = tuple(int(path.path in listed) for path in definition.paths)
        found[name] = Index(name, definition, EMPTY_TREE, lists)
    return found
