"""Which policy a budget may be spent on: no door goes around it, and what was tampered with is found and named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpbeam.errors import LedgerError, Refused, UsageError
from dpbeam.ledger import Amount, Charge, Ledger, Owner, Protected, Scope, open_ledger
from dpbeam.ledger.bookkeeping import chained
from dpbeam.ledger.governance.book import PolicyBook
from dpbeam.ledger.governance.enforcing import Configuration
from dpbeam.ledger.governance.facts import PolicyApproved, PolicySubmitted
from dpbeam.ledger.governance.messages import Approval
from dpbeam.ledger.governance.state import digest_of_text
from dpbeam.ledger.identities import SigningKey, make_key
from tests.helpers.signing import ALICE, BOB, CAROL, FAR, MALLORY, PAST, guardrails

TEXT, OTHER = '{"policy":1}', '{"policy":2}'
DIGEST = digest_of_text(TEXT)
BOUND = digest_of_text(guardrails())


@pytest.fixture
def book(tmp_path) -> PolicyBook:
    """A budget that is bound to guardrails, with one version that Bob submitted."""
    ledger = open_ledger(str(tmp_path / "ledger.sqlite"), create=True)
    ledger.create_budget("d", Amount.cap(10, 1e-5), protected=Protected(unit="person"))
    made = PolicyBook(ledger=ledger)
    made.bind("d", guardrails())
    made.submit("d", text=TEXT, written="a policy", key=BOB)
    return made


def charge(ledger: Ledger, digest: str = DIGEST, checked: str | None = BOUND) -> Charge:
    return ledger.reserve(
        "d",
        "key",
        Amount.charge(1, 1e-7),
        owner=Owner(pid=1, host="h"),
        scope=Scope(protected=Protected(unit="person"), sources=("/x",)),
        policy_digest=digest,
        release_id="r",
        configuration=Configuration(guardrails=checked),
    )


def word(book: PolicyBook, key: SigningKey = ALICE, **changes: object) -> Approval:
    place = book.place("d")
    stated = {"subject": "policy", "ledger": place.ledger, "dataset": "d", "number": 1, "digest": DIGEST}
    return Approval(**{**stated, "by": "alice", "expires": FAR, **changes}).signed(key)


def test_a_charge_by_any_door_needs_the_active_approved_version_and_the_guardrails(book) -> None:
    with pytest.raises(Refused, match="no version is active"):
        charge(book.ledger)
    book.approve("d", word(book))
    book.activate("d", 1)
    with pytest.raises(Refused, match=f"bound to the guardrails {BOUND}; this run was checked against none"):
        charge(book.ledger, checked=None)
    with pytest.raises(Refused, match=r"runs are of version 1 of its policy.*was never submitted"):
        charge(book.ledger, digest_of_text(OTHER))
    assert book.ledger.balance("d").held == Amount(epsilon=0, delta=0)
    assert charge(book.ledger).state == "RESERVED"


@pytest.mark.parametrize(
    ("key", "changes", "said"),
    [
        (MALLORY, {}, "it isn't signed with the key that the guardrails name for alice"),
        (CAROL, {}, "it isn't signed with the key that the guardrails name for alice"),
        (MALLORY, {"by": "mallory"}, "mallory isn't an approver of the guardrails"),
        (BOB, {"by": "bob"}, "bob isn't an approver of the guardrails"),
        (ALICE, {"expires": PAST}, "it expired at 2020-01-31T00:00"),
        (ALICE, {"digest": digest_of_text(OTHER)}, "it is for another digest"),
        (ALICE, {"dataset": "e"}, "it is for dataset e"),
        (ALICE, {"ledger": "other"}, "it is for another ledger"),
        (ALICE, {"subject": "guardrails"}, "it is for guardrails, not policy"),
        (ALICE, {"number": 7}, "no version 7"),
    ],
)
def test_a_word_that_does_not_count_is_refused_and_named(book, key, changes, said) -> None:
    with pytest.raises(Refused, match=said):
        book.approve("d", word(book, key, **changes))
    assert book.governance("d").versions[0].approvals == ()


def test_nobody_approves_what_they_submitted(book) -> None:
    book.submit("d", text=OTHER, written="b", key=ALICE)
    with pytest.raises(Refused, match="who submits a version can't approve it"):
        book.approve("d", word(book, number=2, digest=digest_of_text(OTHER)))
    book.approve("d", word(book, CAROL, number=2, digest=digest_of_text(OTHER), by="carol"))
    assert book.activate("d", 2).number == 2


def test_a_submitter_whom_nobody_knows_is_refused_where_approval_is_asked_for(book) -> None:
    for key in (None, MALLORY):
        with pytest.raises(Refused, match="they must know who is the first"):
            book.submit("d", text=OTHER, written="b", key=key)


def test_a_version_from_before_the_guardrails_is_not_approvable(tmp_path) -> None:
    ledger = open_ledger(str(tmp_path / "ledger.sqlite"), create=True)
    ledger.create_budget("d", Amount.cap(10, 1e-5))
    book = PolicyBook(ledger=ledger)
    book.submit("d", text=TEXT, written="a")
    book.activate("d", 1)
    book.bind("d", guardrails())
    book.approve("d", word(book))
    with pytest.raises(Refused, match="whose key the guardrails don't name"):
        charge(ledger)


def test_approvals_end_with_their_approver_and_when_the_key_is_another(book) -> None:
    book.approve("d", word(book))
    book.activate("d", 1)
    swapped = guardrails(approvers={"alice": MALLORY.public, "carol": CAROL.public})
    words = [
        book.guardrails_approval("d", swapped, key=ALICE, expires=FAR),
        book.guardrails_approval("d", swapped, key=CAROL, expires=FAR),
    ]
    with pytest.raises(Refused, match="by the word of 2"):
        book.bind("d", swapped, approvals=words[:1])
    book.bind("d", swapped, approvals=words)
    with pytest.raises(Refused, match="isn't signed with the key that the guardrails name for alice"):
        charge(book.ledger, checked=digest_of_text(swapped))


def forge(book: PolicyBook, fact: object, **governance: object) -> None:
    """Writes an entry as somebody with the ledger's file could, chained and with the table to match."""
    with book.ledger.store.write() as tx:
        budget = tx.budget("d")
        entry = chained("d", budget, fact)
        tx.append(entry)
        terms = replace(budget.terms, governance=replace(budget.terms.governance, **governance))
        tx.update_budget(replace(budget, terms=terms, head_seq=entry.seq, head_hash=entry.hash))


