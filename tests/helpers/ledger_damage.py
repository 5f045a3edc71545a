"""Damage to a ledger's file, and what every command must say of it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from dpbeam.ledger.rows import ENTRY

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


def canonical(value: Any) -> str:
    """The text that is hashed, written down here anew: it must never change."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def rows(path: Path, dataset: str = "d") -> list[dict[str, Any]]:
    """The journal's entries as the file has them, `details` as JSON says."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(f"SELECT {', '.join(ENTRY)} FROM journal WHERE dataset = ? ORDER BY seq", (dataset,))
        made = [dict(zip(ENTRY, row, strict=True)) for row in found]
    return [row | {"details": json.loads(row["details"])} for row in made]


def forged(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], dataset: str = "d") -> None:
    """Rewrites the journal's entries, with all hashes as they then must be."""
    before, changes = "0" * 64, []
    hashed = [name for name in ENTRY if name not in ("prev_hash", "hash")]
    for row in map(change, rows(path, dataset)):
        links = {"prev_hash": before}
        before = sha256(canonical(["dpbeam journal 1", *(row[name] for name in hashed), before]).encode()).hexdigest()
        texts = {"details": canonical(row["details"]), "charge_id": row["charge_id"], **links, "hash": before}
        changes += [("journal", column, f"'{text}'", f"seq = {row['seq']}") for column, text in texts.items()]
    put(path, *changes, ("budgets", "head_hash", f"'{before}'", "TRUE"))
