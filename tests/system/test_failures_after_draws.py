"""What fails after something was drawn, and may fail since it was: the charge is closed, and nothing is drawn again."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from dpbeam.errors import LedgerError
from dpbeam.ledger import Ledger
from dpbeam.phases import bounds, coverage
from dpbeam.pipelines.jobs import aggregate
from dpbeam.pipelines.lifecycle import publish, release
from tests.conftest import Workspace

PLACES: dict[str, tuple[Any, str]] = {
    "choosing bounds": (bounds, "choose"),
    "taking tables": (release, "hierarchy"),
    "learning coverage": (coverage, "_coverage"),
    "writing tables": (publish, "write_tables"),
    "drawing the report": (release, "render"),
    "writing the manifest": (publish, "write_manifest"),
}


@pytest.fixture
def jobs(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first stage of each job that drew, of a run that finds a bound, selects leaves and buys its coverage."""
    (stage,) = workspace.policy["stages"]
    stage["bounds"] = {"l0": {"auto": {"max": 8, "otherwise": 2}}, "linf": 2}
    workspace.policy["coverage"] = {"share": 0.1}
    stage["partitions"]["private"] = {"strategy": "gaussian_thresholding", "other": True}
    stage["noise"] = "gaussian"
    workspace.policy["budget"] = {"epsilon": 100.0, "delta": 1e-3}
    workspace.create_budget()
    drew: list[str] = []
    run = aggregate.run

    def watched(job: aggregate.Job, options: Any) -> Any:
        drew.append(job.stages[0].name)
        return run(job, options)

    monkeypatch.setattr(aggregate, "run", watched)
    return drew


class PanicException(BaseException):
    """As libraries in Rust raise it."""


def break_(monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    module, name = PLACES[place]
    if place == "taking tables":
        monkeypatch.setattr(module.hierarchy, "shown", broken)
    else:
        monkeypatch.setattr(module, name, broken)


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("17"), MemoryError(), KeyError("kanarienvogel"), PanicException("kanarienvogel")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("place", PLACES)
def test_a_failure_that_may_follow_from_draws_closes_the_charge(
    place: str,
    error: BaseException,
    workspace: Workspace,
    jobs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """That it fails tells of the draws; three attempts that draw anew would tell of three, for one charge."""
    with monkeypatch.context() as broken:
        break_(broken, place, error)
        assert workspace.run() == 4
    said = capsys.readouterr().err
    assert f"internal error {type(error).__name__}" in said
    assert "this charge is closed" in " ".join(said.split())
    assert "kanarienvogel" not in said
    (charge,) = workspace.open_ledger().charges("visits")
    assert charge.state == "SPENT_UNPUBLISHED"
    assert workspace.manifests() == []
    assert workspace.left_behind() == []
    drew = len(jobs)
    assert drew == (1 if place == "choosing bounds" else len(set(jobs)))
    assert workspace.run() == 3
    assert len(jobs) == drew
    workspace.open_ledger().verify()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "kanarienvogel"), LedgerError("can't be reached")])
@pytest.mark.parametrize("place", ["writing tables", "drawing the report", "writing the manifest"])
def test_what_the_machine_or_the_ledger_lacks_leaves_the_charge_to_another_attempt(
    place: str, error: Exception, workspace: Workspace, jobs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with monkeypatch.context() as broken:
        break_(broken, place, error)
        assert workspace.run() == (3 if isinstance(error, LedgerError) else 4)
    assert "attempt 1 of 3, 2 left" in " ".join(capsys.readouterr().err.split())
    drew = len(jobs)
    ledger: Ledger = workspace.open_ledger()
    spent = ledger.balance("visits").spent
    assert workspace.run() == 0
    assert len(jobs) == 2 * drew
    assert ledger.balance("visits").spent == spent
