"""What a journal's facts of policies amount to: derived apart from `book`, which writes them, so that each checks the
other. Signatures are checked here too: an entry that somebody made up, however well it is chained, isn't signed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dpbeam.ledger.governance import messages
from dpbeam.ledger.governance.facts import (
    GuardrailsBound,
    PolicyActivated,
    PolicyApproved,
    PolicyFact,
    PolicyReverted,
    PolicySubmitted,
)
from dpbeam.ledger.governance.state import Approved, Governance, PolicyVersion
from dpbeam.ledger.identities import verifies


class Unfounded(ValueError):
    """An entry of policies that can't follow; its text says why."""


def followed(before: Governance, fact: PolicyFact, *, dataset: str, ledger: str) -> Governance:
    """The governance after the fact.

    Raises:
        Unfounded: it can't follow.
    """
    place: dict[str, Any] = {"ledger": ledger, "dataset": dataset}
    match fact:
        case GuardrailsBound(text=text, approvals=approvals):
            if before.guardrails is not None:
                _rebound(before, fact, approvals, place)
            return replace(before, guardrails=text)
        case PolicySubmitted(number=number, digest=digest, submitter=submitter, key=key, signature=signature):
            _need(number == len(before.versions) + 1, f"version {number} isn't the next")
            people = before.people
            if people.needed:
                _need(key is not None and people.name_of(key) == submitter, f"{submitter} isn't known by this key")
            if key is not None and signature is not None:
                said = messages.submission(**place, number=number, digest=digest, submitter=submitter)
                _need(verifies(key, said, signature), f"the submission isn't signed by {submitter}")
            made = PolicyVersion(number=number, digest=digest, submitter=submitter, key=key)
            return replace(before, versions=(*before.versions, made))
        case PolicyApproved(number=number, digest=digest, approval=approval):
            version = _version(before, number, digest)
            key_of = before.people.approvers.get(approval.by)
            _need(key_of is not None, f"{approval.by} isn't an approver")
            _need(approval.by != version.submitter and key_of != version.key, f"{approval.by} submitted it")
            _signed(approval, str(key_of), subject="policy", number=number, digest=digest, **place)
            others = tuple(each for each in version.approvals if each.by != approval.by)
            return _with(before, replace(version, approvals=(*others, approval)))
        case PolicyActivated(number=number, digest=digest):
            version = _version(before, number, digest)
            _enough(before, version, place)
            _need(before.active != number, f"version {number} is active already")
            return replace(_with(before, replace(version, was_active=True)), active=number)
        case PolicyReverted(number=number, digest=digest):
            version = _version(before, number, digest)
            _enough(before, version, place)
            _need(before.active is not None and number < before.active, f"version {number} isn't an earlier one")
            _need(version.was_active, f"version {number} was never active")
            return replace(before, active=number)
        case _:
            raise Unfounded(f"{type(fact).__name__} is no fact of a policy")


def _rebound(before: Governance, fact: GuardrailsBound, approvals: tuple[Approved, ...], place: dict[str, Any]) -> None:
    people = before.people
    least = min(len(people.approvers), max(2, people.needed))
    _need(len({each.by for each in approvals}) >= least, "too few approve of the new guardrails")
    for each in approvals:
        _need(each.by in people.approvers, f"{each.by} isn't an approver")
        old = before.guardrails_digest or ""
        key = people.approvers[each.by]
        _signed(each, key, subject="guardrails", number=0, digest=fact.digest, instead_of=old, **place)


def _signed(approved: Approved, key: str, **what: Any) -> None:
    approval = messages.Approval(**what, by=approved.by, expires=approved.expires)
    _need(verifies(key, approval.message, approved.signature), f"the approval isn't signed by {approved.by}")


def _enough(before: Governance, version: PolicyVersion, place: dict[str, Any]) -> None:
    people = before.people
    if not people.needed:
        return
    known = version.key is not None and people.name_of(version.key) == version.submitter
    _need(known, f"who submitted version {version.number} isn't known")
    by = {each.by for each in version.approvals if each.by in people.approvers}
    _need(len(by - {version.submitter}) >= people.needed, f"version {version.number} isn't approved")


def _version(before: Governance, number: int, digest: str) -> PolicyVersion:
    _need(number <= len(before.versions), f"there is no version {number}")
    version = before.versions[number - 1]
    _need(version.digest == digest, f"version {number} has another digest")
    return version


def _with(before: Governance, version: PolicyVersion) -> Governance:
    return replace(
        before, versions=tuple(version if each.number == version.number else each for each in before.versions)
    )


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unfounded(otherwise)
