"""What bounds leave, against every choice that there is: means and variances over all of them, one by one."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from dpbeam.pipelines.tuning.bounding import bounded
from dpbeam.pipelines.tuning.summaries import Summary, Sums
from dpbeam.queries.bounds import Bounds

DATA = {
    0: {0: [1.0, 4.0, 2.5], 1: [7.0], 2: [0.5, 3.0]},
    1: {0: [2.0], 3: [1.0, 9.0, 5.0, 5.0]},
    2: {2: [6.0]},
}
"""By unit and partition, the values of its rows."""
BOUNDS = [
    Bounds(l0=2, linf=2), Bounds(l0=1, linf=1), Bounds(l0=9, linf=3), Bounds(l0=2), Bounds(l1=1), Bounds(l1=3),
    Bounds(l1=50),
]  # fmt: skip


def summary(one_in: int = 1) -> Summary:
    pairs = [(unit, partition, rows) for unit, held in DATA.items() for partition, rows in held.items()]
    values = np.array([sum(rows) for *_, rows in pairs])
    return Summary(
        stage="s",
        unit=np.array([unit for unit, _, _ in pairs]),
        partition=np.array([partition for _, partition, _ in pairs]),
        rows=np.array([float(len(rows)) for *_, rows in pairs]),
        clipped={},
        values={"v": values},
        sizes={"v": values},
        one_in=one_in,
        listed=None,
    )


def sums() -> Sums:
    every = [rows for held in DATA.values() for rows in held.values()]
    return Sums(total=np.array([sum(r) for r in every]), squares=np.array([sum(v * v for v in r) for r in every]))


def choices(held, bounds):
    """Every choice of one unit's rows that is as likely as the others: by partition, the rows that are kept."""
    if bounds.l1 is not None:
        rows = [(partition, value) for partition, values in held.items() for value in values]
        for kept in combinations(rows, min(bounds.l1, len(rows))):
            yield {p: [value for q, value in kept if q == p] for p in {partition for partition, _ in kept}}
        return
    for partitions in combinations(held, min(bounds.l0, len(held))):
        ways = [list(combinations(held[p], min(bounds.linf or len(held[p]), len(held[p])))) for p in partitions]
        # Each set of partitions has as many choices of rows as it has, but is as likely as the others.
        for rows in product(*ways):
            yield dict(zip(partitions, rows, strict=True))


def laws(bounds, figure):
    """Mean and variance by partition: a figure of each unit's kept rows, over all choices, added up over units."""
    mean, variance = np.zeros(4), np.zeros(4)
    for held in DATA.values():
        groups = {}
        for choice in choices(held, bounds):
            groups.setdefault(frozenset(choice) if bounds.l1 is None else None, []).append(choice)
        for partition in held:
            found = [
                (1 / len(groups) / len(same), figure(choice[partition]) if choice.get(partition) else 0.0)
                for same in groups.values()
                for choice in same
            ]
            first = sum(chance * value for chance, value in found)
            mean[partition] += first
            variance[partition] += sum(chance * (value - first) ** 2 for chance, value in found)
    return mean, variance


def agrees(law, expected):
    assert law.mean == pytest.approx(expected[0], abs=1e-12)
    assert law.variance == pytest.approx(expected[1], abs=1e-9)


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_units_that_count_are_those_of_all_choices(bounds) -> None:
    agrees(bounded(summary(), bounds).units(), laws(bounds, lambda rows: 1.0))


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_rows_that_count_are_those_of_all_choices(bounds) -> None:
    agrees(bounded(summary(), bounds).rows(), laws(bounds, len))


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_sums_of_what_counts_are_those_of_all_choices(bounds) -> None:
    agrees(bounded(summary(), bounds).sums(sums()), laws(bounds, sum))


def test_totals_are_clipped_unit_by_unit() -> None:
    law = bounded(summary(), Bounds(l0=1)).totals(sums().total, 0.0, 5.0)
    agrees(law, laws(Bounds(l0=1), lambda rows: min(sum(rows), 5.0)))


def test_of_sampled_units_each_stands_for_several() -> None:
    one, four = (bounded(summary(one_in), BOUNDS[0]).rows() for one_in in (1, 4))
    assert four.mean == pytest.approx(4 * one.mean)
    assert four.variance == pytest.approx(4 * one.variance)
