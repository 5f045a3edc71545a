"""What PyDP's doubles do, given what a truncated geometric selection hands to it, is within what the plan states.

The two lines that make a selection private are checked in 60-digit arithmetic, on the very doubles that PyDP compares
its uniform draws with, at every number of units near an end or a crossover and at some between. Both kinds of rounding
of a draw are allowed for, to the outside.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydp.algorithms.partition_selection import create_partition_strategy

from dpbeam.accounting.certify import certify_events
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms import rare_partitions, truncated_geometric
from dpbeam.mechanisms.events import TruncatedGeometric
from dpbeam.mechanisms.selection import Selector

EXACT = Context(prec=60)
GAP = Decimal(2) ** -45
"""Relative, by which a chance is met where partitions are skipped."""


def mechanism(epsilon, delta, l0=1, pre_threshold=1):
    return TruncatedGeometric(stage="s", epsilon=epsilon, delta=delta, l0=l0, pre_threshold=pre_threshold)


def chances(strategy, units):
    """The least and the greatest probability with which PyDP, or a gap, may keep a partition of so many units."""
    chance = strategy.probability_of_keep(units)
    low, high = Decimal(chance), Decimal(min(1.0, math.nextafter(chance, 2)))  # `UniformDouble() <= chance`
    if 0 < chance <= rare_partitions.MOST:
        low, high = low * (1 - GAP), high * (1 + GAP)
    return low, high


def counts(epsilon, delta, pre_threshold):
    """Of units, where probabilities are near 0, near 1 or change their formula, and between."""
    crossover = math.log1p(math.tanh(epsilon / 2) * (1 / delta - 1)) / epsilon
    found = set(range(40))
    for part in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0):
        found |= {int(crossover * part) + more for more in range(-12, 13)}
    return sorted(units + pre_threshold - 1 for units in found if units >= 0)


def excess(selection, given_to_pydp):
    """By how much the worst pair of neighbouring numbers of units is over δ₀, as a part of it; negative where none."""
    epsilon, delta = given_to_pydp
    more = () if selection.pre_threshold == 1 else (selection.pre_threshold,)
    strategy = create_partition_strategy("truncated_geometric", epsilon, delta, selection.l0, *more)
    share = -math.expm1(math.log1p(-delta) / selection.l0)
    with localcontext(EXACT):
        growth = (Decimal(selection.epsilon) / selection.l0).exp()
        stated = 1 - ((1 - Decimal(selection.delta)).ln() / selection.l0).exp()
        worst = Decimal(-1)
        for units in counts(epsilon / selection.l0, share, selection.pre_threshold):
            (low, high), (next_low, next_high) = chances(strategy, units), chances(strategy, units + 1)
            needed = (
                next_high - growth * low,
                (1 - low) - growth * (1 - next_high),
                high - growth * next_low,
                (1 - next_low) - growth * (1 - high),
            )
            worst = max(worst, max(needed) / stated - 1)
    return float(worst)


SHARES = [
    truncated_geometric.LEAST_DELTA * 1.0000001,
    3e-13,
    1e-12,
    1e-11,
    1e-10,
    1e-9,
    1e-7,
    1e-5,
    1e-3,
    0.1,
    0.5,
    0.9,
]
EPSILONS = [1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 0.7, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 37.0, 100.0, 1000.0]


def whole(share, l0):
    return -math.expm1(l0 * math.log1p(-share))


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("l0", [1, 100, 65_536])
def test_pydp_stays_within_the_stated_epsilon_and_delta(share, l0):
    delta = whole(share, l0)
    if not delta < 1:
        delta = 0.999
    for epsilon in EPSILONS:
        selection = mechanism(epsilon * l0, delta, l0, pre_threshold=1 if l0 == 1 else 7)
        assert excess(selection, truncated_geometric.pydp_parameters(selection)) <= 0, epsilon


@given(
    st.floats(math.log(1e-9), math.log(1e3)).map(math.exp),
    st.floats(math.log(truncated_geometric.LEAST_DELTA * 1.001), math.log(0.99)).map(math.exp),
    st.one_of(st.just(1), st.integers(1, 2**31 - 1)),
    st.one_of(st.just(1), st.integers(1, 2**31 - 2)),
)
@example(1.0, 2.2e-13, 1, 1)
@example(0.69, 2.2e-13, 1, 1)
@settings(deadline=None, max_examples=150)
def test_pydp_stays_within_what_any_policy_may_state(epsilon, share, l0, pre_threshold):
    delta = whole(share, l0)
    if not delta < 1 - 1e-9:
        delta = 1 - 1e-9
    selection = mechanism(epsilon * l0, delta, l0, pre_threshold)
    assert excess(selection, truncated_geometric.pydp_parameters(selection)) <= 0


@pytest.mark.parametrize(("epsilon", "share"), [(1e-3, 3e-13), (1.0, 1e-12), (12.0, 1e-10), (40.0, 1e-3)])
def test_what_is_stated_is_too_much_for_pydp(epsilon, share):
    """So this test would notice if PyDP were given all of it."""
    selection = mechanism(epsilon, share)
    assert excess(selection, (epsilon, share)) > 0


@pytest.mark.parametrize(("l0", "delta"), [(100, 1e-12), (65_536, 1e-8), (1, 1e-20), (1, 1e-300)])
def test_a_delta_below_what_doubles_reach_is_refused_with_what_to_do(l0, delta):
    selection = mechanism(1.0, delta, l0)
    for refusing in (
        truncated_geometric.check,
        truncated_geometric.pydp_parameters,
        lambda m: Selector(mechanism=m).keep([1]),
    ):
        with pytest.raises(UsageError) as refused:
            refusing(selection)
        assert str(refused.value) == (
            f"stage s: truncated_geometric needs a delta of at least 2.1e-13 for each of l0 ({l0}) partitions, and has "
            f"{-math.expm1(math.log1p(-delta) / l0):.2g} of the run's; choose laplace_thresholding, raise the run's "
            "delta or the selection's weight, or lower l0"
        )
    with pytest.raises(Refused, match=r"^stage s: truncated_geometric needs a delta of at least 2\.1e-13"):
        certify_events([selection], epsilon=2.0, delta=0.5)


@given(st.floats(0.001, 30), st.floats(math.log(3e-13), math.log(0.5)).map(math.exp), st.integers(1, 1000))
@settings(max_examples=100)
def test_what_is_stated_for_what_pydp_is_given_is_what_it_was_given_for(epsilon, share, l0):
    selection = mechanism(epsilon * l0, min(0.4, whole(share, l0)), l0)
    given_to_pydp = truncated_geometric.pydp_parameters(selection)
    assert truncated_geometric.stated_delta(*given_to_pydp, l0) == pytest.approx(selection.delta, rel=1e-9)


def test_an_epsilon_that_leaves_no_delta_to_state_is_refused():
    for epsilon in (40.0, 5000.0):
        with pytest.raises(UsageError, match=rf"^truncated_geometric has no delta below 1 for epsilon {epsilon:g} and"):
            truncated_geometric.stated_delta(epsilon, 0.1, 1)


def test_a_usual_selection_loses_next_to_nothing():
    selection = mechanism(1.0, 1e-6, 10)
    epsilon, delta = truncated_geometric.pydp_parameters(selection)
    assert (epsilon, delta) == (1.0, pytest.approx(1e-6, rel=1e-6))
