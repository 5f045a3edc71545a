"""What is told of a stage's rows, from the three noisy numbers that a run draws for it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dpbeam.accounting.plan import plan
from dpbeam.engine.stage import planned
from dpbeam.mechanisms.targets import coverage_stage
from dpbeam.phases import coverage
from dpbeam.phases.phase import Parameters
from dpbeam.queries.coverage import votes
from tests.helpers.queries import query_of

POLICY = {
    "version": 1,
    "dataset": "v",
    "source": {"format": "csv", "path": "v.csv"},
    "privacy_unit": "who",
    "columns": {"who": {"type": "string"}, "city": {"type": "string"}},
    "run": {"epsilon": 1, "delta": 1e-6},
    "coverage": {"share": 0.05},
    "stages": [
        {
            "name": "s",
            "group_by": ["city"],
            "partitions": {"public": {"values": ["a"]}},
            "bounds": {"l0": 3, "linf": 2},
            "metrics": ["count"],
            "noise": "gaussian",
        }
    ],
}


def told(*noisy: float):
    """The coverage where so much was drawn for the rows that are dropped, cut and kept."""
    query = query_of(POLICY)
    made = plan(query)
    known = Parameters(query=query, plan=made, stages=planned(query, made.mechanisms), public={})
    drawn = pa.table({name: [number] for name, number in zip(votes().released, noisy, strict=True)})
    (found,) = coverage.learn(known, {coverage_stage("s"): drawn}).coverage
    return found


def test_the_three_numbers_are_two_shares_and_the_number_of_units() -> None:
    found = told(1000.0, 3000.0, 6000.0)
    assert (found.rows_passed, found.rows_kept, found.privacy_units) == (0.9, 0.6, 10_000)


def test_no_more_is_kept_than_passed_though_the_noise_of_what_is_cut_is_below_0() -> None:
    found = told(60.0, -70.0, 3010.0)  # of which 3,010 of 3,000 are kept, and 2,940 passed
    assert found.rows_kept == found.rows_passed == pytest.approx(0.99)
    assert found.rows_kept_low <= found.rows_kept <= found.rows_kept_high
    assert found.rows_passed_low <= found.rows_passed <= found.rows_passed_high
