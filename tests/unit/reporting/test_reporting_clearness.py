"""A table in which all is noise is told from one in which something counts."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from dpbeam.reporting.clearness import MISTAKEN, all_is_noise, warning
from dpbeam.reporting.tables import MetricColumn


def metric(name: str = "count", noise="gaussian", std: float | None = 2.0, **more) -> MetricColumn:
    return MetricColumn(name=name, kind=more.pop("kind", name), noise=noise, std=std, **more)


def table(**columns) -> pa.Table:
    return pa.table({"key": [str(i) for i in range(len(next(iter(columns.values()))))], **columns})


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_noise_alone_goes_unnoticed_seldom(noise) -> None:
    """2,000 tables of 20 counts: more than 20 missed, where 2 are expected at most, has a probability below 1e-13."""
    rng = np.random.default_rng()
    draw = rng.normal if noise == "gaussian" else lambda scale, size: rng.laplace(scale=scale / math.sqrt(2), size=size)
    missed = sum(not all_is_noise([metric(noise=noise)], table(count=draw(scale=2.0, size=20))) for _ in range(2_000))
    assert MISTAKEN * 2_000 == 2
    assert missed <= 20


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_one_count_that_is_clear_is_enough(noise) -> None:
    assert not all_is_noise([metric(noise=noise)], table(count=[0.5, -1.0, 40.0]))
    assert all_is_noise([metric(noise=noise)], table(count=[0.5, -1.0, 4.0]))


def test_where_there_are_counts_amounts_are_not_looked_at() -> None:
    """A sum may be far from 0 by its clipping, and near it though there are many rows."""
    metrics = [metric(), metric("x_sum", kind="sum")]
    assert all_is_noise(metrics, table(count=[1.0], x_sum=[900.0]))
    assert not all_is_noise(metrics, table(count=[900.0], x_sum=[1.0]))


def test_without_counts_amounts_are() -> None:
    assert all_is_noise([metric("x_sum", kind="sum")], table(x_sum=[1.0]))
    assert not all_is_noise([metric("x_sum", kind="sum")], table(x_sum=[900.0]))


def test_of_others_of_hierarchical_keys_the_larger_noise_counts() -> None:
    assert all_is_noise([metric(other_std=20.0)], table(count=[40.0]))


@pytest.mark.parametrize(
    ("metrics", "columns"),
    [
        ([metric("x_mean", kind="mean", std=None)], {"x_mean": [1.0]}),
        ([metric()], {"count": pa.array([], pa.float64())}),
        ([metric()], {"count": pa.array([None], pa.float64())}),
    ],
    ids=["a mean, whose noise differs", "no row", "a missing number"],
)
def test_where_nothing_can_be_told_nothing_is_said(metrics, columns) -> None:
    assert warning("s", metrics, table(**columns), has_coverage=False) is None


def test_it_says_what_may_be_and_what_to_do() -> None:
    said = warning("s", [metric()], table(count=[1.0]), has_coverage=False)
    assert said == (
        "s: no number here is clear of its noise; so it would be if no row counted at all. A column's type or rule, "
        "`where`, or partitions that fit no row may have dropped them, or there are too few for this much noise: "
        "`dpbeam check` shows which. A release says itself which share of rows counts, by `coverage: {share: 0.02}`."
    )
    shorter = warning("s", [metric()], table(count=[1.0]), has_coverage=True)
    assert shorter == said[: said.index(" A release says")]
