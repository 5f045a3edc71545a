"""A charge is verified from where the journal last states how its dataset stands: as strictly, at a cost that stays."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from dpbeam.errors import LedgerError, Refused
from dpbeam.ledger import Amount, KeyTaken, Ledger, Owner, Protected, Scope, journaling, open_ledger
from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.governance.book import PolicyBook
from dpbeam.ledger.governance.enforcing import Configuration
from dpbeam.ledger.governance.messages import Approval
from dpbeam.ledger.governance.state import digest_of_text
from dpbeam.ledger.meters import GDP
from dpbeam.ledger.standing import Standing
from dpbeam.ledger.terms import Terms
from tests.helpers.ledger_damage import forged, put, rows
from tests.helpers.signing import ALICE, BOB, FAR, guardrails

ONE = Amount.charge(1, 1e-9)
PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))
STEP = 16


def reserve(book: Ledger, key: str) -> Charge:
    return book.reserve(
        "d", key, ONE, owner=Owner.current(), scope=PEOPLE, policy_digest="p", release_id="r", path="/x"
    )


def published(book: Ledger, key: str) -> Charge:
    return book.publish(book.start(reserve(book, key)), manifest_sha256="0" * 64)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger whose journal states how it stands more than once, with a charge unfinished since before."""
    path = tmp_path_factory.mktemp("long") / "ledger.sqlite"
    book = open_ledger(str(path), create=True)
    book.create_budget("d", Amount.cap(100, 1e-6))
    with pytest.MonkeyPatch.context() as patched, book.kept_open():
        patched.setattr(journaling, "EVERY", STEP)
        book.start(reserve(book, "early"))
        for number in range(2 * STEP):
            published(book, f"k{number}")
    return path


