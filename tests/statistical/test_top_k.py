"""The most frequent values: who is alone with its values shows them no more often than δ says; values are chosen
uniformly; and the intervals of their counts hold in 95 % of what is shown.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from dpbeam.accounting.plan import plan
from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.bounding import contributions
from dpbeam.engine.release import results
from dpbeam.engine.release.noises import noises
from dpbeam.engine.stage import planned_stage
from dpbeam.queries.metrics.top_k import TopK
from tests.helpers import kernel_reference as reference
from tests.helpers.queries import query_of

DRAWS = 20_000
ALPHA = 1e-9
L0, VALUES = 3, 4


def planned(kind: str, delta: float = 0.4):
    """A stage as a policy plans it, whose one mechanism is the threshold of a top_k: it has half of δ."""
    policy = query_of(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": "d.csv"},
            "privacy_unit": "u",
            "columns": {"u": {"type": "int64"}, "p": {"type": "int64"}, "t": {"type": "string"}},
            "run": {"epsilon": 1.0, "delta": delta},
            "stages": [
                {
                    "name": "s",
                    "group_by": ["p"],
                    "partitions": {"public": {"values": [0, 1, 2]}},
                    "bounds": {"l0": L0},
                    "metrics": [{"top_k": {"column": "t", "k": 20, "max_values": VALUES}}],
                    "noise": kind,
                }
            ],
        }
    )
    return planned_stage(policy.unit, policy.stages[0], plan(policy).mechanisms)


def shown_in(spec, mechanism) -> int:
    """In how many of DRAWS runs any value of a unit that is alone in L0 partitions with many values is shown."""
    rows = pa.record_batch(
        {"u": [1] * 60, "p": np.repeat([0, 1, 2], 20), "t": [f"{i:02}" for i in range(20)] * 3},
        schema=pa.schema([("u", pa.int64()), ("p", pa.int64()), ("t", pa.string())]),
    )
    merged = accumulate.accumulate(contributions.bound([rows], spec, reference.SALT, (0,)), spec)
    spec.thresholds[spec.quantities[0].name] = mechanism  # the planned one, or a mutant
    copies = pa.Table.from_batches([merged] * DRAWS).combine_chunks().to_batches()[0]
    released = results.metrics(results.noisy_quantities(copies, spec, noises(spec)), spec)
    any_shown = released.column("t_top_k_1").is_valid().to_numpy(zero_copy_only=False)
    return int(any_shown.reshape(DRAWS, L0).any(axis=1).sum())


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_a_unit_alone_shows_any_of_its_values_with_the_planned_delta_and_no_more(kind: str) -> None:
    spec = planned(kind)
    (mechanism,) = spec.thresholds.values()
    assert (mechanism.l0, mechanism.delta) == (L0 * VALUES, pytest.approx(0.2))
    assert stats.binomtest(shown_in(spec, mechanism), DRAWS, mechanism.delta).pvalue > ALPHA


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_a_threshold_that_forgets_that_a_partition_has_several_values_is_noticed(kind: str) -> None:
    from dataclasses import replace

    from dpbeam.accounting.mechanism_at import _threshold

    spec = planned(kind)
    (mechanism,) = spec.thresholds.values()
    law, scale = (stats.norm, mechanism.sigma) if kind == "gaussian" else (stats.laplace, mechanism.scale)
    mutant = replace(mechanism, threshold=_threshold(law, scale, mechanism.delta, L0))
    assert stats.binomtest(shown_in(spec, mutant), DRAWS, mechanism.delta, alternative="greater").pvalue < ALPHA


def test_a_units_values_are_a_uniform_choice() -> None:
    """20,000 units with five values each, of which two count: the chosen pairs are chi-square uniform over all ten."""
    metrics = (TopK(name="top", column="t", k=1, max_values=2),)
    spec = reference.stage(metrics=metrics, l0=1, linf=None)
    units = 2000
    counts = np.zeros((5, 5))
    for salt in range(10):
        # Each unit in a partition of its own, so that what is kept of each can be seen.
        rows = pa.record_batch(
            {
                "u": np.repeat(np.arange(units), 5),
                "p": np.repeat(np.arange(units), 5),
                "t": ["a", "b", "c", "d", "e"] * units,
            }
        )
        batch = accumulate.accumulate(contributions.bound([rows], spec, bytes([salt]) * 16, (0,)), spec)
        for kept in batch.column("__q_0").to_pylist():
            first, second = sorted("abcde".index(each["value"]) for each in kept)
            counts[first, second] += 1
    assert stats.chisquare(counts[np.triu_indices(5, 1)]).pvalue > ALPHA
    assert counts.sum() == 20_000
