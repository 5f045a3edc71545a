"""The errors that users meet: what each class promises, and that every one comes whole from another process."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import pytest

import dpbeam
from dpbeam.errors import (
    DataError,
    DpbeamError,
    InternalError,
    Interrupted,
    LedgerError,
    Refused,
    RunFailed,
    Spent,
    UsageError,
)
from dpbeam.ledger.accounts import Balance, Charge
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.meters import BASIC
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.refusals import FenceLost, KeyTaken, Locked, Unreachable, not_enough
from dpbeam.policy.violations import PolicyError, Violation
from dpbeam.reporting.certify import Uncertified

ONE = Amount.charge(1, 1e-6)
CHARGE = Charge(
    id="c",
    dataset="d",
    key="k",
    amount=ONE,
    state="STARTED",
    fence=2,
    attempt=1,
    max_attempts=3,
    owner=Owner(pid=7, host="host"),
    release_id="r",
    policy_digest="p",
)
SPENT = Spent(charge="c", dataset="d", amount="ε 1, δ 0.000001", epsilon=1.0, delta=1e-6, attempt=1, max_attempts=3)
MADE = {
    DpbeamError: DpbeamError("it is wrong", remedy="mend it").knowing(spent=SPENT, log="/x/run.log"),
    FenceLost: FenceLost(CHARGE, CHARGE),
    Interrupted: Interrupted("stopped by SIGINT; nothing was charged", 130),
    KeyTaken: KeyTaken(CHARGE),
    Locked: Locked("/x/ledger.sqlite", 60.0),
    PolicyError: PolicyError([Violation(file="f", line=1, key="k", value="1", rule="is wrong", remedy="Mend it.")]),
    Unreachable: Unreachable("postgresql://h/db", "Connection refused"),
    Uncertified: Uncertified("manifest.json", ("files: one is missing", "delta: it differs")),
}
"""Of each class with a constructor of its own, one error."""


def load(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def classes(kind: type[DpbeamError] = DpbeamError) -> Iterator[type[DpbeamError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from classes(below)


def test_every_error_comes_whole_through_pickling_and_copying() -> None:
    load(dpbeam)
    found = set(classes())
    assert len(found) >= 12
    own = {kind for kind in found if "__init__" in vars(kind)}
    assert own == set(MADE)
    for kind in found:
        error = MADE.get(kind) or kind("what is wrong", "and what to do")
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
            assert type(again) is kind
            assert again.args == error.args
            assert str(again) == str(error)
            assert vars(again) == vars(error)
            assert again.exit_code == error.exit_code


def test_an_error_s_fields_end_its_message() -> None:
    assert MADE[DpbeamError].saying("and more").lines == (
        "it is wrong; mend it",
        "and more",
        "ε 1, δ 0.000001 of dataset d stays spent (charge c, attempt 1 of 3, 2 left): the same command on the same "
        "input tries again under the same charge, at no further cost.",
        "Log: /x/run.log (it may hold raw values; see docs/exit_codes.md)",
    )


def test_an_error_as_json_states_each_field_once() -> None:
    assert MADE[DpbeamError].to_json() == {
        "code": 4,
        "kind": "DpbeamError",
        "message": "it is wrong",
        "remedy": "mend it; the same command on the same input tries again under the same charge, at no further cost",
        "charge": {
            "id": "c",
            "dataset": "d",
            "epsilon": 1.0,
            "delta": 1e-6,
            "attempt": 1,
            "max_attempts": 3,
            "attempts_left": 2,
        },
        "log": "/x/run.log",
    }
    assert UsageError("a", "b").to_json() == {
        "code": 2, "kind": "UsageError", "message": "a\nb", "remedy": None, "charge": None, "log": None,
    }  # fmt: skip


def test_the_last_attempt_names_another_way() -> None:
    last = replace(SPENT, attempt=3)
    assert (last.attempts_left, last.remedy.partition(";")[0]) == (0, "these were all attempts of this charge")
    assert "attempt 3 of 3, none left" in str(last)


def test_an_internal_error_says_where_and_nothing_that_it_said() -> None:
    try:
        raise KeyError("CANARY")
    except KeyError as error:
        said = str(InternalError.of(error))
    assert said.startswith("internal error KeyError at test_errors.py:")
    assert "CANARY" not in said


def test_an_error_that_says_more_stays_what_it_is() -> None:
    said = MADE[KeyTaken].saying("one more line")
    assert isinstance(said, KeyTaken)
    assert said.charge == CHARGE
    assert said.lines == (*MADE[KeyTaken].lines, "one more line")
    assert isinstance(DataError("a").saying("b"), DataError)


@pytest.mark.parametrize(
    ("kind", "code"), [(UsageError, 2), (Refused, 3), (LedgerError, 3), (KeyTaken, 3), (RunFailed, 4), (FenceLost, 4)]
)
def test_an_exit_code_says_what_it_says_in_the_readme(kind, code) -> None:
    assert (MADE.get(kind) or kind("x")).exit_code == code


def test_what_may_come_after_the_charge_is_no_refusal() -> None:
    assert not any(issubclass(kind, Refused | UsageError) for kind in (LedgerError, Locked, RunFailed, FenceLost))


def test_a_refusal_over_money_says_that_nothing_was_charged() -> None:
    balance = Balance(meter=BASIC, cap=ONE, spent=ONE, held=ZERO)
    assert "Nothing was charged." in str(not_enough("d", ONE, balance))
