"""What is foreseen without the accounting library, against what the calibration says with it."""

from __future__ import annotations

import pytest

from dpbeam.accounting.calibrate import common_scale
from dpbeam.accounting.foreseen import foreseen
from dpbeam.accounting.mechanism_at import mechanism_at
from dpbeam.accounting.plan import requests_for
from dpbeam.accounting.requests import Request
from dpbeam.accounting.utility import selection_figure
from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import Gaussian, Laplace
from dpbeam.queries.selections import SELECTIONS
from tests.helpers.queries import query_of

NAMES = tuple(kind.strategy for kind in SELECTIONS)
TARGETS = [(0.1, 1e-9), (1.0, 1e-6), (4.0, 1e-6), (20.0, 1e-3)]


def requests_of(strategy: str, noise: str, *, stages: int) -> tuple[Request, ...]:
    stage = {
        "group_by": ["k"],
        "partitions": {"private": {"strategy": strategy, "pre_threshold": 4}},
        "bounds": {"l0": 20, "linf": 2},
        "metrics": ["count", {"mean": {"column": "hours", "low": 0, "high": 10}}],
        "noise": noise,
    }
    return requests_for(
        query_of(
            {
                "version": 1,
                "dataset": "d",
                "source": {"format": "csv", "path": "d.csv"},
                "privacy_unit": "user",
                "columns": {"user": {"type": "string"}, "k": {"type": "string"}, "hours": {"type": "float64"}},
                "run": {"epsilon": 1.0, "delta": 1e-6},
                "stages": [stage | {"name": f"s{i}", "weight": 1 + i} for i in range(stages)],
            }
        )
    )


@pytest.mark.parametrize(("epsilon", "delta"), TARGETS)
@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
@pytest.mark.parametrize("strategy", NAMES)
def test_a_scale_and_the_people_are_within_1_percent_of_the_calibrations(strategy, noise, stages, epsilon, delta):
    requests = requests_of(strategy, noise, stages=stages)
    found = foreseen(requests, epsilon=epsilon, delta=delta)
    scale = common_scale(requests, epsilon=epsilon, delta=delta)
    for request, mechanism in zip(requests, found, strict=True):
        if isinstance(mechanism, Laplace | Gaussian):
            exact = mechanism_at(request, scale, 0.0)
            assert isinstance(exact, Laplace | Gaussian)
            assert _noise(mechanism) == pytest.approx(_noise(exact), rel=0.01)
        else:
            here, there = (selection_figure(m) for m in (mechanism, mechanism_at(request, scale, mechanism.delta)))
            assert here.units_50 == pytest.approx(there.units_50, rel=0.01, abs=1)
            assert here.units_99 == pytest.approx(there.units_99, rel=0.01, abs=1)


def _noise(mechanism: Laplace | Gaussian) -> float:
    return mechanism.scale if isinstance(mechanism, Laplace) else mechanism.sigma


def test_what_cant_be_calibrated_isnt_foreseen():
    with pytest.raises(UsageError, match=r"^Gaussian noise needs a delta above"):
        foreseen(requests_of("gaussian_thresholding", "gaussian", stages=1), epsilon=1.0, delta=1e-14)
