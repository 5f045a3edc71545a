"""What follows from all derived columns of a policy: types, the order in which they can be computed, what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dpbeam.policy.expressions.syntax import ExpressionError, Node, names_in, parse
from dpbeam.policy.expressions.typed import Unsettled, typed
from dpbeam.policy.schema import derive as schema
from dpbeam.queries.column_types import ColumnType, DeclaredType
from dpbeam.queries.expressions import Expression


@dataclass(frozen=True, kw_only=True)
class Derivations:
    """What follows from a policy's derived columns, by name.

    `order` has each behind those that it uses, and else in the order of the policy. `types` is None for those that are
    wrong, or use one that is. `circles` are those that use themselves, with the names on the way.
    """

    order: tuple[str, ...] = ()
    types: Mapping[str, ColumnType | None] = field(default_factory=dict)
    expressions: Mapping[str, Expression] = field(default_factory=dict)
    errors: Mapping[str, ExpressionError] = field(default_factory=dict)
    circles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def derivations(
    columns: Mapping[str, DeclaredType | None], derive: Mapping[str, schema.DeriveEntry | None]
) -> Derivations:
    """The types of `columns` and the derived columns by name; None stands for an entry that is wrong by itself."""
    nodes: dict[str, Node] = {}
    errors: dict[str, ExpressionError] = {}
    for name, entry in derive.items():
        if isinstance(entry, schema.DeriveExpression):
            try:
                nodes[name] = parse(entry.expression)
            except ExpressionError as error:
                errors[name] = error
    wanted = {
        name: {other for other in _names(entry, nodes.get(name)) if other in derive} for name, entry in derive.items()
    }
    order = _order(wanted)
    types: dict[str, ColumnType | None] = {}
    expressions: dict[str, Expression] = {}
    for name in order:
        match derive[name]:
            case schema.DeriveBin() | schema.DeriveTruncate() | schema.DeriveLower():
                types[name] = "string"
            case schema.DeriveLookup(type=kind):
                types[name] = kind
            case schema.DeriveExpression() if name in nodes:
                try:
                    expressions[name] = typed(nodes[name], {**columns, **dict.fromkeys(derive), **types})
                    types[name] = expressions[name].type
                except ExpressionError as error:
                    errors[name] = error
                except Unsettled:
                    pass
    return Derivations(
        order=order,
        types={name: types.get(name) for name in derive},
        expressions=expressions,
        errors=errors,
        circles={name: way for name in derive if name not in order and (way := _circle(name, wanted))},
    )


def _names(entry: schema.DeriveEntry | None, node: Node | None) -> Iterator[str]:
    """The names of the columns that an entry uses."""
    match entry:
        case schema.DeriveBin():
            yield entry.bin
        case schema.DeriveTruncate():
            yield entry.truncate
        case schema.DeriveLower():
            yield entry.lower
        case schema.DeriveLookup():
            yield entry.lookup
        case schema.DeriveExpression() if node is not None:
            yield from names_in(node)


def _order(wanted: Mapping[str, set[str]]) -> tuple[str, ...]:
    """The names, each behind those that it wants; without those that want themselves, and those that want these."""
    order: dict[str, None] = {}
    before = -1
    while len(order) > before:
        before = len(order)
        for name, others in wanted.items():
            if name not in order and others <= order.keys():
                order[name] = None
    return tuple(order)


def _circle(name: str, wanted: Mapping[str, set[str]]) -> tuple[str, ...]:
    """The names on the shortest way from one back to itself; none where it only uses such."""
    ways: list[tuple[str, ...]] = [(other,) for other in sorted(wanted[name])]
    seen: set[str] = set()
    for way in ways:
        if way[-1] == name:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [(*way, other) for other in sorted(wanted[way[-1]])]
    return ()
