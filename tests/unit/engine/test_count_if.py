"""A count of rows that meet a condition counts these rows and no others, and merges as counts do."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from dpbeam.engine.metrics import kernel_of
from dpbeam.queries.metrics.count_if import CountIf
from dpbeam.queries.source import Condition

WHOLE = np.array([2**53 + 1, 2**53, -1, 0, 7, 7])
NUMBERS = np.array([0.5, -0.0, 7.0, math.inf, 2.5, 7.0])
ROWS = np.array([0, 0, 0, 2, 2, 2])


def counted(op, value, numbers):
    (quantity,) = CountIf(name="n", condition=Condition(column="v", op=op, value=value)).quantities
    return kernel_of(quantity).of_rows(quantity, {"v": numbers}, ROWS, 3)


@pytest.mark.parametrize(
    ("op", "value", "numbers", "counts"),
    [
        (">", 2**53, WHOLE, [1, 0, 0]),  # as float64, 2**53 + 1 would be 2**53
        ("==", 7, WHOLE, [0, 0, 2]),
        ("!=", 7, WHOLE, [3, 0, 1]),
        ("<", 0.5, WHOLE, [1, 0, 1]),
        ("in", (-1, 0), WHOLE, [1, 0, 1]),
        ("==", 0, NUMBERS, [1, 0, 0]),
        (">=", 2.5, NUMBERS, [1, 0, 3]),
        ("not_in", (7.0, 0.5), NUMBERS, [1, 0, 2]),
    ],
)
def test_rows_that_meet_the_condition_are_counted(op, value, numbers, counts):
    made = counted(op, value, numbers)
    assert (made.type, made.to_pylist()) == (pa.int64(), counts)


def test_counts_of_one_condition_are_one_quantity_and_merge_exactly():
    condition = Condition(column="v", op=">", value=0)
    one, other = (CountIf(name=name, condition=condition).quantities[0] for name in ("a", "b"))
    assert one.definition == other.definition
    halves = pa.concat_arrays([counted(">", 0, WHOLE), counted("<=", 0, WHOLE)])
    codes = np.tile(np.arange(3), 2)
    merged = kernel_of(one).merge(one, halves, codes, np.argsort(codes, kind="stable"), np.array([0, 2, 4]))
    assert merged.to_pylist() == [3, 0, 3]
