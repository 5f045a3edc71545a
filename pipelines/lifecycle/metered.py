"""What a run costs in the meter of its dataset's budget, and what a stated cap is in it: amounts of the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.meters import Basic, Meter
from dpbeam.mechanisms.events import Mechanism


def cost_in(meter: Meter, mechanisms: Sequence[Mechanism], *, epsilon: float, delta: float) -> Amount:
    """What mechanisms that were certified for (ε, δ) cost in the meter, rounded up.

    Guarantee: in `basic` it is that ε and δ; in others the certifier's bound on these mechanisms, which owes nothing to
    how they were calibrated (`dpbeam.accounting.metering`).

    Raises:
        Refused: the mechanisms have no cost in the meter.
    """
    if isinstance(meter, Basic):
        return Amount.charge(epsilon, delta)
    from dpbeam.accounting.metering import metered_cost  # lazily: budgets of `basic` need no SciPy

    cost = metered_cost(mechanisms, meter.name)
    return Amount.charge(cost.loss, cost.delta, meter)


def cap_in(meter: Meter, stated: Amount) -> Amount:
    """What a cap stated in ε and δ is in the meter, rounded down.

    Raises:
        UsageError: it is less than the smallest unit of the meter.
    """
    if isinstance(meter, Basic):
        return stated
    from dpbeam.accounting.metering import metered_cap

    cap = metered_cap(stated.epsilon / 10**12, stated.delta / 10**18, meter.name)
    return Amount.cap(cap.loss, cap.delta, meter)


def as_epsilon(amount: Amount, delta: float) -> float:
    """The ε that an amount of ρ or μ² proves at `delta`, rounded up; of `basic`, its own."""
    loss = amount.epsilon / 10**12
    if isinstance(amount.meter, Basic):
        return loss
    from dpbeam.accounting.metering import epsilon_of

    return epsilon_of(loss, delta, amount.meter.name)
