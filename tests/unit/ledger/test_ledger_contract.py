"""What every store of a ledger must do. A store for another database passes these tests through `make_ledger`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from dpbeam.errors import LedgerError, Refused, UsageError
from dpbeam.ledger import Ledger, bookkeeping, open_ledger
from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.owner import Owner, alive
from dpbeam.ledger.refusals import FenceLost, KeyTaken
from dpbeam.ledger.scope import Protected, Scope

ONE = Amount.charge(1, 1e-6)
CAP = Amount.cap(3, 1e-5)
SHA = "0" * 64
PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request, tmp_path: Path) -> Callable[[], str]:
    """Names a place for a ledger that isn't there yet, each time another."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").url
    numbers = itertools.count()
    return lambda: str(tmp_path / f"ledger-{next(numbers)}.sqlite")


@pytest.fixture
def make_ledger(new_url: Callable[[], str]) -> Callable[[], Ledger]:
    """Makes, and then opens again, one ledger."""
    url = new_url()
    return lambda: open_ledger(url, create=True)


@pytest.fixture
def book(make_ledger: Callable[[], Ledger]) -> Ledger:
    made = make_ledger()
    made.create_budget("d", CAP)
    return made


def reserve(book: Ledger, key: str = "k", amount: Amount = ONE, **more) -> Charge:
    return book.reserve(
        "d",
        key,
        amount,
        **{"scope": PEOPLE, **more},
        owner=Owner.current(),
        policy_digest="sha256:1",
        release_id=f"r-{key}",
        path="/x",
    )


def test_a_reserved_amount_is_held_and_a_started_one_spent(book) -> None:
    charge = reserve(book)
    assert (book.balance("d").held, book.balance("d").spent) == (ONE, ZERO)
    book.start(charge)
    assert (book.balance("d").held, book.balance("d").spent) == (ZERO, ONE)


def test_only_a_reserved_charge_is_given_back(book) -> None:
    charge = reserve(book)
    book.refund(charge)
    assert book.balance("d").left == CAP
    started = book.start(reserve(book))
    with pytest.raises(Refused, match="only a charge that is RESERVED can be refunded"):
        book.refund(started)


def test_a_published_charge_stays_spent_and_known(book) -> None:
    charge = book.publish(book.start(reserve(book)), manifest_sha256=SHA)
    assert book.balance("d").spent == ONE
    assert book.find("d", "k") == charge
    assert book.charges("d") == book.charges() == [charge]


def test_a_closed_charge_stays_spent(book) -> None:
    book.close(book.start(reserve(book)))
    assert book.balance("d").spent == ONE


def test_the_refusal_says_what_was_asked_what_is_left_and_what_to_do(book) -> None:
    book.start(reserve(book, "a"))
    reserve(book, "b")
    with pytest.raises(Refused) as caught:
        reserve(book, "c", Amount.charge(1.5, 1e-6))
    assert str(caught.value) == (
        "dataset d: the run asks for ε 1.5, δ 0.000001, but only ε 1, δ 0.000008 is left of the cap ε 3, δ 0.00001 "
        "(spent ε 1, δ 0.000001; held by unfinished runs ε 1, δ 0.000001). Nothing was charged. What you can do: ask "
        "for less (run.epsilon, run.delta); wait for the runs that hold budget, or settle those that broke off with "
        "`dpbeam recover`; read a published release again under its name, at no cost."
    )
    assert caught.value.exit_code == 3


def test_the_cap_can_be_spent_to_the_last_unit_and_no_further(book) -> None:
    for number in range(3):
        book.start(reserve(book, f"k{number}"))
    assert book.balance("d").left.epsilon == 0
    with pytest.raises(Refused):
        reserve(book, "more", Amount(epsilon=1, delta=1))


def test_a_key_is_held_by_one_unfinished_run(book) -> None:
    first = reserve(book)
    with pytest.raises(KeyTaken) as caught:
        reserve(book)
    assert caught.value.charge == first


def test_a_published_key_is_charged_again_only_by_refresh(book) -> None:
    book.publish(book.start(reserve(book)), manifest_sha256=SHA)
    with pytest.raises(KeyTaken):
        reserve(book)
    reserve(book, refresh=True)
    assert book.balance("d").held == ONE


def test_another_stated_cap_is_refused(book) -> None:
    with pytest.raises(Refused, match="the ledger's cap is ε 3"):
        reserve(book, cap_stated=Amount.cap(4, 1e-5))


def test_a_second_budget_is_refused(book) -> None:
    with pytest.raises(Refused, match="already has a budget"):
        book.create_budget("d", CAP)


def test_a_dataset_without_a_budget_is_refused(book) -> None:
    with pytest.raises(LedgerError, match="dataset other has no budget"):
        book.balance("other")


