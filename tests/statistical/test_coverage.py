"""The noise of coverage is the plan's, on each of its three numbers by itself; its intervals hold the true shares.

20,000 fresh draws of the noise, 10,000 of the intervals. Each comparison of a noise fails by chance with probability
1e-9; at a coverage of 95 % the share of intervals leaves [93.6 %, 96.4 %] with probability 1e-9 (binomial).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from dpbeam.accounting.plan import plan
from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.bounding import votes
from dpbeam.engine.metrics.base import noisy_column
from dpbeam.engine.release import results
from dpbeam.engine.release.noises import noises
from dpbeam.engine.stage import StageSpec, planned
from dpbeam.mechanisms.events import Gaussian, Laplace
from dpbeam.mechanisms.noise_width import scale_of
from dpbeam.mechanisms.shares import share
from dpbeam.phases.coverage import counting
from dpbeam.phases.phase import Parameters
from tests.helpers.queries import query_of

DRAWS, SHARES, ALPHA = 20_000, 10_000, 1e-9
LAWS = {"laplace": stats.laplace, "gaussian": stats.norm}


def spec(noise: str) -> StageSpec:
    """What counts coverage in the main job of a plan."""
    query = query_of(
        {
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
                    "noise": noise,
                }
            ],
        }
    )
    made = plan(query)
    known = Parameters(query=query, plan=made, stages=planned(query, made.mechanisms), public={})
    (found,) = (each for each in counting(known).stages if each.votes)
    return found


@pytest.mark.parametrize("noise", LAWS)
def test_each_of_the_three_numbers_has_the_planned_noise_and_no_other(noise: str) -> None:
    stage = spec(noise)
    tally = pa.RecordBatch.from_pydict({"__read": [1000], "__passed": [700]})
    (exact,) = accumulate.accumulate(votes.of_rows(400, tally), stage).to_pylist()
    many = pa.RecordBatch.from_pylist([exact] * DRAWS, schema=accumulate.accumulators_schema(stage))
    (quantity,) = stage.quantities
    drawn = results.noisy_quantities(many, stage, noises(stage)).column(noisy_column(quantity))
    numbers = drawn.flatten().to_numpy().reshape(-1, 3) - [300, 300, 400]
    scale = scale_of(stage.noise["rows"])
    for each in numbers.T:
        passes = [stats.kstest(each, LAWS[noise](scale=scale * by).cdf).pvalue > ALPHA for by in (1.0, 1.3, 0.7)]
        assert passes == [True, False, False]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert stats.spearmanr(numbers[:, one], numbers[:, other]).pvalue > ALPHA


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
@pytest.mark.parametrize("fates", [(300.0, 300.0, 400.0), (20.0, 30.0, 950.0), (900.0, 95.0, 5.0)])
def test_the_intervals_hold_the_true_shares(kind: str, fates: tuple[float, float, float]) -> None:
    rng = np.random.default_rng()
    event = {
        "laplace": Laplace(stage="s", metric="rows", scale=25.0, l1=1.0),
        "gaussian": Gaussian(stage="s", metric="rows", sigma=25.0, l2=1.0),
    }[kind]
    held = {"right": 0, "too small": 0}
    truth = fates[2] / sum(fates)
    for name, by in (("right", 1.0), ("too small", 1.3)):
        noise = getattr(rng, {"laplace": "laplace", "gaussian": "normal"}[kind])(scale=25.0 * by, size=(SHARES, 3))
        for row in noise + fates:
            found = share(row.tolist(), (False, False, True), event)
            held[name] += found.low <= truth <= found.high
    assert 0.936 <= held["right"] / SHARES <= 0.964
    assert not held["too small"] / SHARES >= 0.936
