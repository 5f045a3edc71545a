"""Deriving columns beside those that are read and validated, and the rows that the derived ones' rules drop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.array_types import Mask
from dpbeam.errors import DataError
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Computed, Derived, Lookup, Placed, Rule, uses
from dpbeam.reading.casting import ARROW_TYPES, literal
from dpbeam.reading.derive import derive
from dpbeam.reading.expressions.evaluate import evaluate

_MEANS = {
    "on_invalid": "Something in its expression can't be computed or read",
    "on_null": "It is missing",
}
Watch = Callable[[str, str, pa.Array], None]
"""Is called with a column, a rule and the mask of the rows that break it: for `dpbeam check`, inside the trust zone."""

_FILLERS: Mapping[ColumnType, object] = {
    "string": "",
    "int64": 0,
    "float64": 0.0,
    "bool": False,
    "date": date(1970, 1, 1),
    "timestamp": datetime(1970, 1, 1),
}
"""What stands in rows that are dropped, until they are."""


def add_derived(
    columns: Mapping[str, pa.Array], derived: Sequence[Derived], rows: int, watch: Watch | None = None
) -> tuple[dict[str, pa.Array], Mask | None]:
    """`columns` and the derived ones, each `rows` long and without nulls; and which rows their rules drop (None: none).

    A rule is applied to the rows that have all that the column is made from: a row that one derived column drops breaks
    no rule of those that use it. So the outcome doesn't depend on the order of the columns.

    Guarantee: row-local. What a row gets, and whether it is dropped, depends on that row and `derived` alone.

    Raises:
        DataError: a row breaks a rule declared `fail`. The message says column and rule, never a value or a count.
    """
    found = dict(columns)
    gone: dict[str, Mask] = {}
    for item in derived:
        before = [gone[name] for name in uses(item) if name in gone]
        lacking = np.logical_or.reduce(before) if before else np.zeros(rows, dtype=np.bool_)
        match item:
            case Computed():
                result = evaluate(item.expression, found, rows)
                values, invalid = result.values, result.invalid
            case Lookup():
                values = item.values.take(pc.index_in(found[item.column], value_set=item.keys))
                invalid = np.zeros(rows, dtype=np.bool_)
            case Placed():
                inside = pc.is_in(found[item.column], value_set=item.listed)
                values = pc.if_else(inside, found[item.column], item.label)
                invalid = np.zeros(rows, dtype=np.bool_)
            case _:
                values, invalid = derive(found, item), np.zeros(rows, dtype=np.bool_)
        found[item.name], dropped = _settled(item, values, invalid, lacking, watch)
        if dropped.any():
            gone[item.name] = dropped
    return found, np.logical_or.reduce(list(gone.values())) if gone else None


def _settled(
    item: Derived, values: pa.Array, invalid: Mask, lacking: Mask, watch: Watch | None
) -> tuple[pa.Array, Mask]:
    """The column with its replacements, and the rows without a value: a rule drops them, or what it is made of."""
    dropped = lacking
    missing = values.is_null().to_numpy(zero_copy_only=False)
    for name, mask in (("on_invalid", invalid & ~lacking), ("on_null", missing & ~invalid & ~lacking)):
        if not mask.any():
            continue
        if watch is not None:
            watch(item.name, name, pa.array(mask))
        rule: Rule = getattr(item, name)
        match rule.action:
            case "drop":
                dropped = dropped | mask
            case "replace":
                if rule.value is None:
                    raise ValueError(f"derive.{item.name}.{name}: replace needs a value")
                values = pc.if_else(pa.array(mask), literal(rule.value, item.type), values)
            case "fail":
                raise DataError(
                    f"derived column {item.name} breaks {name}: fail. {_MEANS[name]}. "
                    f"Correct the source, or declare another rule for the column, such as {name}: drop."
                )
            case _:
                raise ValueError(f"unknown action {rule.action!r}")
    return values.fill_null(pa.scalar(_FILLERS[item.type], ARROW_TYPES[item.type])), dropped
