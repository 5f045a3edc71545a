"""No bit of what PipelineDP's engine releases for us tells of a value: noise comes in steps that the plan fixes.

For every metric, noise and selection that the engine takes: noisy numbers are multiples of the plan's step, and, with
the same draws of PyDP's, data that differ by whole steps give results that differ by as many. So the reachable results
of two tables are the same. PyDP's own way, `add_noise(value)`, fails both, and the tests say so.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from pydp.algorithms.numerical_mechanisms import GaussianMechanism

from dpbeam.errors import UsageError
from tests.helpers import parity

pytestmark = pytest.mark.usefixtures("reference_engine")

SCALAR = {"column": "v", "low": -4.0, "high": 8.0}
TOTAL = {"sum": {"column": "v", "low_total": -2.0, "high_total": 6.0}}
PUBLIC = {"public": {"values": [0, 1]}}
ROWS, UNITS = {"l0": 1, "linf": 2}, {"l0": 3}
CONTENT = [(0, 1.5, -1.0), (0, 3.0, 0.5), (1, 9.0, 0.25)]
PARTITIONS = 400
NOISES = ["laplace", "gaussian"]
CASES = {
    "rows": (["count", {"sum": SCALAR}], ROWS),
    "units": (["privacy_id_count", TOTAL], UNITS),
    "mean": (["count", {"mean": SCALAR}, {"sum": SCALAR}], ROWS),
    "variance": ([{"variance": SCALAR}, {"mean": SCALAR}, "count"], ROWS),
    "under l1": (["count", "privacy_id_count", {"sum": SCALAR}], {"l1": 3}),
}


def vector(noise):
    return {"vector_sum": {"columns": ["v", "w"], "norm": "linf", "max_norm": 2.5}}


def drawn(tmp_path, noise, metrics, bounds, partitions, content=CONTENT):
    planned = parity.stage(tmp_path, noise=noise, metrics=metrics, bounds=bounds, partitions=partitions)
    public = parity.public(PARTITIONS) if "public" in partitions else None
    return planned, parity.theirs(planned, parity.alike(content, PARTITIONS), public)


def whole(values, step) -> bool:
    """Whether all values are multiples of a step, which is a power of two."""
    return math.frexp(step)[0] == 0.5 and bool((np.remainder(values, step) == 0).all())


@pytest.mark.parametrize(("case", "noise"), list(itertools.product(CASES, NOISES)))
def test_noisy_numbers_are_whole_steps_of_the_plan(tmp_path, case, noise) -> None:
    planned, found = drawn(tmp_path, noise, *CASES[case], PUBLIC)
    for field, kind in (("count", "count"), ("privacy_id_count", "privacy_id_count"), ("sum", "sum")):
        if field not in found:
            continue
        if field == "sum" and "mean" in found:  # made from the mean and the count
            assert found["sum"].tolist() == (found["mean"] * found["count"]).tolist()
            continue
        step = planned.steps["total" if case == "units" and field == "sum" else kind]
        assert whole(found[field], step), field
    if "mean" in found:  # with the middle 2, and the count as the divisor
        total = (found["mean"] - 2.0) * np.maximum(found["count"], 1.0)
        step = planned.steps["sum"]
        assert np.abs(total / step - np.rint(total / step)).max() < 1e-3


@pytest.mark.parametrize("noise", NOISES)
def test_vectors_are_whole_steps_of_the_plan(tmp_path, noise) -> None:
    private = {"private": {"strategy": "truncated_geometric"}}
    content = [(unit, 1.0, 2.0) for unit in range(12)]
    planned, found = drawn(tmp_path, noise, [vector(noise)], {"l0": 1, "linf": 1}, private, content)
    assert len(found["p"]) > 0  # of 400, each with twelve units, each kept with more than a hundredth
    assert whole(found["vector_sum"], planned.steps["vector"])


@pytest.mark.parametrize("noise", NOISES)
def test_counts_that_select_their_partitions_are_whole_steps_above_the_threshold(tmp_path, noise) -> None:
    private = {"private": {"strategy": f"{noise}_thresholding"}}
    content = [(unit, 0.0, 0.0) for unit in range(5)]
    planned, found = drawn(tmp_path, noise, ["privacy_id_count"], {"l0": 3}, private, content)
    assert len(found["p"]) > 0
    assert whole(found["privacy_id_count"], planned.steps["privacy_id_count"])
    assert found["privacy_id_count"].min() > planned.spec.selection.threshold


@pytest.mark.parametrize("stepped", [True, False])
def test_data_that_differ_by_a_step_reach_the_same_results_where_pydps_own_way_does_not(stepped) -> None:
    from dpbeam.adapters.reference.stepped import in_steps

    mechanism = GaussianMechanism(1.0, 1e-6, 1.0)
    step = math.ldexp(1.0, math.frexp(mechanism.std)[1] - 21)
    samples = [mechanism.add_noise(0.0) for _ in range(20_000)]

    def results(value):
        return np.array([in_steps(value, s, step) if stepped else value + s for s in samples])

    def excluded(found, value):
        """Results that no sample of PyDP's can give for the value: they have bits below the sample's own."""
        sample = np.abs(found - value)
        ulp = np.ldexp(1.0, np.frexp(np.where(sample == 0, 1.0, sample))[1] - 53)
        return int((np.remainder(np.abs(found), ulp) != 0).sum())

    assert (excluded(results(0.0), 1.0) == 0) == stepped
    assert (results(1.0) - results(0.0) == 1.0).all() == stepped


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e6, 0.5, 2.0**40 + 0.5, 1 / 3])
def test_whatever_the_value_the_same_noise_is_added_to_it(value) -> None:
    from dpbeam.adapters.reference.stepped import in_steps

    step = 2.0**-4
    for noise in np.random.default_rng().normal(0, 100.0, 1000).tolist():
        alone = in_steps(0.0, noise, step)
        assert noise - step < alone <= noise
        assert in_steps(value, noise, step) == float(round(value / step) * step + alone)


def test_each_metric_calls_pydps_mechanisms_on_nothing_but_zero(tmp_path, monkeypatch) -> None:
    """By construction: were a value handed to PyDP's floats, the released bits could tell of it."""
    from pipeline_dp import dp_computations

    seen = []

    def watched(kind):
        class Watched(kind):
            def add_noise(self, value):
                seen.append(value)
                return super().add_noise(value)

        return Watched

    for name in ("LaplaceMechanism", "GaussianMechanism"):
        real = getattr(dp_computations.dp_mechanisms, name)
        monkeypatch.setattr(dp_computations.dp_mechanisms, name, watched(real))
    for (metrics, bounds), noise in itertools.product(CASES.values(), NOISES):
        drawn(tmp_path, noise, metrics, bounds, PUBLIC, CONTENT)
    private = {"private": {"strategy": "truncated_geometric"}}
    for noise in NOISES:
        many = [(unit, 1.0, 2.0) for unit in range(12)]
        drawn(tmp_path, noise, [vector(noise)], {"l0": 1, "linf": 1}, private, many)
    assert len(seen) > 5 * PARTITIONS
    assert set(seen) == {0.0}


def test_noise_beyond_what_has_even_steps_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(UsageError) as refused:
        parity.stage(
            tmp_path,
            noise="laplace",
            epsilon=1e-6,
            metrics=[{"sum": SCALAR}],
            bounds={"l0": 100, "linf": 100},
            partitions=PUBLIC,
        )
    assert str(refused.value).startswith("stage s: the noise of v_sum would be ")
    assert str(refused.value).endswith("lower the bounds, raise run.epsilon, or run without --engine=pipelinedp")
