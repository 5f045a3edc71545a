"""Bugs of bounding and summing, each seeded by a patch: one unit more moves something further than the plan says."""

from __future__ import annotations

import numpy as np
import pytest

from dpbeam.engine.aggregation import frequent, kernels
from dpbeam.engine.bounding import sampling
from dpbeam.engine.metrics import sums
from dpbeam.engine.rounds import weights as weighing
from dpbeam.mechanisms import fixedpoint as grids
from dpbeam.queries.quantities import Sum


def unbounded_partitions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sampling, "_within_l0", lambda _, __, ___, pair_unit, *____: pair_unit >= 0)


def unbounded_rows(patch: pytest.MonkeyPatch) -> None:
    within = sampling._within_linf
    patch.setattr(sampling, "_within_linf", lambda _, *rest: within(None, *rest))


def unbounded_rows_in_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sampling, "_within_l1", lambda *_: None)


def unclipped_after_rounding(patch: pytest.MonkeyPatch) -> None:
    encode = grids.Grid.encode_whole
    patch.setattr(grids.Grid, "encode_whole", lambda grid, values: encode(grid, values) + 1)


def unclipped_totals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        sums,
        "totals",
        lambda quantity, values, row_pairs, pairs, partitions: sums.SumKernel().of_rows(
            Sum(**vars(quantity)), values, pairs[row_pairs], partitions
        ),
    )


def vectors_of_any_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kernels, "shorten", lambda vectors, norm, most: np.clip(vectors, -most, most))


def values_without_a_limit(patch: pytest.MonkeyPatch) -> None:
    cells = frequent.bounded_cells
    patch.setattr(frequent, "bounded_cells", lambda *arguments: cells(*arguments[:-1], 10**6))


def shares_that_are_not_normed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(weighing, "shares", lambda units, biases=None: np.full(len(units), weighing.NORM, dtype=np.int64))


ALL = (
    unbounded_partitions,
    unbounded_rows,
    unbounded_rows_in_all,
    unclipped_after_rounding,
    unclipped_totals,
    vectors_of_any_length,
    values_without_a_limit,
    shares_that_are_not_normed,
)