def test_an_approval_that_was_written_past_the_ledger_is_found(book) -> None:
    approved = word(book, MALLORY).approved
    version = replace(book.governance("d").versions[0], approvals=(approved,))
    forge(book, PolicyApproved(number=1, digest=DIGEST, approval=approved), versions=(version,))
    with pytest.raises(LedgerError, match=r"entry 4 can't follow .*: the approval isn't signed by alice"):
        book.ledger.verify()
    with pytest.raises(LedgerError, match="the approval isn't signed by alice"):
        charge(book.ledger)


def test_a_submission_under_another_name_is_found(book) -> None:
    fact = PolicySubmitted(
        number=2, text=OTHER, written="b", submitter="bob", key=BOB.public, signature=MALLORY.sign(b"x")
    )
    forge(book, fact)
    with pytest.raises(LedgerError, match="the submission isn't signed by bob"):
        book.ledger.verify("d")


def test_a_table_that_says_another_version_is_active_is_found(book) -> None:
    with book.ledger.store.write() as tx:
        budget = tx.budget("d")
        terms = replace(budget.terms, governance=replace(budget.terms.governance, active=1))
        tx.update_budget(replace(budget, terms=terms))
    with pytest.raises(LedgerError, match="isn't what its journal amounts to"):
        charge(book.ledger)


def test_a_persons_key_lies_in_no_repository(tmp_path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(UsageError, match="lies in the repository"):
        make_key(tmp_path / "keys.pem")
    assert [each.name for each in tmp_path.iterdir()] == [".git"]
