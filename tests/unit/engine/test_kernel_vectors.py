"""Vectors of one column: as many numbers as the plan was made for, beside columns of numbers or without them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from dpbeam.engine.aggregation import kernels
from dpbeam.engine.bounding.contributions import numbers
from dpbeam.engine.metrics import kernel_of
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.sharing import quantities
from dpbeam.reading import vectors

VECTOR = VectorSum(name="e", columns=("v", "w"), length=4, norm="linf", max_norm=8.0)
ROWS = np.array([0, 1, 0])


def test_a_vector_has_as_many_numbers_as_its_columns_hold() -> None:
    (quantity,) = quantities([VECTOR])
    assert (VECTOR.numbers, quantity.length, quantity.size) == (4, 4, 4)
    assert VECTOR.released == ("e_0", "e_1", "e_2", "e_3")
    assert kernel_of(quantity).arrow_type(quantity) == pa.list_(pa.int64(), 4)
    assert quantity.sensitivity(Bounds(l0=1, linf=1)) == (32.0, 8.0 * math.sqrt(4))


def test_where_each_column_holds_one_number_there_are_as_many_as_columns() -> None:
    plain = VectorSum(name="e", columns=("v", "w"), norm="l2", max_norm=1.0)
    (quantity,) = quantities([plain])
    assert (plain.numbers, quantity.length, quantity.size) == (2, 0, 2)


def test_sums_of_vectors_of_different_lengths_are_two_quantities() -> None:
    longer = VectorSum(name="f", columns=("v", "w"), length=5, norm="linf", max_norm=8.0)
    assert [quantity.size for quantity in quantities([VECTOR, longer])] == [4, 5]


def test_vectors_and_numbers_lie_side_by_side() -> None:
    (quantity,) = quantities([VECTOR])
    given = np.arange(9.0).reshape(3, 3)
    values = {"v": numbers(vectors.column(given)), "w": np.array([1, 2, 3])}
    made = kernel_of(quantity).of_rows(quantity, values, ROWS, 2)
    step = kernels.grid_of(quantity).step
    assert (kernels.vectors(quantity, made) * step).tolist() == [[6.0, 8.0, 10.0, 4.0], [3.0, 4.0, 5.0, 2.0]]


@pytest.mark.parametrize("width", [2, 4])
def test_vectors_of_another_length_than_planned_are_refused(width: int) -> None:
    (quantity,) = quantities([VECTOR])
    with pytest.raises(ValueError, match=rf"^e: vectors must have 4 numbers, got {width + 1}$"):
        kernel_of(quantity).of_rows(quantity, {"v": np.ones((3, width)), "w": np.ones(3)}, ROWS, 2)
