"""Noise goes on exact integers, in steps that the plan fixes, by one sampler a mechanism; what can't be exact is
refused. What the steps mean for what is released: test_released_bits.py."""

from __future__ import annotations

import math
import pickle
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dpbeam.engine.release import releaser
from dpbeam.engine.release.noises import noises
from dpbeam.engine.stage import StageSpec
from dpbeam.errors import RunFailed, UsageError
from dpbeam.mechanisms import noise, noise_step
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, LaplaceThresholding
from dpbeam.mechanisms.fixedpoint import Grid
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.counts import Count, UnitCount
from dpbeam.queries.metrics.top_k import TopK

GAUSSIAN = Gaussian(stage="s", metric="count", sigma=2.0, l2=1.0)
LAPLACE = Laplace(stage="s", metric="count", scale=3.0, l1=1.5)
GRID = Grid.for_bounds(0.0, 100.0)
SCALES = st.floats(min_value=2.0**-60, max_value=2.0**200)


def events(scale):
    return (
        replace(GAUSSIAN, sigma=scale),
        replace(LAPLACE, scale=scale),
        GaussianThresholding(stage="s", sigma=scale, l2=1.0, threshold=3.0, delta=1e-3, l0=1),
        LaplaceThresholding(stage="s", scale=scale, l1=1.0, threshold=3.0, delta=1e-3, l0=1),
    )


class Fixed:
    """Stands in for PyDP: adds what it is told to."""

    def __init__(self, *drawn):
        self.drawn = list(drawn)

    def add_noise(self, value):
        return value + self.drawn.pop(0)


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
    assert not sent._sampler
    assert len(sent.to_counts(np.array([1, 2]))) == 2


def test_counts_get_noise_that_is_not_rounded_to_whole_ones():
    values = noise.AdditiveNoise(mechanism=GAUSSIAN).to_counts(np.full(50, 7))
    assert (values != np.rint(values)).any()


@given(SCALES)
def test_the_scale_is_between_half_of_all_steps_and_all_of_them(scale):
    for mechanism in events(scale):
        step = noise_step.step_of(mechanism)
        assert math.frexp(step)[0] == 0.5
        most = 2 ** (40 if "laplace" in mechanism.kind else 48)
        assert Fraction(most, 2) < Fraction(scale) / Fraction(step) <= most


@given(SCALES)
def test_what_is_drawn_is_as_wide_as_planned(scale):
    """Not by sampling: what PyDP is built with, and by how much it widens that, says the scale that is drawn."""
    from pydp.algorithms.numerical_mechanisms import GaussianMechanism

    asked = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(GaussianMechanism, "create_from_standard_deviation", lambda std: asked.append(std))
        patched.setattr("pydp.algorithms.numerical_mechanisms.LaplaceMechanism", lambda *args: asked.append(args))
        for mechanism in events(scale):
            noise._sampler(mechanism)
    for gaussian, (epsilon, sensitivity), step in (
        (asked[0], asked[1], [noise_step.step_of(mechanism) for mechanism in events(scale)[:2]]),
        (asked[2], asked[3], [noise_step.step_of(mechanism) for mechanism in events(scale)[2:]]),
    ):
        assert Fraction(gaussian) * Fraction(step[0]) == Fraction(scale)
        granularity = 1  # the next power of two of scale / 2**40, see `LAPLACE_BITS`
        drawn = (Fraction(sensitivity) + granularity) / Fraction(epsilon) * Fraction(step[1])
        assert 1 < drawn / Fraction(scale) < 1 + Fraction(1, 2**38)


@given(SCALES)
def test_pydp_has_a_laplace_granularity_of_one_step_and_a_gaussian_one_of_less_than_a_hundredth(scale):
    """The formulas of `GetNextPowerOfTwo`, in doubles as there."""
    laplace = (scale / noise_step.step_of(events(scale)[1])) / 2.0**40
    assert 2.0 ** math.ceil(math.log2(laplace)) == 1
    gaussian = 2 * (scale / noise_step.step_of(events(scale)[0])) / 2.0**57
    assert 2.0 ** math.ceil(math.log2(gaussian)) in (2.0**-9, 2.0**-8)  # the finer one of a σ just above 2**47 steps


def divergence(first, second, epsilon):
    return float(np.maximum(first - np.exp(epsilon) * second, 0).sum())


@pytest.mark.parametrize("scale", [1.0, 2.5, 16.0, 40.0])
@pytest.mark.parametrize("shift", [1, 2, 5, 30])
def test_whole_steps_of_a_scale_wider_by_a_step_are_dominated_by_the_planned_laplace_noise(scale, shift):
    """Hockey-stick divergences, of the law that PyDP draws and of the one that is composed, at every ε."""
    steps_ = np.arange(-4000, 4000)
    law = np.exp(-np.abs(steps_) / (scale + 1))
    law /= law.sum()
    moved = np.roll(law, shift)
    for epsilon in np.linspace(-1, 1, 101) * shift / scale:
        planned = -math.expm1(-(shift / scale - epsilon) / 2)
        assert divergence(law, moved, epsilon) <= planned + 1e-13