@pytest.fixture
def path(long: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "ledger.sqlite"
    shutil.copy(long, copy)
    return copy


def anchors(path: Path) -> list[int]:
    return [row["seq"] for row in rows(path) if row["kind"] == "anchored"]


def read_by(book: Ledger, key: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the entries that the next charge reads one after another."""
    from dpbeam.ledger.stores.sqlite.store import SqliteTransaction

    read, plain = [], SqliteTransaction.entries
    with monkeypatch.context() as patched:
        patched.setattr(
            SqliteTransaction,
            "entries",
            lambda *args, **more: (read.append(entry.seq) or entry for entry in plain(*args, **more)),
        )
        published(book, key)
    return read


def test_the_journal_states_every_so_often_how_the_dataset_stands_and_verifies(path) -> None:
    places = anchors(path)
    assert len(places) >= 4
    assert all(STEP <= after - before <= STEP + 6 for before, after in pairwise(places))
    assert open_ledger(str(path)).verify() == rows(path)[-1]["seq"]
    [stated] = [row for row in rows(path) if row["seq"] == places[-1]]
    assert [charge["key"] for charge in Standing.from_json(stated["details"]).to_json()["open"]] == ["early"]


def test_a_fresh_process_reads_from_there_and_the_same_one_reads_what_is_new(path, monkeypatch) -> None:
    last, head = anchors(path)[-1], rows(path)[-1]["seq"]
    book = open_ledger(str(path))
    assert read_by(book, "another", monkeypatch) == list(range(last, head + 1))
    assert read_by(book, "one more", monkeypatch) == list(range(head, rows(path)[-1]["seq"] - 2))


def test_the_balance_from_there_on_is_that_of_the_whole_history(path) -> None:
    book = open_ledger(str(path))
    fresh = book.budget("d")
    book.verify("d")
    with book.store.read() as tx:
        assert fresh == book._verifier.verified(tx, "d").budget


@pytest.mark.parametrize(
    ("table", "column", "value", "where"),
    [
        ("journal", "details", "replace(details, '\"spent\":[', '\"spent\":[1')", "kind = 'anchored'"),
        ("journal", "hash", "'x'", "kind = 'anchored'"),
        ("journal", "epsilon", "7", "kind = 'published'"),
        ("budgets", "spent_epsilon", "7", "TRUE"),
        ("charges", "epsilon", "7", "key = 'early'"),
        ("charges", "state", "'REFUNDED'", "key = 'early'"),
        ("charges", "state", "'STARTED'", "key = 'k3'"),
        ("charges", "epsilon", "7", f"key = 'k{2 * STEP - 1}'"),
    ],
)
def test_what_a_charge_stands_on_is_verified_before_it(path, table, column, value, where) -> None:
    assert put(path, (table, column, value, where))
    with pytest.raises(LedgerError, match="doesn't verify"):
        reserve(open_ledger(str(path)), "new")


def test_an_entry_before_it_that_was_edited_moves_no_balance_and_is_found_by_verify(path) -> None:
    held = open_ledger(str(path)).balance("d")
    assert put(path, ("journal", "epsilon", "1", "kind = 'reserved' AND seq < 20"))
    book = open_ledger(str(path))
    reserve(book, "new")
    assert book.balance("d").left == held.left - ONE
    with pytest.raises(LedgerError, match=r"dataset d, entry \d+ doesn't match its own hash"):
        book.verify("d")


@pytest.mark.parametrize(
    "change",
    [("charges", "path", "'/y'", "key = 'k1'"), ("journal", "details", "'{}'", "kind = 'published' AND seq < 9")],
)
def test_an_old_charge_that_a_key_asks_for_is_what_its_own_entries_say(path, change) -> None:
    key = "k1" if change[0] == "charges" else "k0"
    with pytest.raises(KeyTaken):
        reserve(open_ledger(str(path)), key)
    assert put(path, change)
    for ask in (lambda book: book.find("d", key), lambda book: reserve(book, key)):
        with pytest.raises(LedgerError, match="doesn't verify"):
            ask(open_ledger(str(path)))


def test_a_ledger_that_went_back_under_a_process_is_refused_by_it(path, tmp_path) -> None:
    book = open_ledger(str(path))
    shutil.copy(path, tmp_path / "before")
    published(book, "new")
    book.balance("d")
    shutil.copy(tmp_path / "before", path)
    with pytest.raises(LedgerError, match=r"entry \d+ isn't what it was when it was verified before"):
        reserve(book, "other")


def test_a_stated_balance_that_the_history_does_not_amount_to_is_found_by_verify(path) -> None:
    def generous(row):
        if row["kind"] != "anchored":
            return row
        epsilon, delta = row["details"]["spent"]
        return row | {"details": row["details"] | {"spent": [epsilon - 10**12, delta]}}

    forged(path, generous)
    with pytest.raises(LedgerError, match=rf"dataset d, entry {anchors(path)[0]} (can't follow|doesn't match)"):
        open_ledger(str(path)).verify()


def test_many_unfinished_charges_are_stated_less_often(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(journaling, "EVERY", 4)
    path = tmp_path / "ledger.sqlite"
    book = open_ledger(str(path), create=True)
    book.create_budget("d", Amount.cap(100, 1e-6))
    with book.kept_open():
        for number in range(64):
            reserve(book, f"k{number}")
    assert len(anchors(path)) <= 7
    book.verify()


def test_a_block_that_keeps_the_ledger_open_leaves_one_file_and_is_as_durable(tmp_path) -> None:
    path = tmp_path / "ledger.sqlite"
    book = open_ledger(str(path), create=True)
    book.create_budget("d", Amount.cap(100, 1e-6))
    with book.kept_open():
        published(book, "k")
        assert (tmp_path / "ledger.sqlite-wal").stat().st_size > 0
        assert open_ledger(str(path)).balance("d").spent == ONE
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_what_a_budget_is_held_under_goes_on_from_where_the_journal_states_it(tmp_path, monkeypatch) -> None:
    """The meter, the cap that was stated, guardrails and the active version, whoever opens the ledger later."""
    monkeypatch.setattr(journaling, "EVERY", STEP)
    path, one = tmp_path / "ledger.sqlite", Amount.charge("0.001", 0, GDP)
    book = open_ledger(str(path), create=True)
    book.create_budget("d", Amount.cap("0.3", 5e-6, GDP), stated=Amount.cap(2, 1e-5))
    policies = PolicyBook(ledger=book)
    policies.bind("d", guardrails())
    policies.submit("d", text="{}", written="a policy", key=BOB)
    place, digest = policies.place("d"), digest_of_text("{}")
    stated = Approval(
        subject="policy", ledger=place.ledger, dataset="d", number=1, digest=digest, by="alice", expires=FAR
    )
    policies.approve("d", stated.signed(ALICE))
    policies.activate("d", 1)
    by = Configuration(guardrails=digest_of_text(guardrails()))

    def charged(key: str, policy_digest: str = digest) -> Charge:
        mine = open_ledger(str(path))  # as another process: it remembers nothing
        return mine.start(
            mine.reserve(
                "d", key, one, owner=Owner.current(), scope=PEOPLE, policy_digest=policy_digest, release_id="r",
                path="/x", configuration=by,
            )
        )  # fmt: skip

    first = charged("first")
    for number in range(3 * STEP):
        charged(f"k{number}")
    assert len(anchors(path)) >= 2
    budget = open_ledger(str(path)).budget("d")
    assert (budget.stated, budget.balance.meter) == (Amount.cap(2, 1e-5), GDP)
    assert budget.balance.spent.epsilon == (3 * STEP + 1) * one.epsilon
    assert budget.terms.governance == book.budget("d").terms.governance != Terms().governance
    with pytest.raises(Refused):
        charged("another", "sha256:" + "1" * 64)
    assert open_ledger(str(path)).publish(first, manifest_sha256="0" * 64).amount == one
    assert open_ledger(str(path)).verify() == len(rows(path))
