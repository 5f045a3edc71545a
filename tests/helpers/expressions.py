"""Evaluates an expression as a policy has it, over columns that a test states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from dpbeam.policy.expressions.syntax import parse
from dpbeam.policy.expressions.typed import typed
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.expressions import Expression
from dpbeam.reading.casting import ARROW_TYPES
from dpbeam.reading.expressions.evaluate import Evaluated, evaluate

INVALID = "invalid"
"""Stands for a row in which something can't be computed or read; None for one in which a value is missing."""

TYPES: Mapping[str, ColumnType] = {
    "n": "int64", "m": "int64", "x": "float64", "y": "float64", "s": "string", "r": "string",
    "b": "bool", "c": "bool", "d": "date", "e": "date", "t": "timestamp", "u": "timestamp",
}  # fmt: skip
"""The columns that expressions of tests may use."""


def read(text: str) -> Expression:
    """The typed expression, over the columns of `TYPES`."""
    return typed(parse(text), TYPES)


def columns(given: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
    """Arrow columns of `TYPES`."""
    return {name: pa.array(values, ARROW_TYPES[TYPES[name]]) for name, values in given.items()}


def shown(found: Evaluated) -> list[Any]:
    """A value, None or `INVALID` for each row."""
    values = found.values.to_pylist()
    assert not [
        value for value, wrong in zip(values, found.invalid.tolist(), strict=True) if wrong and value is not None
    ]
    return [INVALID if wrong else value for value, wrong in zip(values, found.invalid.tolist(), strict=True)]


def value(text: str, **row: Any) -> Any:
    """What the expression gives for one row."""
    (found,) = shown(evaluate(read(text), columns({name: [each] for name, each in row.items()}), 1))
    return found
