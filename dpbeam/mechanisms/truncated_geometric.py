"""The ε and δ that PyDP is handed for a truncated geometric selection, so that its doubles stay within the plan.

PyDP computes the probabilities of keeping in doubles (`NearTruncatedGeometricPartitionSelection` of
google/differential-privacy, cc/algorithms/partition-selection.h), so that each is off by a little, and beside a tiny δ
a little is much. Hence PyDP gets less than the plan states, by more than its rounding comes to.

With ε₀ = ε/l0 and δ₀ = 1 − (1 − δ)^(1/l0), all that a selection must keep to is, for every number of units n,

    p(n+1) ≤ e^ε₀·p(n) + δ₀   and   1 − p(n) ≤ e^ε₀·(1 − p(n+1)) + δ₀

and the same the other way round, which holds as p rises. The exact p of theorem 1 of Desfontaines et al.
(https://arxiv.org/abs/2006.03684) meets both. If what is drawn is off by at most r in each p, both hold with
δ₀ + (1 + e^ε₀)·r. r = 2**-47 is enough: below the crossover p ≤ 1/2 is δ₀ times a ratio of expm1's whose exponents are
at most ln(e^ε₀/2δ₀) < 32, so it is relative to p by fewer than 40 roundings of 2**-53; above it each term is at most 1
and adds a few more; a crossover that falls one too far is a tie within the same rounding; `UniformDouble() <= p` adds
one; gaps (`dpbeam.mechanisms.rare_partitions`) four. That is less than 64 roundings in all.

Guarantee: what PyDP does, given `pydp_parameters`, is (ε, δ)-DP as the mechanism states, over all of its l0 partitions.
tests/unit/mechanisms/test_truncated_selection.py takes PyDP's doubles and checks both lines in exact arithmetic over
all that a policy may state. What would break it: other formulas in PyDP.
"""

from __future__ import annotations

import math

from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import TruncatedGeometric

ROUNDING = 2.0**-47
"""By how much one of PyDP's probabilities may be off."""
_PART = 10
"""Rounding takes at most this part of δ₀: where e^ε₀ would make it more, PyDP gets a smaller ε."""
LEAST_DELTA = _PART * (1 + 2) * ROUNDING
"""The smallest δ a partition, 2.1e-13: there PyDP gets ε₀ = ln 2 at most, which is still of use."""


def check(mechanism: TruncatedGeometric) -> None:
    """Refuses a δ a partition that PyDP's doubles don't reach. To be called before anything is charged.

    Raises:
        UsageError: it is below `LEAST_DELTA`.
    """
    share = _share(mechanism.delta, mechanism.l0)
    if not share >= LEAST_DELTA:
        raise UsageError(
            f"stage {mechanism.stage}: truncated_geometric needs a delta of at least {LEAST_DELTA:.2g} for each of l0 "
            f"({mechanism.l0}) partitions, and has {share:.2g} of the run's; choose laplace_thresholding, raise the "
            "run's delta or the selection's weight, or lower l0"
        )


def pydp_parameters(mechanism: TruncatedGeometric) -> tuple[float, float]:
    """(ε, δ) for PyDP, over all l0 partitions: less than the mechanism states, by what rounding may come to.

    Raises:
        UsageError: as `check`.
    """
    check(mechanism)
    share = _share(mechanism.delta, mechanism.l0)
    most = math.log(share / (_PART * ROUNDING) - 1)
    epsilon = min(mechanism.epsilon, most * mechanism.l0)
    # Nearer to 1, δ itself would be rounded by too much; a plan gives its selections half of the run's at most.
    return epsilon, min(0.5, _whole(share - _rounded(epsilon / mechanism.l0), mechanism.l0))


def stated_delta(epsilon: float, delta: float, l0: int) -> float:
    """The δ to state where PyDP is given (`epsilon`, `delta`) as it is: more, by what rounding may come to.

    Raises:
        UsageError: there is none below 1.
    """
    share = _share(delta, l0) + (_rounded(epsilon / l0) if epsilon / l0 < 100 else math.inf)
    if not share < 1:
        raise UsageError(f"truncated_geometric has no delta below 1 for epsilon {epsilon:g} and l0 {l0}; lower epsilon")
    return _whole(share, l0)


def _rounded(epsilon: float) -> float:
    """What rounding may add to δ₀."""
    return (1 + math.exp(epsilon)) * ROUNDING


def _share(delta: float, l0: int) -> float:
    return -math.expm1(math.log1p(-delta) / l0)


def _whole(share: float, l0: int) -> float:
    return -math.expm1(l0 * math.log1p(-share))
