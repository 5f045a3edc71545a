"""A black-box estimate of ε of selections by weights, from neighbouring tables: below what was certified.

What is seen is which partitions are kept in the end. Each bound is above the truth with probability 1e-9 at most
(`audit.FAILURE`).
"""

from __future__ import annotations

import secrets
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from dpbeam.accounting.plan import plan
from dpbeam.engine.rounds import weighing
from dpbeam.engine.stage import Round, planned_stage
from tests.helpers import audit
from tests.helpers.queries import query_of
from tests.helpers.weighing import weigh_whole

EPSILON, DELTA, PLACES = 2.0, 0.05, 8
USUAL_COPIES = 8_000
SCENARIOS = {
    "alone in its places": {4, 5, 6, 7},
    "with others in all of them": {0, 1, 2, 3},
    "with others in one": {0, 5, 6, 7},
    "in one": {0},
    "in more than it may": set(range(PLACES)),
}
"""The places of the one unit."""


def others(spec):
    """Four places each of which one person more might lift above the last threshold, and some spread over them."""
    alone = int(np.ceil(spec.rounds[-1].threshold)) - 1
    return [{place} for place in range(4) for _ in range(alone - 1)] + [{0, 1, 2, 3}, {0, 1, 2, 3}]


def planned(strategy):
    policy = query_of(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": "d.csv"},
            "privacy_unit": "u",
            "columns": {"u": {"type": "int64"}, "p": {"type": "int64"}},
            "run": {"epsilon": EPSILON, "delta": DELTA},
            "stages": [
                {
                    "name": "s",
                    "group_by": ["p"],
                    "partitions": {"private": strategy},
                    "bounds": {"l0": 4},
                    "metrics": [],
                }
            ],
        }
    )
    return planned_stage(policy.unit, policy.stages[0], plan(policy).mechanisms)


def kept(spec, sets, many):
    """Of each of `many` copies of a table, which places are kept."""
    pairs = np.array([(unit, place) for unit, places in enumerate(sets) for place in places])
    copies = np.repeat(np.arange(many), len(pairs))
    columns = [np.tile(column, many) + copies * width for column, width in zip(pairs.T, (100, PLACES), strict=True)]
    rows = pa.record_batch(columns, names=["u", "p"])
    known = None
    for number in range(1, len(spec.rounds) + 1):
        one = replace(spec, mode=Round(number=number, stage=spec.name))
        weighed = weigh_whole(rows, one, secrets.token_bytes(16), known)
        told = pa.Table.from_batches([weighing.draw(weighed, one, weighing.noise_of(one))])
        before = [] if known is None else [known.filter(known.column(weighing.KEPT))]
        known = pa.concat_tables([*before, told])
    found = np.zeros(many * PLACES)
    found[known.filter(known.column(weighing.KEPT)).column("p").to_numpy()] = 1
    return found.reshape(many, PLACES)


def least_epsilons(many=USUAL_COPIES, scenarios=tuple(SCENARIOS), **strategy):
    spec = planned(strategy)
    before = others(spec)
    without = kept(spec, before, many)
    tables = {name: [*before, SCENARIOS[name]] for name in scenarios}
    return {name: audit.least_epsilon(kept(spec, table, many), without, DELTA) for name, table in tables.items()}


@pytest.mark.parametrize(
    "strategy",
    [
        {"strategy": "dp_sips"},
        {"strategy": "mad"},
        {"strategy": "mad2r"},
        {"strategy": "mad2r", "pre_threshold": 2},
    ],
    ids=str,
)
def test_no_selection_costs_more_than_certified(strategy):
    assert {name: bound for name, bound in least_epsilons(**strategy).items() if not bound <= EPSILON} == {}


def test_noise_that_is_missing_in_one_round_is_noticed(monkeypatch):
    """The bound is 3.7 to 3.9 here (measured); with 8,000 copies it is 1.9 to 2, where chance decides."""
    original = weighing.noise_of

    def quiet(spec):
        made = original(spec)
        return made if spec.mode.number == 1 else replace(made, mechanism=replace(made.mechanism, sigma=1e-6))

    monkeypatch.setattr(weighing, "noise_of", quiet)
    found = least_epsilons(40_000, ["in more than it may"], strategy="mad2r")
    assert found["in more than it may"] > EPSILON
