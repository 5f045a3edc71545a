"""Evaluating a typed expression on a batch: a value for each row, or that it is missing or invalid there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.array_types import Mask
from dpbeam.queries.expressions import Call, Case, ColumnValue, Constant, Expression
from dpbeam.reading.casting import ARROW_TYPES
from dpbeam.reading.expressions import choices, conversions, numbers, parsing, texts, times

Kernel = Callable[..., pa.Array]

KERNELS: Mapping[str, Kernel] = {
    **choices.KERNELS,
    **numbers.KERNELS,
    **texts.KERNELS,
    **times.KERNELS,
    **conversions.KERNELS,
}
"""What strict functions compute, by name: arrays in, one of the same length out. It is null where there is no value;
rows in which an argument is null don't count."""
FORMATTED: Mapping[str, Kernel] = {**texts.FORMATTED, **parsing.FORMATTED}
"""The same, where all arguments but the first are constants, and are handed over as such."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A value a row: `values` is null where there is none, and `invalid` says where that is so since something can't be
    computed or read, rather than missing."""

    values: pa.Array
    invalid: Mask


def evaluate(expression: Expression, columns: Mapping[str, pa.Array], rows: int) -> Evaluated:
    """The expression's value in each of `rows` rows. `columns` are of the types that the expression says, each of
    `rows` values; nulls in them are missing values.

    An operator or function is invalid where an argument is, and else missing where one is missing. But for `and`,
    `or`, `coalesce` and `case`, which look no further once their value is settled, and for `try`.

    Guarantee: row-local. Row i of the result depends on row i of `columns` and on `expression` alone: not on other
    rows, on how many there are, nor on how Arrow lays them out. Numbers come of whole-number arithmetic, of IEEE 754
    additions, subtractions, multiplications, divisions and roundings, each rounded by itself, and of the parser that
    reads columns; none comes of a mathematics library, of a locale or of a time zone. So each row has the same bits
    wherever, and in whichever batch, it is computed.

    Raises:
        KeyError: a column or function that isn't there.
    """
    match expression:
        case ColumnValue():
            return _whole(columns[expression.name])
        case Constant():
            return _whole(pa.repeat(pa.scalar(expression.value, ARROW_TYPES[expression.type]), rows))
        case Case():
            return _case(expression, columns, rows)
        case Call():
            given = [evaluate(each, columns, rows) for each in expression.arguments]
            match expression.function:
                case "and":
                    return _settled_by(False, given)
                case "or":
                    return _settled_by(True, given)
                case "coalesce":
                    return _first(given)
                case "try":
                    return Evaluated(values=given[0].values, invalid=np.zeros(rows, dtype=np.bool_))
                case _:
                    return _strict(expression, given)
    raise ValueError(f"unknown expression {expression!r}")


def _whole(values: pa.Array) -> Evaluated:
    return Evaluated(values=values, invalid=np.zeros(len(values), dtype=np.bool_))


def _strict(call: Call, given: Sequence[Evaluated]) -> Evaluated:
    lacking = np.logical_or.reduce([_null(each.values) for each in given])
    invalid = np.logical_or.reduce([each.invalid for each in given])
    if call.function in FORMATTED:
        stated = [said.value for said in call.arguments[1:] if isinstance(said, Constant)]
        result = FORMATTED[call.function](given[0].values, *stated)
    else:
        result = KERNELS[call.function](*(each.values for each in given))
    unsolved = _null(result) & ~lacking
    if call.function == "nullif":  # what it leaves out is missing, not wrong
        unsolved[:] = False
    return Evaluated(values=_blanked(result, lacking), invalid=invalid | unsolved)


def _settled_by(answer: bool, given: Sequence[Evaluated]) -> Evaluated:
    """`and` (settled by a false) and `or` (settled by a true), whichever side it stands on."""
    rows = len(given[0].values)
    settled = np.zeros(rows, dtype=np.bool_)
    for each in given:
        settled |= pc.equal(each.values, answer).fill_null(False).to_numpy(zero_copy_only=False)
    lacking = np.logical_or.reduce([_null(each.values) for each in given]) & ~settled
    invalid = np.logical_or.reduce([each.invalid for each in given]) & ~settled
    return Evaluated(values=pa.array(settled == answer, mask=lacking), invalid=invalid)


def _first(given: Sequence[Evaluated]) -> Evaluated:
    """`coalesce`: the first value that is there; invalid where an invalid one comes before it."""
    values, invalid = given[0].values, given[0].invalid.copy()
    for each in given[1:]:
        open_still = _null(values) & ~invalid
        values = pc.if_else(pa.array(open_still), each.values, values)
        invalid |= open_still & each.invalid
    return Evaluated(values=values, invalid=invalid)


def _case(expression: Case, columns: Mapping[str, pa.Array], rows: int) -> Evaluated:
    values = pa.nulls(rows, ARROW_TYPES[expression.type])
    invalid = np.zeros(rows, dtype=np.bool_)
    open_still = np.ones(rows, dtype=np.bool_)
    for condition, result in expression.branches:
        tested, found = evaluate(condition, columns, rows), evaluate(result, columns, rows)
        invalid |= open_still & tested.invalid
        open_still &= ~tested.invalid
        taken = open_still & tested.values.fill_null(False).to_numpy(zero_copy_only=False)
        values = pc.if_else(pa.array(taken), found.values, values)
        invalid |= taken & found.invalid
        open_still &= ~taken
    if expression.otherwise is not None:
        found = evaluate(expression.otherwise, columns, rows)
        values = pc.if_else(pa.array(open_still), found.values, values)
        invalid |= open_still & found.invalid
    return Evaluated(values=values, invalid=invalid)


def _null(values: pa.Array) -> Mask:
    found: Mask = values.is_null().to_numpy(zero_copy_only=False)
    return found


def _blanked(values: pa.Array, lacking: Mask) -> pa.Array:
    if not lacking.any():
        return values
    return pc.if_else(pa.array(lacking), pa.scalar(None, values.type), values)
