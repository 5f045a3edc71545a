"""What is done to a dataset's policies in the ledger: bind guardrails, submit, approve, activate, revert, look back.

    book = PolicyBook(ledger=ledger)
    version = book.submit("visits", text=…, written=…)

Each act is one transaction, after the dataset's whole history was verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dpbeam.errors import Refused, UsageError
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import Budget
from dpbeam.ledger.actors import operator
from dpbeam.ledger.bookkeeping import chained
from dpbeam.ledger.entries import JournalEntry, Reserved
from dpbeam.ledger.governance import messages
from dpbeam.ledger.governance.enforcing import Place, check_approved, fault, place_of
from dpbeam.ledger.governance.facts import (
    GuardrailsBound,
    PolicyActivated,
    PolicyApproved,
    PolicyFact,
    PolicyReverted,
    PolicySubmitted,
)
from dpbeam.ledger.governance.messages import Approval
from dpbeam.ledger.governance.state import Governance, People, PolicyVersion, digest_of_text
from dpbeam.ledger.identities import SigningKey, verifies
from dpbeam.ledger.ledger import Ledger
from dpbeam.ledger.store import Store, Transaction, ledger_id
from dpbeam.ledger.verifying import Verifier

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PolicyBook:
    """The policies of a ledger's datasets. Every method raises LedgerError where there is no such budget, its history
    doesn't verify, or the ledger can't be used; `UsageError` of what can't be recorded."""

    ledger: Ledger

    def governance(self, dataset: str) -> Governance:
        """What the dataset's budget is held under, after verifying its history."""
        return self.ledger.budget(dataset).terms.governance

    def place(self, dataset: str) -> Place:
        """The dataset's place, now."""
        with self._store.read() as tx:
            return place_of(tx, dataset, ledger_id(self._store))

    def bind(self, dataset: str, text: str, *, approvals: Sequence[Approval] = ()) -> str:
        """Binds the dataset's budget to guardrails, by their canonical text; returns their digest.

        The first need nobody's word; others in their place need that of two of the approvers whom those before name, or
        of as many as a policy needs, if that is more, or of the only one.

        Raises:
            Refused: those are bound already; too few approve, or somebody's word doesn't count; says whose, and why.
        """
        with self._changing(dataset) as (tx, budget, place):
            before = budget.terms.governance
            if before.guardrails == text:
                raise Refused(f"dataset {dataset} is bound to these guardrails already ({before.guardrails_digest})")
            fact = _usable(GuardrailsBound, text=text, approvals=tuple(each.approved for each in approvals))
            if before.guardrails is not None:
                _check_rebound(before, digest_of_text(text), approvals, place)
            self._state(tx, budget, replace(before, guardrails=text), fact)
        return fact.digest

    def submit(self, dataset: str, *, text: str, written: str, key: SigningKey | None = None) -> PolicyVersion:
        """Writes a policy down as the dataset's next version, signed if a key is given.

        Raises:
            Refused: the newest version is this very policy; or the guardrails ask for approvals, and don't know who
                submits.
        """
        with self._changing(dataset) as (tx, budget, place):
            before = budget.terms.governance
            number, digest = len(before.versions) + 1, digest_of_text(text)
            if before.versions and before.versions[-1].digest == digest:
                raise Refused(f"dataset {dataset}: version {number - 1} is this very policy ({digest})")
            name = None if key is None else before.people.name_of(key.public)
            if before.people.needed and name is None:
                raise Refused(
                    f"dataset {dataset}: its guardrails ask for approval by a second person, so they must know who is "
                    "the first. Nothing was submitted. What you can do: submit with --key FILE, as one whom the "
                    f"guardrails name ({', '.join(sorted({**before.people.submitters, **before.people.approvers}))})"
                )
            who = name or operator()
            said = messages.submission(
                ledger=place.ledger, dataset=dataset, number=number, digest=digest, submitter=who
            )
            fact = _usable(
                PolicySubmitted,
                number=number,
                text=text,
                written=written,
                submitter=who,
                key=None if key is None else key.public,
                signature=None if key is None else key.sign(said),
            )
            version = PolicyVersion(number=number, digest=digest, submitter=who, key=fact.key)
            self._state(tx, budget, replace(before, versions=(*before.versions, version)), fact)
        return version

    def approval(self, dataset: str, number: int, *, key: SigningKey, expires: str) -> Approval:
        """The word of whose key this is for a version, signed; nothing is written.

        Raises:
            Refused: there is no such version, or the guardrails name nobody of this key.
        """
        governance, place = self.governance(dataset), self.place(dataset)
        version = version_of(governance, dataset, number)
        unsigned = Approval(
            subject="policy",
            ledger=place.ledger,
            dataset=dataset,
            number=number,
            digest=version.digest,
            by=_approver(governance.people, dataset, key),
            expires=expires,
        )
        return unsigned.signed(key)

    def guardrails_approval(self, dataset: str, text: str, *, key: SigningKey, expires: str) -> Approval:
        """The word of whose key this is for guardrails in place of those that are bound, signed; nothing is written.

        Raises:
            Refused: the guardrails that are bound name nobody of this key.
        """
        governance, place = self.governance(dataset), self.place(dataset)
        unsigned = Approval(
            subject="guardrails",
            ledger=place.ledger,
            dataset=dataset,
            number=0,
            digest=digest_of_text(text),
            by=_approver(governance.people, dataset, key),
            expires=expires,
            instead_of=governance.guardrails_digest or "",
        )
        return unsigned.signed(key)

    def approve(self, dataset: str, approval: Approval) -> PolicyVersion:
        """Writes somebody's word for a version down.

        Raises:
            Refused: it is for another dataset, ledger, version or digest, of nobody whom the guardrails name, of the
                submitter, expired, or signed with another key.
        """
        with self._changing(dataset) as (tx, budget, place):
            before = budget.terms.governance
            version = version_of(before, dataset, approval.number)
            _check_meant(approval, place, subject="policy", digest=version.digest)
            why = fault(before, version, _usable(lambda: approval.approved), place)
            if why is not None:
                raise Refused(
                    f"dataset {dataset}: the approval of version {version.number} by {approval.by} is refused: {why}"
                )
            others = tuple(each for each in version.approvals if each.by != approval.by)
            approved = replace(version, approvals=(*others, approval.approved))
            fact = PolicyApproved(number=version.number, digest=version.digest, approval=approval.approved)
            self._state(tx, budget, _with(before, approved), fact)
        return approved

    def activate(self, dataset: str, number: int) -> PolicyVersion:
        """From now on runs of the dataset are of this version.

        Raises:
            Refused: there is no such version, it is active already, or it isn't approved.
        """
        with self._changing(dataset) as (tx, budget, place):
            before = budget.terms.governance
            version = version_of(before, dataset, number)
            if before.active == number:
                raise Refused(f"dataset {dataset}: version {number} is active already")
            check_approved(before, version, place)
            active = replace(version, was_active=True)
            fact = PolicyActivated(number=number, digest=version.digest)
            self._state(tx, budget, replace(_with(before, active), active=number), fact)
        return active

    def revert(self, dataset: str, number: int | None = None, *, reason: str) -> PolicyVersion:
        """From now on runs are of an earlier version again; without a number, of the newest that was active.

        Raises:
            Refused: no version is active, this one isn't earlier or never was active, or it isn't approved any more.
        """
        with self._changing(dataset) as (tx, budget, place):
            before = budget.terms.governance
            earlier = [each.number for each in before.versions[: (before.active or 1) - 1] if each.was_active]
            if number is None and earlier:
                number = earlier[-1]
            if number not in earlier:
                which = "there is none" if not earlier else f"those are {', '.join(map(str, earlier))}"
                raise Refused(
                    f"dataset {dataset}: a policy is reverted to an earlier version that was active; {which}. "
                    "Another version is activated by `dpbeam policy activate`"
                )
            version = before.versions[number - 1]
            check_approved(before, version, place)
            fact = _usable(PolicyReverted, number=number, digest=version.digest, reason=reason)
            self._state(tx, budget, replace(before, active=number), fact)
        return version

    def submitted(self, dataset: str, number: int) -> PolicySubmitted:
        """A version as it was submitted, with its text. Raises Refused where there is none."""
        for entry in self.ledger.history(dataset):
            if isinstance(entry.fact, PolicySubmitted) and entry.fact.number == number:
                return entry.fact
        raise _no_version(self.governance(dataset), dataset, number)

    def charged(self, dataset: str, release_id: str) -> tuple[JournalEntry, Reserved]:
        """The entry by which a release was reserved. Raises Refused where there is none."""
        for entry in self.ledger.history(dataset):
            if isinstance(entry.fact, Reserved) and entry.fact.release_id == release_id:
                return entry, entry.fact
        raise Refused(f"dataset {dataset}: its journal has no release {release_id}; `dpbeam releases` lists them")

    @property
    def _store(self) -> Store:
        return self.ledger.store

    @contextmanager
    def _changing(self, dataset: str) -> Iterator[tuple[Transaction, Budget, Place]]:
        with self._store.write() as tx:
            tx.check_schema()
            budget = Verifier(store=self._store).verified(tx, dataset).budget
            if budget.terms.moved_to is not None:
                raise refusals.moved(dataset, budget.terms.moved_to)
            yield tx, budget, place_of(tx, dataset, ledger_id(self._store))

    def _state(self, tx: Transaction, budget: Budget, after: Governance, fact: PolicyFact) -> None:
        entry = chained(budget.dataset, budget, fact)
        tx.append(entry)
        terms = replace(budget.terms, governance=after)
        tx.update_budget(replace(budget, terms=terms, head_seq=entry.seq, head_hash=entry.hash))


