"""Every kind of fact that a journal may state has its form, its effect and its words; its form never changes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from dpbeam.ledger import open_ledger
from dpbeam.ledger.allocation import Allocation
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.budget_facts import BudgetCreated, SourceAccepted, UnitBound
from dpbeam.ledger.canonical import canonical, parsed
from dpbeam.ledger.entries import (
    GENESIS,
    AttemptFailed,
    Closed,
    Fact,
    JournalEntry,
    Kind,
    Published,
    Record,
    Refunded,
    Reserved,
    Retried,
    Started,
    entry_hash,
    from_record,
    to_record,
)
from dpbeam.ledger.governance import messages
from dpbeam.ledger.governance.facts import (
    GuardrailsBound,
    PolicyActivated,
    PolicyApproved,
    PolicyFact,
    PolicyReverted,
    PolicySubmitted,
)
from dpbeam.ledger.governance.state import digest_of_text
from dpbeam.ledger.marks import Anchored, Arrived, KeyPinned, Moved
from dpbeam.ledger.meters import BASIC, GDP, ZCDP
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.replay import BrokenJournal, Replayed, replay
from dpbeam.ledger.scope import Protected
from dpbeam.ledger.terms import Terms
from dpbeam.ledger.words import heading, remark
from tests.helpers.signing import ALICE, BOB, FAR, guardrails

OLD = Path(__file__).parents[2] / "data" / "ledger-2.sql"
ONE = Amount.charge(1, 1e-6)
OWNER = Owner(pid=7, host="host", token="boot/1/2")
PERSON = Protected(unit="person")
KINDS: tuple[type, ...] = get_args(Fact)
IDS = [kind.__name__ for kind in KINDS]
LATER = (*get_args(PolicyFact), Anchored, KeyPinned, Moved, Arrived)
"""What no released program had written when the old ledger was made."""


def reserved(name: str, fence: int) -> Reserved:
    return Reserved(
        charge_id=name,
        amount=ONE,
        fence=fence,
        key=name,
        owner=OWNER,
        policy_digest="p",
        release_id=f"r-{name}",
        path=f"/x/r-{name}",
        max_attempts=3,
    )


def chained(facts: tuple[Fact, ...]) -> list[JournalEntry]:
    made: list[JournalEntry] = []
    for seq, fact in enumerate(facts, start=1):
        before = made[-1].hash if made else GENESIS
        entry = JournalEntry(dataset="d", seq=seq, time="now", fact=fact, prev_hash=before, hash="")
        made.append(replace(entry, hash=entry_hash(entry)))
    return made


def version(number: int) -> tuple[Fact, ...]:
    """What is stated of a version that Bob submitted and Alice approved."""
    text = f'{{"version":{number}}}'
    digest = digest_of_text(text)
    said = messages.submission(ledger="this", dataset="d", number=number, digest=digest, submitter="bob")
    word = messages.Approval(
        subject="policy", ledger="this", dataset="d", number=number, digest=digest, by="alice", expires=FAR
    ).signed(ALICE)
    return (
        PolicySubmitted(
            number=number, text=text, written="a", submitter="bob", key=BOB.public, signature=BOB.sign(said)
        ),
        PolicyApproved(number=number, digest=digest, approval=word.approved),
        PolicyActivated(number=number, digest=digest),
    )


HISTORY: tuple[Fact, ...] = (
    BudgetCreated(cap=Amount.cap(9, 1e-4), meter=BASIC, actor="", ledger="this", protected=None),
    UnitBound(protected=PERSON),
    SourceAccepted(sources=("/a", "/b"), also_of=("other",), asked=True),
    reserved("one", 1),
    Refunded(charge_id="one", amount=ONE, fence=2),
    reserved("two", 3),
    Started(charge_id="two", amount=ONE, fence=3),
    AttemptFailed(charge_id="two", amount=ONE, fence=3, attempt=1, reason="pipeline"),
    Retried(charge_id="two", amount=ONE, fence=4, attempt=2, owner=OWNER),
    Published(charge_id="two", amount=ONE, fence=4, manifest_sha256="0" * 64, path="/x/r-two"),
    reserved("three", 5),
    Started(charge_id="three", amount=ONE, fence=5),
    AttemptFailed(charge_id="three", amount=ONE, fence=5, attempt=1, reason="coverage", told=("s: 3 % of rows", "t")),
    Closed(charge_id="three", amount=ONE, fence=6),
    GuardrailsBound(text=guardrails()),
    *version(1),
    *version(2),
    PolicyReverted(number=1, digest=digest_of_text('{"version":1}'), reason="too wide"),
    replace(
        reserved("five", 7), plan_digest="sha256:" + "0" * 64, code="dpbeam 1", allocation=Allocation(account="ads")
    ),
    Refunded(charge_id="five", amount=ONE, fence=8),
    Moved(to="/there", datasets=("d", "e")),
    Arrived(at="/there"),
    KeyPinned(key="a" * 64),
    KeyPinned(key="b" * 64, follows="a" * 64, signature="c" * 128),
    reserved("four", 9),
)
STANDS = Anchored(standing=replay("d", chained(HISTORY), ledger_id="this").standing)
HISTORY = (*HISTORY, STANDS)


def replayed(facts: tuple[Fact, ...]) -> Replayed:
    return replay("d", chained(facts), ledger_id="this")


def old_records() -> list[Record]:
    """The records that an earlier program wrote."""
    with closing(sqlite3.connect(":memory:")) as raw:
        raw.executescript(OLD.read_text(encoding="utf-8"))
        rows = raw.execute("SELECT kind, charge_id, epsilon, delta, fence, details FROM journal").fetchall()
    return [
        Record(
            kind=kind,
            charge_id=charge_id,
            amount=Amount(epsilon=epsilon, delta=delta),
            fence=fence,
            details=details,
        )
        for kind, charge_id, epsilon, delta, fence, details in rows
    ]


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_fact_comes_back_from_its_record(kind) -> None:
    facts = [fact for fact in HISTORY if isinstance(fact, kind)]
    assert facts
    for fact in facts:
        record = to_record(fact)
        assert record.kind in get_args(Kind)
        assert from_record(record) == fact


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in LATER])
def test_a_fact_of_an_earlier_program_is_hashed_and_stored_as_it_was(kind) -> None:
    records = [record for record in old_records() if isinstance(from_record(record), kind)]
    assert records
    for record in records:
        assert to_record(from_record(record)) == record


def test_no_two_facts_have_one_name_in_the_journal_and_none_has_no_fact() -> None:
    names = {type(fact): to_record(fact).kind for fact in HISTORY}
    assert set(names) == set(KINDS)
    assert sorted(names.values()) == sorted(get_args(Kind))


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_fact_changes_the_budget_or_a_charge_or_what_is_signed_with_or_read_from(kind) -> None:
    def state(facts: tuple[Fact, ...]) -> tuple[object, ...]:
        if not facts:
            return ()
        found = replayed(facts)
        budget = replace(found.budget, head_seq=1, head_hash="x")
        return budget, dict(found.charges), found.key, found.anchored

    places = [place for place, fact in enumerate(HISTORY) if isinstance(fact, kind)]
    assert places
    for place in places:
        assert state(HISTORY[: place + 1]) != state(HISTORY[:place])


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_fact_has_words_of_its_own_for_people(kind) -> None:
    headings = {heading(fact) for fact in HISTORY if isinstance(fact, kind)}
    assert len(headings) == 1
    assert headings.isdisjoint({heading(fact) for fact in HISTORY if not isinstance(fact, kind)})


def test_what_binds_a_budget_and_what_was_found_for_it_is_said_in_a_line() -> None:
    bound = replace(HISTORY[0], protected=PERSON)
    assert [
        said
        for said in map(remark, (bound, *(fact for fact in HISTORY if not isinstance(fact, get_args(PolicyFact)))))
        if said is not None
    ] == [
        "it protects one person, added or removed",
        "it protects one person, added or removed",
        "spent on /a, /b by --accept-source; it is that of other too",
        "s: 3 % of rows; t",
        "the ledger went on to /there; nothing is charged here any more",
        "the ledger goes on at /there",
        f"signed with key {'a' * 16} from here on",
        f"signed with key {'b' * 16} from here on, which follows {'a' * 16}",
    ]


def test_a_type_that_is_no_fact_is_refused_everywhere() -> None:
    class Other:
        pass

    for use in (to_record, heading):
        with pytest.raises(TypeError, match="Other is no fact that a journal states"):
            use(Other())
    with pytest.raises(TypeError, match="Other is no fact that a journal states"):
        replayed((HISTORY[0], Other()))


def changed(record: Record) -> list[Record]:
    """The record with each thing that no program writes, in each of its fields."""
    odd: list[Any] = [None, True, 1, 0.5, -1, "", "x\0", "\ud800", [], [1], {}, {"pid": "x"}, "nobody wrote this"]
    details = json.loads(record.details)
    others = [{**details, "more": 1}]
    others += [{k: v for k, v in details.items() if k != name} for name in details]
    others += [{**details, name: value} for name in details for value in odd]
    made = [replace(record, details=canonical(other)) for other in others]
    made += [replace(record, details=text) for text in (record.details.replace("{", "{ ", 1), "[]", "", "[" * 10**5)]
    made.append(replace(record, kind="other"))
    of_charge = record.charge_id != ""
    made.append(replace(record, charge_id="" if of_charge else "x"))
    made.append(replace(record, fence=0 if of_charge else 1))
    if record.amount.epsilon:
        made.append(replace(record, amount=Amount(epsilon=0, delta=record.amount.delta)))
    else:
        made.append(replace(record, amount=ONE))
    return made


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_record_that_says_anything_else_is_no_fact_or_says_it_in_a_field(kind) -> None:
    """Nothing that is hashed goes unread."""
    for fact in (each for each in HISTORY if isinstance(each, kind)):
        whole = to_record(fact)
        refused = 0
        for record in changed(whole):
            try:
                other = from_record(record)
            except ValueError:
                refused += 1
                continue
            assert to_record(other) == record
            assert (other == fact) == (record == whole)
        assert refused >= 9


@pytest.mark.parametrize(
    "break_",
    [
        lambda h: h[1:],
        lambda h: (*h, h[0]),
        lambda h: (*h, UnitBound(protected=PERSON)),
        lambda h: (*h, SourceAccepted(sources=("/a",), also_of=(), asked=True)),
        lambda h: (*h, SourceAccepted(sources=("/c",), also_of=(), asked=False)),
        lambda h: (*h, reserved("one", 9)),
        lambda h: (*h, replace(reserved("five", 9), amount=Amount.charge(8, 1e-6))),
        lambda h: (*h, reserved("five", 6)),
        lambda h: (*h, Started(charge_id="two", amount=ONE, fence=4)),
        lambda h: (*h, Refunded(charge_id="two", amount=ONE, fence=9)),
        lambda h: (*h, Closed(charge_id="none", amount=ONE, fence=9)),
        lambda h: (*h, reserved("five", 9), Started(charge_id="five", amount=Amount.charge(2, 1e-6), fence=9)),
        lambda h: (*h, reserved("five", 9), Started(charge_id="five", amount=ONE, fence=10)),
        lambda h: (
            *h[:8],
            Published(charge_id="two", amount=ONE, fence=9, manifest_sha256="0" * 64, path="/x"),
        ),
        lambda h: (*h[:8], Retried(charge_id="two", amount=ONE, fence=9, attempt=3, owner=OWNER)),
        lambda h: (*h, KeyPinned(key="c" * 64)),
        lambda h: (*h, KeyPinned(key="c" * 64, follows="a" * 64, signature="c" * 128)),
        lambda h: (*h[:-2], STANDS),
        lambda h: (*h[:-1], Anchored(standing=replace(STANDS.standing, open=()))),
        lambda h: (*h[:-1], Anchored(standing=replace(STANDS.standing, fence=6))),
        lambda h: (*h, Arrived(at="/there")),
        lambda h: (*h[:-2], Moved(to="/there", datasets=("e",))),
        lambda h: (*h, Moved(to="/there", datasets=("d",))),
        lambda h: (*h[:-2], Moved(to="/there", datasets=("d",)), reserved("five", 9)),
        lambda h: (*h[:-2], Moved(to="/there", datasets=("d",)), Arrived(at="/elsewhere")),
        lambda h: (*h[:7], AttemptFailed(charge_id="two", amount=ONE, fence=3, attempt=2, reason="other")),
    ],
)
def test_a_fact_that_cannot_follow_breaks_the_journal(break_) -> None:
    with pytest.raises(BrokenJournal, match="can't follow from those before it"):
        replayed(break_(HISTORY))


@pytest.mark.parametrize("text", ['{"a": 1}', '{"b":1,"a":2}', '{"a":1.0e0}', "[" * 100_000, '{"a":NaN}', "[]", "x"])
def test_a_text_that_is_equal_in_meaning_is_not_what_was_hashed(text) -> None:
    with pytest.raises(ValueError):
        parsed(text, dict)


def test_an_entry_says_who_made_it_and_its_hash_holds_that(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DPBEAM_OPERATOR", "night-run\n" + "x" * 300)
    book = open_ledger(str(tmp_path / "ledger.sqlite"), create=True)
    book.create_budget("d", Amount.cap(1, 1e-6))
    [entry] = book.history("d")
    assert entry.actor == ("night-run?" + "x" * 300)[:256]
    assert entry.to_json()["actor"] == entry.actor
    assert entry_hash(entry) == entry.hash != entry_hash(replace(entry, actor="somebody else"))
    assert entry_hash(replace(entry, actor="")) != entry.hash


def test_a_fact_of_another_meter_names_it_and_comes_back() -> None:
    cap, one = Amount.cap(1, 1e-6, ZCDP), Amount.charge("0.1", 0, ZCDP)
    terms = Terms(stated=Amount.cap(4, 2e-6))
    created = BudgetCreated(cap=cap, meter=ZCDP, actor="", ledger="this", protected=None, terms=terms)
    facts = (created, replace(reserved("one", 1), amount=one), Started(charge_id="one", amount=one, fence=1))
    for fact in facts:
        record = to_record(fact)
        assert json.loads(record.details)["meter"] == "zcdp"
        assert from_record(record) == fact
    found = replayed(facts)
    assert (found.budget.balance.spent, found.budget.stated) == (one, Amount.cap(4, 2e-6))
    with pytest.raises(BrokenJournal, match="entry 2 can't follow from those before it"):
        replayed((created, replace(reserved("one", 1), amount=one.of(GDP))))
    with pytest.raises(BrokenJournal, match="entry 3 can't follow from those before it"):
        replayed((*facts[:2], replace(facts[2], amount=one.of(GDP))))


def test_a_budget_of_one_meter_has_no_cap_of_another() -> None:
    with pytest.raises(ValueError, match="cap must be of the meter gdp"):
        BudgetCreated(cap=Amount.cap(1, 1e-6, ZCDP), meter=GDP, actor="", ledger="this", protected=None)


@pytest.mark.parametrize(
    "stored", [{"x": 1}, {"stated": 1}, {"stated": {}}, {"stated": {"epsilon_units": 1, "delta_units": -1}}]
)
def test_terms_that_nobody_wrote_are_refused(stored) -> None:
    with pytest.raises(ValueError):
        Terms.from_json(stored)
