"""A ledger file that was tampered with, damaged, or written by a newer version is refused, and says so."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from dpbeam.errors import LedgerError
from dpbeam.ledger import open_ledger
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import Protected, Scope

PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with a published, a started and a reserved charge."""
    path = tmp_path / "ledger.sqlite"
    book = open_ledger(str(path), create=True)
    book.create_budget("d", Amount.cap(10, 1e-5))
    for number in range(3):
        charge = book.reserve(
            "d",
            f"k{number}",
            Amount.charge(1, 1e-6),
            owner=Owner.current(),
            scope=PEOPLE,
            policy_digest="p",
            release_id="r",
            path="/x",
        )
        if number < 2:
            charge = book.start(charge)
        if number < 1:
            book.publish(charge, manifest_sha256="0" * 64)
    return path


def test_a_missing_ledger_is_not_made(tmp_path) -> None:
    with pytest.raises(LedgerError, match="create a budget first"):
        open_ledger(f"sqlite:///{tmp_path}/none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(LedgerError) as caught:
        open_ledger("mysql://user:secret@host/db")
    assert str(caught.value) == (
        "a ledger must be a SQLite file (sqlite:///PATH) or on PostgreSQL (postgresql://…), got a URL of kind mysql"
    )


def test_the_secret_stays_the_same_and_is_of_this_ledger_alone(path, tmp_path) -> None:
    assert open_ledger(str(path)).secret() == open_ledger(str(path)).secret()
    assert open_ledger(str(tmp_path / "other"), create=True).secret() != open_ledger(str(path)).secret()


TABLES = {
    "journal": ["time", "kind", "charge_id", "epsilon", "delta", "fence", "details", "prev_hash", "hash", "seq"],
    "charges": ["key", "epsilon", "delta", "state", "fence", "attempt", "owner", "release_id", "path", "failed"],
    "budgets": [
        "cap_epsilon",
        "cap_delta",
        "spent_epsilon",
        "spent_delta",
        "held_epsilon",
        "head_seq",
        "head_hash",
        "privacy_unit",
        "sources",
    ],
}


def tampered(path: Path, statement: str) -> None:
    """Changes the file behind the ledger's back, its triggers and constraints out of the way."""
    with sqlite3.connect(path) as raw:
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        raw.execute("PRAGMA ignore_check_constraints = ON")
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        changed = raw.execute(statement).rowcount
        for _, sql in triggers:
            raw.execute(sql)
    raw.close()
    assert changed


@pytest.mark.parametrize(("table", "column"), [(t, c) for t, columns in TABLES.items() for c in columns])
def test_a_changed_field_is_found(path, table, column) -> None:
    new = f"CASE typeof({column}) WHEN 'integer' THEN 1 - min({column}, 1) + {column} * 2 ELSE {column} || 'x' END"
    tampered(path, f"UPDATE {table} SET {column} = {new} WHERE rowid = (SELECT max(rowid) FROM {table})")
    with pytest.raises(LedgerError, match=r"doesn't verify|is damaged"):
        open_ledger(str(path)).verify()


@pytest.mark.parametrize("which", ["min", "max"])
@pytest.mark.parametrize("table", ["journal", "charges"])
def test_a_removed_row_is_found(path, table, which) -> None:
    tampered(path, f"DELETE FROM {table} WHERE rowid = (SELECT {which}(rowid) FROM {table})")
    with pytest.raises(LedgerError, match=r"doesn't verify|is damaged"):
        open_ledger(str(path)).verify()


def test_a_tampered_ledger_charges_nothing_more(path) -> None:
    tampered(path, "UPDATE budgets SET spent_epsilon = 0")
    with pytest.raises(LedgerError, match="Nothing more is charged to dataset d; others are"):
        open_ledger(str(path)).reserve(
            "d", "new", Amount.charge(1, 1e-6), owner=Owner.current(), scope=PEOPLE, policy_digest="p", release_id="r"
        )


def test_a_dropped_trigger_is_found(path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TRIGGER journal_no_delete")
    raw.close()
    with pytest.raises(LedgerError, match="not those of this version"):
        open_ledger(str(path)).verify()


@pytest.mark.parametrize("statement", ["UPDATE journal SET time = ''", "DELETE FROM journal", "DELETE FROM charges"])
def test_the_journal_is_append_only_for_honest_programs(path, statement) -> None:
    with pytest.raises(sqlite3.IntegrityError), sqlite3.connect(path) as raw:
        raw.execute(statement)
    raw.close()
    open_ledger(str(path)).verify()


def test_a_ledger_of_a_newer_version_is_refused_with_both_versions(path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(LedgerError, match=r"has version 99, this dpbeam knows versions up to \d+"):
        open_ledger(str(path))


@pytest.mark.parametrize("content", [b"", b"not a database" * 500, b"SQLite format 3\x00" + bytes(5000)])
def test_a_file_that_is_no_ledger_is_refused(tmp_path, content) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=str(path)):
        open_ledger(str(path))
    assert path.read_bytes() == content


def test_a_truncated_ledger_is_refused(path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LedgerError, match=str(path)):
        open_ledger(str(path)).verify()


def test_a_folder_is_no_ledger(tmp_path) -> None:
    with pytest.raises(LedgerError, match=str(tmp_path)):
        open_ledger(str(tmp_path))
