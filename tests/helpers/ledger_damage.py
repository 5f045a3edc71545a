"""Damage to a ledger's file, and what every command must say of it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from dpbeam.ledger import open_ledger
from dpbeam.ledger.journal import canonical, entry_hash
from dpbeam.ledger.model import JournalEntry

MESSAGE = re.compile(r"the ledger \S+ (doesn't verify: |is damaged or no SQLite database\. )[ -~]{40,500}")


def put(path: Path, *changes: tuple[str, str, str, str]) -> bool:
    """Writes SQL values behind the ledger's back, whatever its triggers and constraints say: (table, column, value,
    condition) each. Whether all of that changed anything."""

    def raw(*statements: str) -> list[int]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("PRAGMA writable_schema = ON")
            return [connection.execute(statement).rowcount for statement in statements]

    with closing(sqlite3.connect(path)) as connection:
        kept = connection.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master").fetchall()
    raw(
        "DELETE FROM sqlite_master WHERE type = 'trigger'",
        "UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '')",
    )
    changed = raw(
        *(
            f"UPDATE {table} SET {column} = {value} WHERE {column} IS NOT {value} AND rowid = "
            f"(SELECT max(rowid) FROM {table} WHERE {column} IS NOT NULL AND {where})"
            for table, column, value, where in changes
        )
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master")
        connection.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", kept)
    return all(changed)


def forged(path: Path, change: Callable[[JournalEntry], JournalEntry], dataset: str = "d") -> None:
    """Rewrites the journal's entries, with all hashes as they then must be."""
    book, before, changes = open_ledger(str(path), reading=True), "0" * 64, []
    for entry in map(change, book.history(dataset)):
        linked = replace(entry, prev_hash=before)
        before = entry_hash(linked)
        links = {"prev_hash": linked.prev_hash, "hash": before}
        texts = {"details": canonical(entry.details), "charge_id": entry.charge_id, **links}
        changes += [("journal", column, f"'{text}'", f"seq = {entry.seq}") for column, text in texts.items()]
    put(path, *changes, ("budgets", "head_hash", f"'{before}'", "TRUE"))
