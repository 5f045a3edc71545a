"""The error of automatic bounds on small made tables: within 1.25 times that of the best bounds that could be stated.

The median of 51 runs is compared. Of 200 runs of each case that were measured, none lay above: so one does with a
probability of 0.034 at most (with a confidence of 99.9 %), and 26 of 51 with one of 1e-23 or less.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from benchmarks.bounds import AIRPORTS, PRIVATE, Case, Errors, automatic, chosen, sweep
from tests.helpers.contribution_shapes import flights, phrases, ratings

RUNS, MOST = 51, 1.25
TABLES = {
    "flights": (flights(5, people=1_500), Case(name="", shape="", partitions=AIRPORTS, most={"l1": 600})),
    "ratings": (
        ratings(5, people=1_500, films=300),
        Case(name="", shape="", partitions={"public": {"values": list(range(300))}}, most={"l0": 300},
             stated={"linf": 1}),
    ),
    "phrases": (
        phrases(5, people=3_500),
        Case(name="", shape="", partitions=PRIVATE, most={"l0": 500}, stated={"linf": 1},
             metrics=("privacy_id_count",)),
    ),
}  # fmt: skip


def median_ratio(name: str, runs: int = RUNS) -> float:
    rows, case = TABLES[name]
    errors = Errors(rows=rows)
    best, _ = sweep(case, errors)
    query = automatic(case)
    return statistics.median(errors.of(chosen(query, rows).stages[0]) / best for _ in range(runs))


@pytest.mark.parametrize("name", TABLES)
def test_the_error_is_within_a_quarter_of_the_best(name: str) -> None:
    assert median_ratio(name) <= MOST


@pytest.mark.parametrize("name", ["ratings"])
def test_a_fixed_power_of_the_bound_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that there was: what is kept, over the root of the bound."""

    def by_power(stage, planned, seen):
        ((parameter, found),) = seen.contributions.items()
        bound = max(found.bounds, key=lambda each: found.kept(each) / each**0.5)
        return replace(stage, bounds=replace(stage.bounds, **{parameter: bound}))

    monkeypatch.setattr("dpbeam.phases.bounds.choose", by_power)
    assert median_ratio(name) > MOST