GRANULES = 256
"""Google's Gaussian sampler draws whole granules; in the size that it is asked for here, so many make a step."""


def granules_of(step):
    """How many of the granules around a whole number of steps end as it: they are cut to a double's 53 bits, halves to
    even (`SampleBinomial`), and the double is rounded to a whole number, halves away from 0 (`AddInt64Noise`)."""
    near = range((step - 1) * GRANULES, (step + 1) * GRANULES + 1)
    drawn = (float(granule) / GRANULES for granule in near)
    return sum(int(math.copysign(math.floor(abs(each) + 0.5), each)) == step for each in drawn)


@given(st.integers(1, 2**51 + 2**48), st.sampled_from([1, -1]))
def test_every_number_of_steps_is_made_of_as_many_granules_of_the_gaussian_sampler(step, sign):
    """So its parity, and its other low bits, are those of noise alone."""
    assert granules_of(sign * step) == GRANULES or step & (step - 1) == 0


def test_where_doubles_change_their_spacing_a_step_lacks_granules_but_hardly_ever_comes():
    """At 0 and at powers of two: together they lack less than 2**-53 of all draws."""
    assert 2**51 + 2**48 > 8.9 * 2**48  # it draws none beyond 8.9 σ
    for sigma in (2.0**47, 2.0**48):
        lacking = 0.0
        for step in (0, *(sign * 2**power for power in range(52) for sign in (1, -1))):
            density = math.exp(-((step / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
            lacking += density * abs(1 - granules_of(step) / GRANULES)
        assert 0 < lacking < 2.0**-53


def test_noise_too_fine_for_floats_has_no_step():
    with pytest.raises(ValueError, match=r"^noise must have a scale of at least 2\*\*-900, got 1e-290$"):
        noise_step.step_of(replace(GAUSSIAN, sigma=1e-290))


@given(
    st.integers(-(2**62), 2**62),
    st.integers(-(2**52), 2**52),
    st.integers(-8, 80),
    st.integers(-60, 60),
)
def test_the_exact_sum_of_value_and_noise_is_rounded_once(value, drawn, bits, exponent):
    """What comes out is the float64 nearest to the exact sum, while that has less than 53 bits before its unit; beyond,
    within two of such roundings."""
    unit = 2.0**exponent
    mechanism = replace(GAUSSIAN, sigma=2.0 ** (48 + exponent - max(bits, 0)))
    added = noise.AdditiveNoise(mechanism=mechanism, _sampler=[Fixed(drawn)])
    if bits < 0:
        finer = replace(GRID, step=math.ldexp(unit, bits))
        with pytest.raises(ValueError, match=r"^noise in steps of .* can't be drawn for values in steps of "):
            added.to_sums(np.array([value]), finer)
        return
    (noisy,) = added.to_sums(np.array([value]), replace(GRID, step=unit)).tolist()
    exact = Fraction(value) * Fraction(unit) + Fraction(drawn) * Fraction(added.step)
    if abs(value) < 2**52:
        assert noisy == float(exact)
    assert abs(Fraction(noisy) - exact) <= Fraction(1, 2**51) * abs(exact)
    assert (Fraction(noisy) / Fraction(added.step)).denominator == 1


@given(st.integers(-(2**60), 2**60), st.integers(-(2**52), 2**52), st.integers(-(2**52), 2**52), st.integers(0, 60))
def test_equal_exact_sums_give_equal_results(value, first, second, bits):
    """However a sum is split between value and noise: what is released is a function of the sum alone."""
    apart, moved = divmod(second - first, 1 << bits)
    if moved:
        second -= moved
    assume(abs(second) <= 2**52)  # no draw has more bits
    added = noise.AdditiveNoise(mechanism=replace(GAUSSIAN, sigma=2.0 ** (48 - bits)), _sampler=[Fixed(first, second)])
    found = added.to_sums(np.array([value, value - apart]), replace(GRID, step=1.0))
    assert found[0] == found[1]


@pytest.mark.parametrize("mechanism", events(5.0))
def test_every_draw_is_asked_for_alike(monkeypatch, mechanism):
    """PyDP is never given a value: neither a float, which would get float noise, nor a small integer, which older
    versions give noise of 32 bits."""
    given_ = []

    class Watched:
        def add_noise(self, value):
            given_.append(value)
            return value

    monkeypatch.setattr(noise, "_gaussian", lambda _: Watched())
    monkeypatch.setattr(noise, "_laplace", lambda _: Watched())
    added = noise.AdditiveNoise(mechanism=mechanism)
    assert added.to_counts(np.array([5, -1, 2**40])).tolist() == [5.0, -1.0, 2.0**40]
    assert added.to_sums(np.array([2**40]), GRID).tolist() == [2**40 * GRID.step]
    assert given_ == [2**33] * 4
    assert {type(value) for value in given_} == {int}


@pytest.mark.parametrize("sampler", [noise._gaussian(2.0**48), noise._laplace(2.0**40)])
def test_the_library_draws_integers_of_more_than_32_bits_and_of_any_parity(sampler):
    drawn = [sampler.add_noise(2**33) - 2**33 for _ in range(200)]
    assert all(isinstance(each, int) for each in drawn)
    assert max(drawn) > 2**34
    assert min(drawn) < -(2**34)
    assert {each % 2 for each in drawn} == {0, 1}


def test_each_mechanism_builds_one_sampler(monkeypatch):
    asked = []
    monkeypatch.setattr(noise, "_laplace", lambda *args: asked.append(args) or Fixed(*range(9)))
    monkeypatch.setattr(noise, "_gaussian", lambda *args: asked.append(args) or Fixed(*range(9)))
    for mechanism in (LAPLACE, GAUSSIAN):
        added = noise.AdditiveNoise(mechanism=mechanism)
        for _ in range(2):
            added.to_counts(np.array([5, -1]))
            added.to_sums(np.array([2**40]), GRID)
    assert asked == [(0.75 * 2.0**40,), (2.0**48,)]


def test_a_count_that_a_float_would_round_fails_the_run():
    message = "a count must stay below 2**53 to be released, and one did not; nothing was published"
    for count in (2**53, -(2**53), -(2**63)):
        with pytest.raises(RunFailed, match=f"^{re.escape(message)}$"):
            noise.AdditiveNoise(mechanism=GAUSSIAN).to_counts(np.array([1, count]))


def test_a_sum_that_leaves_no_room_for_noise_fails_the_run():
    added = noise.AdditiveNoise(mechanism=GAUSSIAN)
    assert len(added.to_sums(np.array([2**62, -(2**62)]), GRID)) == 2
    for steps_ in (2**62 + 1, -(2**62) - 1, -(2**63)):
        with pytest.raises(
            RunFailed, match=r"^a sum must stay within 2\*\*62 of its steps to be released, and one did"
        ):
            added.to_sums(np.array([1, steps_]), GRID)


def test_noise_that_leaves_nothing_of_the_values_is_refused():
    message = (
        "stage s: the noise of v_sum must be below 2**26 times its value bounds, got gaussian noise of scale 1e+09; "
        "raise epsilon or the metric's weight, or lower l0 or linf"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        noise.check(Gaussian(stage="s", metric="v_sum", sigma=1e9, l2=1.0), Grid.for_bounds(0.0, 1.0))
    with pytest.raises(UsageError):
        noise.check(Gaussian(stage="s", metric="v_sum", sigma=2.0**26, l2=1.0), Grid.for_bounds(0.0, 1.0))
    noise.check(Gaussian(stage="s", metric="v_sum", sigma=2.0**25, l2=1.0), Grid.for_bounds(0.0, 1.0))


@pytest.mark.parametrize(("event", "bits"), list(zip(events(1.0), (48, 40, 48, 40), strict=True)))
def test_noise_on_counts_in_steps_above_one_is_refused_beforehand_and_when_drawn(event, bits):
    name = "sigma" if "gaussian" in event.kind else "scale"
    most, more = (replace(event, **{name: 2.0**bits * factor}) for factor in (1, 1.001))
    noise.check_counts(most)
    noise.AdditiveNoise(mechanism=most).to_counts(np.array([3]))
    message = (
        f"stage s: the noise of {event.metric} must have a scale of 2**{bits} at most, got {2.0**bits * 1.001:g}; "
        "raise epsilon or the metric's weight, or lower l0 or linf"
    )
    for refuses in (noise.check_counts, lambda event: noise.AdditiveNoise(mechanism=event).to_counts(np.array([3]))):
        with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
            refuses(more)


def stage(**changes):
    made = StageSpec(
        name="s", unit="u", keys=("p",), key_types=("int64",), bounds=Bounds(l0=1, linf=1),
        metrics=(Count(name="rows"),), noise={"count": GAUSSIAN}, selection=None,
    )  # fmt: skip
    return replace(made, **changes)


def test_a_stage_is_refused_for_the_noise_of_any_of_its_counts():
    releaser.check(stage())
    top = TopK(name="top", column="v", k=1, max_values=1)
    threshold = replace(events(1.0)[2], sigma=2.0**49)
    for refused in (
        stage(noise={"count": replace(GAUSSIAN, sigma=2.0**49)}),
        stage(selection=threshold),
        stage(metrics=(top,), noise={}, thresholds={"top": replace(threshold, metric="top")}),
    ):
        with pytest.raises(UsageError, match=r"must have a scale of 2\*\*48 at most"):
            releaser.check(refused)


def test_a_quantity_without_noise_is_refused_unless_the_selection_has_it():
    metrics = (UnitCount(name="n"), Count(name="rows"))
    threshold = GaussianThresholding(stage="s", sigma=1.0, l2=1.0, threshold=3.0, delta=1e-3, l0=1)
    counted = Gaussian(stage="s", metric="count", sigma=1.0, l2=1.0)
    spec = stage(metrics=metrics, noise={"count": counted}, selection=threshold)
    assert noises(spec) == {"count": noise.AdditiveNoise(mechanism=counted)}
    message = "stage s: quantity privacy_id_count has no noise; a plan must give it a mechanism"
    with pytest.raises(ValueError, match=f"^{message}$"):
        noises(replace(spec, selection=None))