def version_of(governance: Governance, dataset: str, number: int) -> PolicyVersion:
    """The version of this number. Raises Refused where there is none."""
    if not 1 <= number <= len(governance.versions):
        raise _no_version(governance, dataset, number)
    return governance.versions[number - 1]


def _no_version(governance: Governance, dataset: str, number: int) -> Refused:
    last = len(governance.versions)
    there = f"there are 1 to {last}" if last else "none was submitted: `dpbeam policy submit POLICY`"
    return Refused(f"dataset {dataset} has no version {number} of its policy; {there}")


def _approver(people: People, dataset: str, key: SigningKey) -> str:
    name = next((name for name, public in people.approvers.items() if public == key.public), None)
    if name is None:
        named = ", ".join(sorted(people.approvers)) or "none; bind guardrails with approvers first"
        raise Refused(f"dataset {dataset}: the key {key.public} is of none of its approvers ({named})")
    return name


def _check_rebound(before: Governance, digest: str, approvals: Sequence[Approval], place: Place) -> None:
    people = before.people
    least = min(len(people.approvers), max(2, people.needed))
    for each in approvals:
        _check_meant(each, place, subject="guardrails", digest=digest)
        key = people.approvers.get(each.by)
        if each.instead_of != before.guardrails_digest:
            raise _refused(each, "it is for other guardrails' place than those that are bound now")
        if key is None:
            raise _refused(each, f"{each.by} isn't an approver of the guardrails that are bound")
        if each.expires <= place.now:
            raise _refused(each, f"it expired at {each.expires[:16]}")
        if not verifies(key, each.message, each.signature):
            raise _refused(each, f"it isn't signed with the key that the guardrails name for {each.by}")
    if len({each.by for each in approvals}) < least:
        raise Refused(
            f"dataset {place.dataset} is bound to the guardrails {before.guardrails_digest}; others take their place "
            f"by the word of {least} of {', '.join(sorted(people.approvers))}. What you can do: give --key FILE or "
            "--approval FILE for each"
        )


def _check_meant(approval: Approval, place: Place, *, subject: str, digest: str) -> None:
    """Refuses a word that is for something else."""
    if approval.subject != subject:
        raise _refused(approval, f"it is for {approval.subject}, not {subject}")
    if approval.dataset != place.dataset:
        raise _refused(approval, f"it is for dataset {approval.dataset}")
    if approval.ledger != place.ledger:
        raise _refused(approval, "it is for another ledger")
    if approval.digest != digest:
        raise _refused(approval, f"it is for another digest, {approval.digest}; here it is {digest}")


def _refused(approval: Approval, why: str) -> Refused:
    return Refused(f"dataset {approval.dataset}: the approval by {approval.by} is refused: {why}")


def _with(before: Governance, version: PolicyVersion) -> Governance:
    versions = list(before.versions)
    versions[version.number - 1] = version
    return replace(before, versions=tuple(versions))


def _usable(make: Callable[..., T], **fields: Any) -> T:
    """What `make` makes, or a UsageError of what can't be recorded."""
    try:
        return make(**fields)
    except ValueError as error:
        raise UsageError(str(error)) from None
