"""What a run would do: the steps before the charge, and a look into the ledger, without a charge or a file written.

Guarantee: the ledger is asked with the very claim that a run makes (`charging.claim_of`), and answers by the same rules
(`dpbeam.ledger.reserving`). Nothing is written: no folder, no entry. Another run may come in between, so what is
foreseen is no promise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dpbeam.engine.release import releaser
from dpbeam.errors import UsageError
from dpbeam.ledger.accounts import Balance, Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.refusals import KeyTaken
from dpbeam.pipelines.lifecycle import catalogue, inputs, keys, publish, remarks
from dpbeam.pipelines.lifecycle.attempts import coverage_refusal, staging_area
from dpbeam.pipelines.lifecycle.charging import check_attempts, check_free, check_runner, claim_of, too_little
from dpbeam.pipelines.lifecycle.ownership import check_named, pending
from dpbeam.pipelines.lifecycle.release import plan
from dpbeam.pipelines.lifecycle.steps import Progress, Walk, step
from dpbeam.pipelines.lifecycle.values import Checked, Planned, Request


@dataclass(frozen=True, kw_only=True)
class WouldCharge:
    """A new release would be made. `after` is the dataset's balance then, `reason` why there is none yet."""

    request: Request
    amount: Amount
    after: Balance
    reason: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class IsCached:
    """The release was made before, and would come back at no cost."""

    request: Request
    charge: Charge
    remarks: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """By what it is known."""
        by = "bytes" if self.request.query.source.fingerprint == "content" else "names, sizes and times of change"
        return f"the policy, the name and the input (by its files' {by}) are those of this release"

    @property
    def folder(self) -> Path:
        return publish.release_folder(self.charge)


@dataclass(frozen=True, kw_only=True)
class WouldGoOn:
    """The release was paid for by a run that broke off, and would be gone on with at no further cost."""

    request: Request
    charge: Charge
    remarks: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why there is a charge already."""
        return "a run that broke off paid for it"


Foreseen = WouldCharge | IsCached | WouldGoOn
"""What a run would do. `remarks` are what is worth knowing before."""


def foresee(request: Request, progress: Progress = lambda says: None) -> Foreseen:
    """What `make_release` would do with the request.

    Raises:
        UsageError, Refused, LedgerError: as `make_release` before its charge; but whether the output can be written
            shows only when something is.
        RunFailed: the release was published, and isn't there any more.
    """
    walk = Walk(progress)
    planned = walk.take(plan, request)
    checked = walk.take(_look, planned)
    return replace(walk.take(_look_up, checked), remarks=remarks.of_run(checked))


@step("Checking the input")
def _look(planned: Planned) -> Checked:
    for spec in planned.parameters.stages:
        releaser.check(spec)
    return Checked(planned=planned, inputs=inputs.resolve(planned.parameters.query.source))


@step("Looking into the ledger")
def _look_up(checked: Checked) -> Foreseen:
    request, claim = checked.request, claim_of(checked)
    ledger = request.ledger
    known = keys.known(checked)
    if known is None or (request.refresh and known.state not in ("RESERVED", "STARTED")):
        try:
            after = ledger.foresee(claim)
        except KeyTaken as taken:
            return _resuming(request, taken.charge, claim.amount)
        check_runner(request)
        return WouldCharge(
            request=request,
            amount=claim.amount,
            after=after,
            reason="--refresh asks for a new one" if known is not None else _reason(request),
        )
    return _resuming(request, known, claim.amount)


def _reason(request: Request) -> str:
    """Why the ledger knows no such release: what differs from the newest one of the same name that is there."""
    try:
        listed = catalogue.releases(request.output, request.ledger, request.query.dataset)
    except UsageError:  # no folder yet
        listed = []
    there = [each.manifest for each in listed if each.standing == "verified" and each.manifest is not None]
    alike = [each for each in there if each.release_name == request.release_name]
    if not alike:
        return f"no release of this name is in {request.output}"
    newest = f"release {alike[-1].release_id} of this name was made"
    if alike[-1].policy_digest != request.query.digest:
        return f"{newest} under another policy"
    return f"{newest} {'of another input' if alike[-1].engine == request.engine else 'by another engine'}"


def _resuming(request: Request, charge: Charge, amount: Amount) -> Foreseen:
    """What `charging` would do with a charge of the same release."""
    area = staging_area(charge)
    if charge.state == "PUBLISHED":
        check_named(charge, [area])
        publish.check_whole(Path(area.release), publish.release_folder(charge), publish.manifest_digest(charge))
        return IsCached(request=request, charge=charge)
    check_free(request.ledger, charge)
    if charge.failed and (refusal := coverage_refusal(request.ledger, charge)):
        raise too_little(charge, refusal)
    if charge.state == "RESERVED":  # what is held is given back, and held again
        check_runner(request)
        return WouldCharge(
            request=request,
            amount=amount,
            after=request.ledger.balance(charge.dataset),
            reason="a run that broke off before it was charged began it",
        )
    if charge.failed or pending(charge, area) is None:
        check_attempts(charge)
        check_runner(request)
    return WouldGoOn(request=request, charge=charge)


def foreseen_json(foreseen: Foreseen) -> dict[str, object]:
    """What `dpbeam run --dry-run --json` prints; see docs/formats.md."""
    request = foreseen.request
    said = {"remarks": list(foreseen.remarks)} if foreseen.remarks else {}
    return {
        "version": 2 if said else 1,
        "dataset": request.query.dataset,
        "release_name": request.release_name,
        "reason": foreseen.reason,
        **_outcome(foreseen),
        **said,
    }


def _outcome(foreseen: Foreseen) -> dict[str, object]:
    match foreseen:
        case WouldCharge():
            left, charged = foreseen.after.left.to_json(), foreseen.amount.to_json()
            return {"outcome": "would_charge", "charge": charged, "left": left, "path": None}
        case IsCached():
            return {"outcome": "is_cached", "charge": None, "left": _left(foreseen), "path": str(foreseen.folder)}
        case WouldGoOn():
            return {"outcome": "would_go_on", "charge": None, "left": _left(foreseen), "path": None}


def _left(foreseen: IsCached | WouldGoOn) -> dict[str, float | int]:
    return foreseen.request.ledger.balance(foreseen.charge.dataset).left.to_json()
