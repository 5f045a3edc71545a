"""Bounds chosen from real noise: sane on known distributions, and out of a lone unit's reach.

Each test fails with probability 1e-9 or less where all is right, and is shown to fail on the bug it guards against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from dpbeam.engine import automatic_bounds
from dpbeam.engine.aggregation import kernels
from dpbeam.engine.automatic_bounds import CHANCE, clips, contributions, count_edges, value_edges
from dpbeam.engine.metrics import kernel_of
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.queries.quantities import Bins

FAILURE = 1e-9
RANGE = {"least": 0.01, "most": 1e4}
TRIALS = 2_000


def histogram(values: Sequence[float] | npt.NDArray[np.float64], edges: tuple[float, ...]) -> npt.NDArray[np.int64]:
    quantity = Bins(name="v", weight=1.0, columns=("v",), edges=edges)
    made = kernel_of(quantity).of_rows(quantity, {"v": np.asarray(values)}, np.zeros(len(values), dtype=np.int64), 1)
    return kernels.vectors(quantity, made)[0]


def noisy(counts: npt.NDArray[np.int64], mechanism: Additive, trials: int) -> npt.NDArray[np.float64]:
    """The noisy counts of each of `trials` runs."""
    return AdditiveNoise(mechanism=mechanism).to_counts(np.tile(counts, trials)).reshape(trials, -1)


NOISES = [
    Gaussian(stage="s.values", metric="v", sigma=20.0, l2=1.0),
    Laplace(stage="s.values", metric="v", scale=14.0, l1=1.0),
]
NORMAL = stats.norm(50, 10).ppf((np.arange(20_000) + 0.5) / 20_000)
"""Below 16 lie 7 of these values, above 128 none; of 16 to 32 there are 700, of 64 to 128 there are 1,600."""


def wrong_clips(mechanism: Additive) -> int:
    runs = noisy(histogram(NORMAL, value_edges(**RANGE)), mechanism, TRIALS)
    found = [clips(run.tolist(), mechanism, low=None, high=None, **RANGE) for run in runs]
    return sum(each is None or each.pairs[0] != (16.0, 128.0) for each in found)


def wrong_counts(mechanism: Additive) -> int:
    """Units contribute 1 to 50, evenly; the most lies far out, where one bin of noise would outweigh them all."""
    units = histogram(np.tile(np.arange(1.0, 51.0), 60), count_edges(100_000))
    runs = noisy(units, mechanism, TRIALS)
    found = [contributions(run.tolist(), mechanism, most=100_000) for run in runs]
    return sum(each is None or each.largest not in (48, 64) or not 65_000 < each.total < 90_000 for each in found)


# Noise passes for a count in a part CHANCE of the runs.
ALLOWED = int(stats.binom(TRIALS, CHANCE).isf(FAILURE)) + 1


@pytest.mark.parametrize("mechanism", NOISES, ids=["gaussian", "laplace"])
@pytest.mark.parametrize("wrong", [wrong_clips, wrong_counts])
def test_bounds_of_a_known_distribution_are_right(
    wrong: Callable[[Additive], int], mechanism: Additive, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong(mechanism) <= ALLOWED
    honest = automatic_bounds.beyond_chance
    monkeypatch.setattr(automatic_bounds, "beyond_chance", lambda *asked: honest(*asked) / 4)
    # A threshold that noise often passes: 61 or more of 2,000 choices are wrong (measured); 4 are allowed.
    assert wrong(mechanism) > ALLOWED


EPSILON = 1.0
HIDES_ONE = Gaussian(stage="s.values", metric="v", sigma=1.0, l2=1.0)
DELTA = float(stats.norm.cdf(-0.5) - math.exp(EPSILON) * stats.norm.cdf(-1.5))
"""What a Gaussian of σ = 1 at sensitivity 1 is at ε = 1 (Balle & Wang, ICML'18, theorem 5)."""
AUDITED = 10_000
OTHERS = [1.5] * 300
HUGE = 5e3


def broken(rows_of_one: int, choose: Callable[[npt.NDArray[np.float64], list[float]], float]) -> bool:
    """Whether the chosen `high` tells of one unit with a huge value more than (ε, δ) allows, for sure but for FAILURE.

    `choose` gets noisy counts and the values themselves, which only a bug would look at.
    """
    reached = []
    for values in (OTHERS, [*OTHERS, *[HUGE] * rows_of_one]):
        runs = noisy(histogram(values, value_edges(**RANGE)), HIDES_ONE, AUDITED)
        reached.append(sum(choose(run, values) > 4.0 for run in runs))
    least = stats.beta.ppf(FAILURE / 2, max(reached[1], 1), AUDITED - reached[1] + 1) if reached[1] else 0.0
    most = stats.beta.isf(FAILURE / 2, reached[0] + 1, AUDITED - reached[0]) if reached[0] < AUDITED else 1.0
    return bool(least > math.exp(EPSILON) * most + DELTA)


def by_the_rule(run: npt.NDArray[np.float64], values: list[float]) -> float:
    found = clips(run.tolist(), HIDES_ONE, low=None, high=None, **RANGE)
    return 0.0 if found is None else found.pairs[0][1]


def by_the_raw_maximum(run: npt.NDArray[np.float64], values: list[float]) -> float:
    return max(values)


def test_a_lone_unit_with_a_huge_value_does_not_show_in_the_bounds() -> None:
    assert not broken(1, by_the_rule)


@pytest.mark.parametrize(
    ("rows_of_one", "choose"), [(1, by_the_raw_maximum), (6, by_the_rule)], ids=["raw maximum", "every row counts"]
)
def test_the_audit_catches_what_would_give_a_unit_away(rows_of_one, choose) -> None:
    assert broken(rows_of_one, choose)
