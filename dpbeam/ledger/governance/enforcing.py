"""Whether a run may be charged: its policy is the active version, approved, and was checked against the guardrails.

Guarantee: of a dataset that is bound to guardrails no charge is made by a program that didn't check them; of one that
has an active version, or whose guardrails ask for approvals, none for another policy than the active version, while as
many people as the guardrails ask for, none of them its submitter, have signed it and their word hasn't expired. Assumes
that who makes a charge says truly which policy it is for, that each person alone has their key, and a clock that isn't
behind: the time of the journal's last entry is the least that it is taken to be.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpbeam.errors import Refused
from dpbeam.ledger.bookkeeping import utc_now
from dpbeam.ledger.governance.messages import Approval
from dpbeam.ledger.governance.state import Approved, Governance, PolicyVersion
from dpbeam.ledger.identities import verifies
from dpbeam.ledger.store import Transaction


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What a run says of itself beside its policy: the digest of the plan it will keep to, the code that runs it, and
    the digest of the guardrails that its policy was checked against."""

    plan_digest: str | None = None
    code: str | None = None
    guardrails: str | None = None


UNSAID = Configuration()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which dataset of which ledger, and what time it is at least."""

    ledger: str
    dataset: str
    now: str


def place_of(tx: Transaction, dataset: str, ledger: str) -> Place:
    """The dataset's place; it is at least as late as the journal's last entry says."""
    last = tx.last_entry(dataset)
    now = utc_now().isoformat(timespec="milliseconds")
    return Place(ledger=ledger, dataset=dataset, now=now if last is None else max(now, last.time))


def check_run(governance: Governance, place: Place, *, policy_digest: str, configuration: Configuration) -> None:
    """Whether a run of this policy may be charged.

    Raises:
        Refused: it may not; says what to do.
    """
    dataset, bound = place.dataset, governance.guardrails_digest
    if bound is not None and configuration.guardrails != bound:
        was = "none" if configuration.guardrails is None else configuration.guardrails
        raise Refused(
            f"dataset {dataset}: its budget is bound to the guardrails {bound}; this run was checked against {was}. "
            "Nothing was charged. What you can do: run it by `dpbeam run`, which checks those of the ledger; if others "
            f"were bound meanwhile, run it again; `dpbeam policy history {dataset}` shows them"
        )
    active, needed = governance.active_version, governance.people.needed
    if active is None and not needed:
        return
    if active is None:
        raise Refused(
            f"dataset {dataset}: its guardrails ask for a policy that is approved, and no version is active. Nothing "
            f"was charged. What you can do: `dpbeam policy submit POLICY`, have it approved (`dpbeam policy approve "
            f"{dataset} VERSION`), then `dpbeam policy activate {dataset} VERSION`"
        )
    if policy_digest != active.digest:
        raise _another(governance, dataset, policy_digest, active)
    check_approved(governance, active, place)


def check_approved(governance: Governance, version: PolicyVersion, place: Place) -> None:
    """Whether the version has the approvals that the guardrails ask for, now.

    Raises:
        Refused: it hasn't; says whose count, and why others don't.
    """
    people = governance.people
    if not people.needed:
        return
    if version.key is None or people.name_of(version.key) != version.submitter:
        raise Refused(
            f"dataset {place.dataset}: version {version.number} was submitted by {version.submitter}, whose key the "
            "guardrails don't name, so nobody can tell a second person's approval from their own. Nothing was charged. "
            "What you can do: submit it again with --key, as one of the guardrails' submitters or approvers"
        )
    faults = [(each.by, fault(governance, version, each, place)) for each in version.approvals]
    counted = [by for by, why in faults if why is None]
    if len(counted) < people.needed:
        whose = f"that of {', '.join(counted)}" if counted else "none"
        said = "".join(f"; {by}'s doesn't count: {why}" for by, why in faults if why is not None)
        raise Refused(
            f"dataset {place.dataset}: version {version.number} needs {people.needed} approvals and has {whose}{said}. "
            f"Nothing was charged. What you can do: `dpbeam policy approve {place.dataset} {version.number} --key "
            f"FILE`, by {_or(sorted(set(people.approvers) - {version.submitter} - set(counted)))}"
        )


def fault(governance: Governance, version: PolicyVersion, approved: Approved, place: Place) -> str | None:
    """Why an approval of the version doesn't count; None if it does."""
    key = governance.people.approvers.get(approved.by)
    if key is None:
        return f"{approved.by} isn't an approver of the guardrails"
    if approved.by == version.submitter or key == version.key:
        return "who submits a version can't approve it"
    if approved.expires <= place.now:
        return f"it expired at {approved.expires[:16]}"
    approval = Approval(
        subject="policy",
        ledger=place.ledger,
        dataset=place.dataset,
        number=version.number,
        digest=version.digest,
        by=approved.by,
        expires=approved.expires,
    )
    if not verifies(key, approval.message, approved.signature):
        return f"it isn't signed with the key that the guardrails name for {approved.by}"
    return None


def _another(governance: Governance, dataset: str, digest: str, active: PolicyVersion) -> Refused:
    known = [version.number for version in governance.versions if version.digest == digest]
    if known:
        number = known[-1]
        what = f"is version {number}"
        step = "revert" if number < active.number else "activate"
        do = f"`dpbeam policy {step} {dataset} {number}`, once it is approved"
    else:
        what, do = "was never submitted", "`dpbeam policy submit POLICY`, have it approved, and activate it"
    return Refused(
        f"dataset {dataset}: runs are of version {active.number} of its policy, {active.digest}; this one, {digest}, "
        f"{what}. Nothing was charged. What you can do: run the active version (`dpbeam policy show {dataset}` prints "
        f"it); or {do}"
    )


def _or(names: list[str]) -> str:
    return " or ".join(names) if names else "somebody whom the guardrails come to name"
