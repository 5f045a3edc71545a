"""A release's steps are taken one after the other, on values that can't be had too early."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.owner import Owner
from dpbeam.pipelines.lifecycle import stopping
from dpbeam.pipelines.lifecycle.steps import Walk, step
from dpbeam.pipelines.lifecycle.values import Charged, Published, Reserved, charge_of

NOTHING: Any = None
"""In place of what a test doesn't look at."""
RESERVED = Charge(
    id="c",
    dataset="visits",
    key="k",
    amount=Amount.charge(1.0, 1e-6),
    state="RESERVED",
    fence=1,
    attempt=1,
    max_attempts=3,
    owner=Owner.current(),
    release_id="r",
    policy_digest="sha256:0",
    path="/releases/visits/r",
)
STARTED = replace(RESERVED, state="STARTED")
CLOSED = replace(RESERVED, state="SPENT_UNPUBLISHED")


@pytest.mark.parametrize("charge", [RESERVED, CLOSED], ids=lambda charge: charge.state)
def test_a_run_whose_cost_is_not_spent_can_not_read(charge) -> None:
    with pytest.raises(ValueError, match=f"must be STARTED before data is read, got one that is {charge.state}"):
        Charged(checked=NOTHING, charge=charge)


def test_a_closed_charge_is_not_gone_on_with() -> None:
    with pytest.raises(ValueError, match="charge must be open, got one that is SPENT_UNPUBLISHED"):
        Reserved(checked=NOTHING, charge=CLOSED)


def test_a_run_has_no_charge_before_one_is_reserved() -> None:
    assert charge_of(NOTHING) is None
    assert charge_of(Reserved(checked=NOTHING, charge=RESERVED)) == RESERVED
    assert charge_of(Published(request=NOTHING, charge=STARTED, stages=(), chosen=())) == STARTED


@step("Reserving")
def reserving(_: object) -> Reserved:
    return Reserved(checked=NOTHING, charge=RESERVED)


@step("Breaking off")
def breaking_off(_: object) -> Charged:
    raise LookupError


def test_a_walk_says_each_step_and_keeps_the_charge_that_the_last_one_left() -> None:
    told: list[str] = []
    walk = Walk(told.append)
    assert walk.charge is None
    reserved = walk.take(reserving, None)
    with pytest.raises(LookupError):
        walk.take(breaking_off, reserved)
    assert told == ["Reserving", "Breaking off"]
    assert walk.charge == RESERVED


@pytest.mark.parametrize("held", [False, True])
def test_a_signal_tears_a_step_unless_it_is_held_and_then_the_next_is_not_begun(held) -> None:
    done: list[str] = []

    @step("Working", held=held)
    def working(name: str) -> str:
        signal.raise_signal(signal.SIGTERM)
        done.append(name)
        return name

    walk = Walk(lambda says: None)
    with stopping.listening():
        with pytest.raises(stopping.Stopped):
            walk.take(working, walk.take(working, "first"))
        assert done == ["first"] * held
