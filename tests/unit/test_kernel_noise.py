"""Noise goes on exact integers, in steps, by one sampler a mechanism; what can't be exact is refused."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from dpbeam.errors import RunFailed, UsageError
from dpbeam.mechanisms import noise
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace
from dpbeam.mechanisms.fixedpoint import Grid
from dpbeam.mechanisms.metric import Metric
from dpbeam.mechanisms.sensitivity import Bounds
from dpbeam.mechanisms.spec import StageSpec

GAUSSIAN = Gaussian(stage="s", metric="count", sigma=2.0, l2=1.0)
LAPLACE = Laplace(stage="s", metric="count", scale=3.0, l1=1.5)
GRID = Grid.for_bounds(0.0, 100.0)


@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE])
def test_no_values_need_no_noise(mechanism):
    none = np.array([], dtype=np.int64)
    added = noise.AdditiveNoise(mechanism=mechanism)
    assert added.to_counts(none).dtype == added.to_sums(none, GRID).dtype == np.float64


@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE])
def test_a_used_mechanism_travels_without_its_sampler(mechanism):
    added = noise.AdditiveNoise(mechanism=mechanism)
    added.to_counts(np.array([1]))
    sent = pickle.loads(pickle.dumps(added))  # noqa: S301
    assert sent == added
    assert not sent._samplers
    assert len(sent.to_counts(np.array([1, 2]))) == 2


def test_counts_get_noise_that_is_not_rounded():
    values = noise.AdditiveNoise(mechanism=GAUSSIAN).to_counts(np.full(50, 7))
    assert (values != np.rint(values)).any()


@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE])
def test_sums_stay_on_the_grid(mechanism):
    steps = noise.AdditiveNoise(mechanism=mechanism).to_sums(np.full(50, 123456789), GRID) / GRID.step
    assert (steps == np.rint(steps)).all()


@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE])
@pytest.mark.parametrize("steps", [0, 1, -1, 2**31 - 1, -(2**31), 2**33, -(2**33)])
def test_noise_on_small_sums_is_not_cut_to_32_bits(mechanism, steps):
    grid = Grid.for_bounds(0.0, 2.0**-10)
    noisy = noise.AdditiveNoise(mechanism=mechanism).to_sums(np.full(200, steps), grid) / grid.step
    assert (noisy > 2.0**34).any()
    assert (noisy < -(2.0**34)).any()


@pytest.mark.parametrize("steps", [0, 1, -1, 2**33, -(2**33), 2**40, -(2**40)])
def test_no_small_integer_gets_to_the_library(monkeypatch, steps):
    sampler, given = noise._gaussian(2.0), []

    class Watched:
        def add_noise(self, value):
            given.append(value)
            return sampler.add_noise(value)

    monkeypatch.setattr(noise, "_gaussian", lambda _: Watched())
    noise.AdditiveNoise(mechanism=GAUSSIAN).to_sums(np.full(3, steps), GRID)
    assert [abs(value) >= 2**33 for value in given] == [True] * 3


@pytest.mark.parametrize("sampler", [noise._gaussian(10.0), noise._laplace(10.0, 1.0)])
def test_the_library_adds_whole_noise_to_large_integers_exactly(sampler):
    # A float of 2**61 has steps of 512: the low bits would be lost.
    offsets = {sampler.add_noise(2**61 + 1) - 2**61 for _ in range(200)}
    assert all(isinstance(offset, int) and abs(offset) < 1000 for offset in offsets)
    assert any(offset % 2 for offset in offsets)
    assert any(offset % 2 == 0 for offset in offsets)


def test_samplers_are_built_in_steps_and_with_the_sensitivity(monkeypatch):
    asked = []

    class Silent:
        def add_noise(self, value):
            return value

    monkeypatch.setattr(noise, "_laplace", lambda *args: asked.append(args) or Silent())
    monkeypatch.setattr(noise, "_gaussian", lambda *args: asked.append(args) or Silent())
    for mechanism in (LAPLACE, GAUSSIAN):
        added = noise.AdditiveNoise(mechanism=mechanism)
        for _ in range(2):
            assert added.to_counts(np.array([5, -1])).tolist() == [5.0, -1.0]
            assert added.to_sums(np.array([2**40]), GRID).tolist() == [2**40 * GRID.step]
    step = GRID.step
    assert asked == [(3.0, 1.5), (3.0 / step, 1.5 / step), (2.0,), (2.0 / step,)]


def test_a_count_that_a_float_would_round_fails_the_run():
    message = "a count must stay below 2**53 to be released, and one did not; nothing was published"
    for count in (2**53, -(2**53), -(2**63)):
        with pytest.raises(RunFailed, match=f"^{re.escape(message)}$"):
            noise.AdditiveNoise(mechanism=GAUSSIAN).to_counts(np.array([1, count]))


def test_noise_beyond_whole_steps_is_refused():
    message = (
        "stage s: the noise of v_sum must be below 2**26 times its value bounds, got gaussian noise of scale 1e+09; "
        "raise epsilon or the metric's weight, or lower l0 or linf"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        noise.check(Gaussian(stage="s", metric="v_sum", sigma=1e9, l2=1.0), Grid.for_bounds(0.0, 1.0))
    with pytest.raises(UsageError):
        noise.check(Gaussian(stage="s", metric="v_sum", sigma=2.0**26, l2=1.0), Grid.for_bounds(0.0, 1.0))
    noise.check(Gaussian(stage="s", metric="v_sum", sigma=2.0**25, l2=1.0), Grid.for_bounds(0.0, 1.0))


@pytest.mark.parametrize("exponent", [30, 45, 55])
def test_the_library_draws_the_largest_noise_that_is_let_through(exponent):
    for sampler in (noise._gaussian(2.0**exponent), noise._laplace(2.0**exponent, 2.0**30)):
        drawn = [sampler.add_noise(2**61) - 2**61 for _ in range(50)]
        assert any(drawn)
        assert max(map(abs, drawn)) < 2 ** (exponent + 6)


def test_a_quantity_without_noise_is_refused_unless_the_selection_has_it():
    metrics = (Metric(kind="privacy_id_count", name="n"), Metric(kind="count", name="rows"))
    threshold = GaussianThresholding(stage="s", sigma=1.0, l2=1.0, threshold=3.0, delta=1e-3, l0=1)
    counted = Gaussian(stage="s", metric="count", sigma=1.0, l2=1.0)
    spec = StageSpec(
        name="s", unit="u", keys=("p",), key_types=("int64",), bounds=Bounds(l0=1, linf=1),
        metrics=metrics, noise={"count": counted}, selection=threshold,
    )  # fmt: skip
    assert noise.noises(spec) == {"count": noise.AdditiveNoise(mechanism=counted)}
    message = "stage s: quantity privacy_id_count has no noise; a plan must give it a mechanism"
    with pytest.raises(ValueError, match=f"^{message}$"):
        noise.noises(replace(spec, selection=None))
