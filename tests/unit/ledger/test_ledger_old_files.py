"""Ledgers that earlier programs wrote: opened, migrated and charged on, with every journal as it was, byte for byte."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from dpbeam.ledger import open_ledger
from dpbeam.ledger.accounts import STATES
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.entries import Refunded
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import Protected, Scope
from dpbeam.pipelines.cli.main import invoke

DATA = Path(__file__).parents[2] / "data"
ENTRIES = {"ledger-1.sql": 17, "ledger-2.sql": 29, "ledger-3.sql": 33}
"""How many entries each has. Those of versions 2 and 3 have all kinds of entries, and charges in all states."""


FIRST_COLUMNS = "dataset, seq, time, kind, charge_id, epsilon, delta, fence, details, prev_hash, hash"
"""What the journal of version 1 has."""


def written(folder: Path, name: str) -> Path:
    path = folder / "old.sqlite"
    with sqlite3.connect(path) as raw:
        raw.executescript((DATA / name).read_text(encoding="utf-8"))
    raw.close()
    return path


def journal(path: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as raw:
        rows = raw.execute(f"SELECT {FIRST_COLUMNS} FROM journal ORDER BY dataset, seq").fetchall()
    raw.close()
    return rows


@pytest.mark.parametrize("name", ENTRIES)
def test_its_history_verifies_before_and_after_it_is_migrated_and_no_entry_changes(tmp_path, name) -> None:
    path = written(tmp_path, name)
    before = journal(path)
    assert open_ledger(str(path), reading=True).verify() == ENTRIES[name]
    assert open_ledger(str(path)).verify() == ENTRIES[name]
    assert open_ledger(str(path), reading=True).verify() == ENTRIES[name]
    assert journal(path) == before


@pytest.mark.parametrize(("name", "given_back"), [("ledger-1.sql", 1), ("ledger-2.sql", 2), ("ledger-3.sql", 2)])
@pytest.mark.parametrize("reading", [True, False])
def test_a_charge_that_was_given_back_is_refunded_now_and_the_journal_keeps_its_word(
    tmp_path, name, given_back, reading
) -> None:
    path = written(tmp_path, name)
    book = open_ledger(str(path), reading=reading)
    ids = {charge.id for charge in book.charges() if charge.state == "REFUNDED"}
    assert len(ids) == given_back
    facts = [entry.fact for entry in book.history("people") if isinstance(entry.fact, Refunded)]
    assert {fact.charge_id for fact in facts} == ids
    assert [row[3] for row in journal(path)].count("released") == given_back


@pytest.mark.parametrize("reading", [True, False])
def test_what_commands_print_for_machines_is_what_they_printed_then(tmp_path, capsys, reading) -> None:
    path = written(tmp_path, "ledger-2.sql")
    open_ledger(str(path), reading=reading)
    printed = json.loads((DATA / "ledger-2.json").read_text(encoding="utf-8"))
    for command, document in printed.items():
        assert invoke(["budget", *command.split(), "--json", "--ledger", str(path)]) == 0
        assert json.loads(capsys.readouterr().out) == document


@pytest.mark.parametrize("name", ENTRIES)
def test_it_is_charged_on(tmp_path, name) -> None:
    book = open_ledger(str(written(tmp_path, name)))
    held = book.balance("people").held
    one = Amount.charge(1, 1e-6)
    scope = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))
    charge = book.reserve(
        "people",
        "new",
        one,
        owner=Owner.current(),
        scope=scope,
        policy_digest="p",
        release_id="r",
        accept_source=name == "ledger-1.sql",
    )
    assert book.balance("people").held == held + one
    book.start(charge)
    assert book.verify() > ENTRIES[name]


@pytest.mark.parametrize("name", ["ledger-2.sql", "ledger-3.sql"])
def test_it_has_all_that_a_ledger_of_its_version_could_have(tmp_path, name) -> None:
    book = open_ledger(str(written(tmp_path, name)), reading=True)
    kinds = {entry.kind for dataset in book.datasets() for entry in book.history(dataset)}
    assert kinds >= {
        "budget_created", "unit_bound", "source_accepted", "reserved", "released", "started", "attempt_failed",
        "retried", "published", "closed",
    }  # fmt: skip
    assert {charge.state for charge in book.charges()} == set(STATES)


def test_recover_says_that_a_held_charge_is_refunded(tmp_path, capsys) -> None:
    path = written(tmp_path, "ledger-2.sql")
    (held,) = [charge for charge in open_ledger(str(path)).charges("people") if charge.state == "RESERVED"]
    assert invoke(["recover", "--charge", held.id, "--force", "--json", "--ledger", str(path)]) == 0
    settled = [{"charge": held.id, "dataset": "people", "outcome": "refunded"}]
    assert json.loads(capsys.readouterr().out) == {"version": 2, "settled": settled}
    assert open_ledger(str(path)).balance("people").held == Amount(epsilon=0, delta=0)
    assert invoke(["budget", "history", "people", "--ledger", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.count("refunded") == 3
    assert "released" not in said