def test_a_run_that_was_taken_over_can_do_nothing_more(book) -> None:
    old = book.start(reserve(book))
    book.retry(old.id, Owner.current(), staging_gone=True)
    for step in (
        lambda: book.publish(old, manifest_sha256=SHA),
        lambda: book.close(old),
        lambda: book.fail_attempt(old, "other"),
        lambda: book.retry(old, Owner.current(), staging_gone=True),
    ):
        with pytest.raises(FenceLost, match="publish nothing"):
            step()


def test_a_charge_is_retried_only_so_often(book) -> None:
    charge = book.start(reserve(book, max_attempts=2))
    charge = book.retry(charge, Owner.current(), staging_gone=True)
    with pytest.raises(Refused, match="has had 2 of 2 attempts"):
        book.retry(charge, Owner.current(), staging_gone=True)


def test_a_failed_attempt_is_marked_until_it_is_retried(book) -> None:
    charge = book.fail_attempt(book.start(reserve(book)), "pipeline")
    assert charge.failed
    assert not book.retry(charge, Owner.current(), staging_gone=True).failed
    book.verify()


def test_a_reason_outside_the_closed_set_is_refused_unseen(book) -> None:
    with pytest.raises(UsageError) as caught:
        book.fail_attempt(book.start(reserve(book)), "CANARY-7f3a")
    assert "CANARY" not in str(caught.value)


def test_a_clock_that_goes_back_changes_nothing(book, monkeypatch) -> None:
    charge = reserve(book)
    monkeypatch.setattr(bookkeeping, "utc_now", lambda: datetime(1970, 1, 1, tzinfo=timezone.utc))
    book.publish(book.start(charge), manifest_sha256=SHA)
    assert book.verify() == 6


def test_this_process_lives_and_a_past_one_does_not() -> None:
    here = Owner.current()
    assert alive(here) is True
    assert alive(Owner(pid=here.pid, host=here.host, token=here.token + "0")) is False
    assert alive(Owner(pid=here.pid, host="another-host", token=here.token)) is None


class LedgerMachine(RuleBasedStateMachine):
    """Any order of calls, by holders of any fence, against a model of a few lines."""

    new_url: ClassVar[Callable[[], str]]

    def __init__(self) -> None:
        super().__init__()
        self.book = open_ledger(type(self).new_url(), create=True)
        self.book.create_budget("d", CAP)
        self.states: dict[str, str] = {}
        self.held: list[Charge] = []

    @rule(key=st.sampled_from("abcdef"))
    def reserve(self, key: str) -> None:
        busy = [s for s in self.states.values() if s not in ("REFUNDED",)]
        taken = self.book.find("d", key)
        free = taken is None or taken.state == "SPENT_UNPUBLISHED"
        try:
            charge = reserve(self.book, key)
        except KeyTaken:
            assert not free
        except Refused:
            assert free
            assert len(busy) == 3
        else:
            assert free
            assert len(busy) < 3
            self.states[charge.id] = "RESERVED"
            self.held.append(charge)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), step=st.sampled_from(["start", "refund", "publish", "close", "retry", "fail_attempt"]))
    def step(self, data, step: str) -> None:
        charge = data.draw(st.sampled_from(self.held))
        now = self.book.charge(charge.id)
        before = {"start": "RESERVED", "refund": "RESERVED"}.get(step, "STARTED")
        after = {"start": "STARTED", "refund": "REFUNDED", "publish": "PUBLISHED", "close": "SPENT_UNPUBLISHED"}
        call = {
            "start": lambda: self.book.start(charge),
            "refund": lambda: self.book.refund(charge),
            "publish": lambda: self.book.publish(charge, manifest_sha256=SHA),
            "close": lambda: self.book.close(charge),
            "retry": lambda: self.book.retry(charge, Owner.current(), staging_gone=True),
            "fail_attempt": lambda: self.book.fail_attempt(charge, "other"),
        }[step]
        allowed = now.fence == charge.fence and now.state == before and (step != "retry" or now.attempt < 3)
        try:
            moved = call()
        except (Refused, FenceLost):
            assert not allowed
            return
        assert allowed
        self.states[charge.id] = after.get(step, "STARTED")
        self.held.append(moved)

    @invariant()
    def the_balance_is_what_the_states_say(self) -> None:
        balance = self.book.balance("d")
        counts = {s: list(self.states.values()).count(s) for s in set(self.states.values())}
        spent = sum(counts.get(s, 0) for s in ("STARTED", "PUBLISHED", "SPENT_UNPUBLISHED"))
        assert balance.spent.epsilon == spent * ONE.epsilon
        assert balance.held.epsilon == counts.get("RESERVED", 0) * ONE.epsilon
        self.book.verify()


def test_any_order_of_calls_does_what_the_model_says(request, new_url) -> None:
    machine = type("Machine", (LedgerMachine,), {"new_url": staticmethod(new_url)})
    examples = 8 if "postgresql" in request.node.name else 25  # it takes three times as long
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=20, deadline=None))
