"""The SQLite ledger's tables, as a list of migrations, and the schema that a file of this version must have."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache

APPLICATION_ID = 0x64704C31  # "dpL1", in the file's header

# Each migration takes a ledger from version i to i + 1 inside one transaction. One that was released never changes.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value NOT NULL)",
        """CREATE TABLE budgets (
            dataset TEXT PRIMARY KEY NOT NULL,
            meter TEXT NOT NULL CHECK (meter = 'basic'),
            cap_epsilon INTEGER NOT NULL CHECK (typeof(cap_epsilon) = 'integer' AND cap_epsilon > 0),
            cap_delta INTEGER NOT NULL CHECK (typeof(cap_delta) = 'integer' AND cap_delta > 0),
            spent_epsilon INTEGER NOT NULL CHECK (typeof(spent_epsilon) = 'integer' AND spent_epsilon >= 0),
            spent_delta INTEGER NOT NULL CHECK (typeof(spent_delta) = 'integer' AND spent_delta >= 0),
            held_epsilon INTEGER NOT NULL CHECK (typeof(held_epsilon) = 'integer' AND held_epsilon >= 0),
            held_delta INTEGER NOT NULL CHECK (typeof(held_delta) = 'integer' AND held_delta >= 0),
            head_seq INTEGER NOT NULL CHECK (typeof(head_seq) = 'integer' AND head_seq >= 1),
            head_hash TEXT NOT NULL,
            CHECK (spent_epsilon <= cap_epsilon - held_epsilon),
            CHECK (spent_delta <= cap_delta - held_delta)
        )""",
        """CREATE TABLE charges (
            id TEXT PRIMARY KEY NOT NULL,
            dataset TEXT NOT NULL REFERENCES budgets (dataset),
            key TEXT NOT NULL,
            epsilon INTEGER NOT NULL CHECK (typeof(epsilon) = 'integer' AND epsilon > 0),
            delta INTEGER NOT NULL CHECK (typeof(delta) = 'integer' AND delta > 0),
            state TEXT NOT NULL
                CHECK (state IN ('RESERVED', 'STARTED', 'PUBLISHED', 'SPENT_UNPUBLISHED', 'RELEASED')),
            fence INTEGER NOT NULL UNIQUE CHECK (typeof(fence) = 'integer' AND fence >= 1),
            attempt INTEGER NOT NULL CHECK (typeof(attempt) = 'integer' AND attempt >= 1),
            max_attempts INTEGER NOT NULL CHECK (typeof(max_attempts) = 'integer' AND max_attempts >= attempt),
            owner TEXT NOT NULL,
            release_id TEXT NOT NULL,
            policy_digest TEXT NOT NULL,
            path TEXT,
            manifest_sha256 TEXT,
            failed INTEGER NOT NULL CHECK (failed IN (0, 1))
        )""",
        "CREATE INDEX charges_by_key ON charges (dataset, key)",
        "CREATE UNIQUE INDEX charges_open ON charges (dataset, key) WHERE state IN ('RESERVED', 'STARTED')",
        """CREATE TABLE journal (
            dataset TEXT NOT NULL REFERENCES budgets (dataset),
            seq INTEGER NOT NULL CHECK (typeof(seq) = 'integer' AND seq >= 1),
            time TEXT NOT NULL,
            kind TEXT NOT NULL,
            charge_id TEXT NOT NULL,
            epsilon INTEGER NOT NULL CHECK (typeof(epsilon) = 'integer' AND epsilon >= 0),
            delta INTEGER NOT NULL CHECK (typeof(delta) = 'integer' AND delta >= 0),
            fence INTEGER NOT NULL CHECK (typeof(fence) = 'integer' AND fence >= 0),
            details TEXT NOT NULL,
            prev_hash TEXT NOT NULL,
            hash TEXT NOT NULL,
            PRIMARY KEY (dataset, seq)
        )""",
        "CREATE INDEX journal_by_fence ON journal (fence)",
        """CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
        """CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
        # INSERT OR REPLACE fires no DELETE trigger, so inserting before the head is refused by itself.
        """CREATE TRIGGER journal_only_append BEFORE INSERT ON journal
            WHEN NEW.seq != (SELECT coalesce(max(seq), 0) + 1 FROM journal WHERE dataset = NEW.dataset)
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
        """CREATE TRIGGER charges_no_delete BEFORE DELETE ON charges
            BEGIN SELECT RAISE(ABORT, 'a charge is never deleted'); END""",
        """CREATE TRIGGER budgets_no_delete BEFORE DELETE ON budgets
            BEGIN SELECT RAISE(ABORT, 'a budget is never deleted'); END""",
    ),
    # What a budget of version 1 protects isn't known: NULL until its next charge.
    (
        "ALTER TABLE budgets ADD COLUMN privacy_unit TEXT",
        "ALTER TABLE budgets ADD COLUMN neighbours TEXT CHECK ((neighbours IS NULL) = (privacy_unit IS NULL))",
        "ALTER TABLE budgets ADD COLUMN sources TEXT NOT NULL DEFAULT '[]'",
    ),
    # A charge that was given back is REFUNDED: a release is what is published. A table's constraints can't be changed,
    # so it is made anew; the journal, which says `released` in its hashes, stays as it is.
    (
        "CREATE TABLE charges_before AS SELECT * FROM charges",
        "DROP TABLE charges",
        """CREATE TABLE charges (
            id TEXT PRIMARY KEY NOT NULL,
            dataset TEXT NOT NULL REFERENCES budgets (dataset),
            key TEXT NOT NULL,
            epsilon INTEGER NOT NULL CHECK (typeof(epsilon) = 'integer' AND epsilon > 0),
            delta INTEGER NOT NULL CHECK (typeof(delta) = 'integer' AND delta > 0),
            state TEXT NOT NULL
                CHECK (state IN ('RESERVED', 'STARTED', 'PUBLISHED', 'SPENT_UNPUBLISHED', 'REFUNDED')),
            fence INTEGER NOT NULL UNIQUE CHECK (typeof(fence) = 'integer' AND fence >= 1),
            attempt INTEGER NOT NULL CHECK (typeof(attempt) = 'integer' AND attempt >= 1),
            max_attempts INTEGER NOT NULL CHECK (typeof(max_attempts) = 'integer' AND max_attempts >= attempt),
            owner TEXT NOT NULL,
            release_id TEXT NOT NULL,
            policy_digest TEXT NOT NULL,
            path TEXT,
            manifest_sha256 TEXT,
            failed INTEGER NOT NULL CHECK (failed IN (0, 1))
        )""",
        """INSERT INTO charges
            SELECT id, dataset, key, epsilon, delta, CASE state WHEN 'RELEASED' THEN 'REFUNDED' ELSE state END, fence,
                attempt, max_attempts, owner, release_id, policy_digest, path, manifest_sha256, failed
            FROM charges_before""",
        "DROP TABLE charges_before",
        "CREATE INDEX charges_by_key ON charges (dataset, key)",
        "CREATE UNIQUE INDEX charges_open ON charges (dataset, key) WHERE state IN ('RESERVED', 'STARTED')",
        """CREATE TRIGGER charges_no_delete BEFORE DELETE ON charges
            BEGIN SELECT RAISE(ABORT, 'a charge is never deleted'); END""",
    ),
    # Who made an entry; other meters than one; what a budget is held under beside its cap (`terms`), and a charge
    # beside its amount (`details`): canonical JSON, {} for what was written before.
    (
        "PRAGMA defer_foreign_keys = ON",
        "ALTER TABLE journal ADD COLUMN actor TEXT NOT NULL DEFAULT ''",
        "CREATE TABLE charges_before AS SELECT * FROM charges",
        "CREATE TABLE budgets_before AS SELECT * FROM budgets",
        "DROP TABLE charges",
        "DROP TABLE budgets",
        """CREATE TABLE budgets (
            dataset TEXT PRIMARY KEY NOT NULL,
            meter TEXT NOT NULL CHECK (meter IN ('basic', 'zcdp', 'gdp')),
            cap_epsilon INTEGER NOT NULL CHECK (typeof(cap_epsilon) = 'integer' AND cap_epsilon > 0),
            cap_delta INTEGER NOT NULL CHECK (typeof(cap_delta) = 'integer' AND cap_delta > 0),
            spent_epsilon INTEGER NOT NULL CHECK (typeof(spent_epsilon) = 'integer' AND spent_epsilon >= 0),
            spent_delta INTEGER NOT NULL CHECK (typeof(spent_delta) = 'integer' AND spent_delta >= 0),
            held_epsilon INTEGER NOT NULL CHECK (typeof(held_epsilon) = 'integer' AND held_epsilon >= 0),
            held_delta INTEGER NOT NULL CHECK (typeof(held_delta) = 'integer' AND held_delta >= 0),
            head_seq INTEGER NOT NULL CHECK (typeof(head_seq) = 'integer' AND head_seq >= 1),
            head_hash TEXT NOT NULL,
            privacy_unit TEXT,
            neighbours TEXT CHECK ((neighbours IS NULL) = (privacy_unit IS NULL)),
            sources TEXT NOT NULL,
            terms TEXT NOT NULL,
            CHECK (spent_epsilon <= cap_epsilon - held_epsilon),
            CHECK (spent_delta <= cap_delta - held_delta)
        )""",
        "INSERT INTO budgets SELECT *, '{}' FROM budgets_before",
        "DROP TABLE budgets_before",
        """CREATE TABLE charges (
            id TEXT PRIMARY KEY NOT NULL,
            dataset TEXT NOT NULL REFERENCES budgets (dataset),
            key TEXT NOT NULL,
            epsilon INTEGER NOT NULL CHECK (typeof(epsilon) = 'integer' AND epsilon > 0),
            delta INTEGER NOT NULL CHECK (typeof(delta) = 'integer' AND delta >= 0),
            state TEXT NOT NULL
                CHECK (state IN ('RESERVED', 'STARTED', 'PUBLISHED', 'SPENT_UNPUBLISHED', 'REFUNDED')),
            fence INTEGER NOT NULL UNIQUE CHECK (typeof(fence) = 'integer' AND fence >= 1),
            attempt INTEGER NOT NULL CHECK (typeof(attempt) = 'integer' AND attempt >= 1),
            max_attempts INTEGER NOT NULL CHECK (typeof(max_attempts) = 'integer' AND max_attempts >= attempt),
            owner TEXT NOT NULL,
            release_id TEXT NOT NULL,
            policy_digest TEXT NOT NULL,
            path TEXT,
            manifest_sha256 TEXT,
            failed INTEGER NOT NULL CHECK (failed IN (0, 1)),
            details TEXT NOT NULL
        )""",
        "INSERT INTO charges SELECT *, '{}' FROM charges_before",
        "DROP TABLE charges_before",
        "CREATE INDEX charges_by_key ON charges (dataset, key)",
        "CREATE UNIQUE INDEX charges_open ON charges (dataset, key) WHERE state IN ('RESERVED', 'STARTED')",
        """CREATE TRIGGER charges_no_delete BEFORE DELETE ON charges
            BEGIN SELECT RAISE(ABORT, 'a charge is never deleted'); END""",
        """CREATE TRIGGER budgets_no_delete BEFORE DELETE ON budgets
            BEGIN SELECT RAISE(ABORT, 'a budget is never deleted'); END""",
    ),
)

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Takes the ledger from `version` to `VERSION`; the caller holds the transaction."""
    for statements in MIGRATIONS[version:VERSION]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('version', ?)", (VERSION,))


@cache
def expected_schema() -> dict[str, str]:
    """Name and SQL of every table, index and trigger of a ledger of this version."""
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection, 0)
        return schema_of(connection)


def schema_of(connection: sqlite3.Connection) -> dict[str, str]:
    """Name and SQL of every table, index and trigger that the database has."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())
