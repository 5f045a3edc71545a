"""The PostgreSQL ledger's tables, as a list of migrations, and the schema that a ledger of this version must have.

Versions are those of SQLite's store, so that a ledger of version n holds the same in both; the first one here is 4.
Texts compare by their bytes (`COLLATE "C"`), as Python's do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

Execute = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""Executes a statement in the ledger's schema; gives the rows that it finds."""

FIRST = 4

# Each migration takes a ledger from version FIRST - 1 + i to the next one, all inside one transaction. One that was
# released never changes.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        'CREATE TABLE meta (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL)',
        # Who writes locks its one row first. Apart from `meta`, which nobody but the owner needs the right to change.
        "CREATE TABLE turn (one boolean PRIMARY KEY CHECK (one))",
        "INSERT INTO turn VALUES (true)",
        """CREATE TABLE budgets (
            dataset text COLLATE "C" PRIMARY KEY,
            meter text NOT NULL CHECK (meter IN ('basic', 'zcdp', 'gdp')),
            cap_epsilon bigint NOT NULL CHECK (cap_epsilon > 0),
            cap_delta bigint NOT NULL CHECK (cap_delta > 0),
            spent_epsilon bigint NOT NULL CHECK (spent_epsilon >= 0),
            spent_delta bigint NOT NULL CHECK (spent_delta >= 0),
            held_epsilon bigint NOT NULL CHECK (held_epsilon >= 0),
            held_delta bigint NOT NULL CHECK (held_delta >= 0),
            head_seq bigint NOT NULL CHECK (head_seq >= 1),
            head_hash text NOT NULL,
            privacy_unit text,
            neighbours text,
            sources text NOT NULL,
            terms text NOT NULL,
            CHECK ((neighbours IS NULL) = (privacy_unit IS NULL)),
            CHECK (spent_epsilon <= cap_epsilon - held_epsilon),
            CHECK (spent_delta <= cap_delta - held_delta)
        )""",
        """CREATE TABLE charges (
            id text COLLATE "C" PRIMARY KEY,
            dataset text COLLATE "C" NOT NULL REFERENCES budgets (dataset),
            key text COLLATE "C" NOT NULL,
            epsilon bigint NOT NULL CHECK (epsilon > 0),
            delta bigint NOT NULL CHECK (delta >= 0),
            state text NOT NULL
                CHECK (state IN ('RESERVED', 'STARTED', 'PUBLISHED', 'SPENT_UNPUBLISHED', 'REFUNDED')),
            fence bigint NOT NULL UNIQUE CHECK (fence >= 1),
            attempt bigint NOT NULL CHECK (attempt >= 1),
            max_attempts bigint NOT NULL,
            owner text NOT NULL,
            release_id text NOT NULL,
            policy_digest text NOT NULL,
            path text,
            manifest_sha256 text,
            failed bigint NOT NULL CHECK (failed IN (0, 1)),
            details text NOT NULL,
            CHECK (max_attempts >= attempt)
        )""",
        "CREATE INDEX charges_by_key ON charges (dataset, key)",
        "CREATE UNIQUE INDEX charges_open ON charges (dataset, key) WHERE state IN ('RESERVED', 'STARTED')",
        """CREATE TABLE journal (
            dataset text COLLATE "C" NOT NULL REFERENCES budgets (dataset),
            seq bigint NOT NULL CHECK (seq >= 1),
            time text NOT NULL,
            kind text NOT NULL,
            charge_id text NOT NULL,
            epsilon bigint NOT NULL CHECK (epsilon >= 0),
            delta bigint NOT NULL CHECK (delta >= 0),
            fence bigint NOT NULL CHECK (fence >= 0),
            details text NOT NULL,
            prev_hash text NOT NULL,
            hash text NOT NULL,
            actor text NOT NULL,
            PRIMARY KEY (dataset, seq)
        )""",
        "CREATE INDEX journal_by_fence ON journal (fence)",
        """CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE EXCEPTION ''% is append-only'', TG_TABLE_NAME; END'""",
        # Names its schema by the trigger, not by a search path that a caller might set.
        """CREATE FUNCTION refuse_gap() RETURNS trigger LANGUAGE plpgsql AS
            'DECLARE last bigint;
            BEGIN
                EXECUTE format(''SELECT coalesce(max(seq), 0) FROM %I.journal WHERE dataset = $1'', TG_TABLE_SCHEMA)
                    INTO last USING NEW.dataset;
                IF NEW.seq <> last + 1 THEN RAISE EXCEPTION ''journal is append-only''; END IF;
                RETURN NEW;
            END'""",
        """CREATE TRIGGER journal_no_change BEFORE UPDATE OR DELETE ON journal
            FOR EACH ROW EXECUTE FUNCTION refuse_change()""",
        """CREATE TRIGGER journal_only_append BEFORE INSERT ON journal
            FOR EACH ROW EXECUTE FUNCTION refuse_gap()""",
        "CREATE TRIGGER charges_no_delete BEFORE DELETE ON charges FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        "CREATE TRIGGER budgets_no_delete BEFORE DELETE ON budgets FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        "CREATE TRIGGER meta_no_delete BEFORE DELETE ON meta FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        *(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION refuse_change()"
            for table in ("journal", "charges", "budgets", "meta")
        ),
    ),
)

VERSION = FIRST + len(MIGRATIONS) - 1

_OBJECTS = """
WITH ours AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
SELECT 'column ' || c.relname || '.' || a.attname,
    concat_ws(' ', format_type(a.atttypid, a.atttypmod), l.collname, CASE WHEN a.attnotnull THEN 'NOT NULL' END,
        pg_get_expr(d.adbin, d.adrelid))
FROM pg_class c JOIN ours ON c.relnamespace = ours.oid JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind NOT IN ('i', 'I') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'table ' || relname, concat_ws(' ', relkind, relpersistence, relrowsecurity) FROM pg_class
    JOIN ours ON relnamespace = ours.oid WHERE relkind NOT IN ('i', 'I')
UNION ALL SELECT 'rule ' || rulename, tablename FROM pg_rules WHERE schemaname = current_schema()
UNION ALL SELECT 'constraint ' || r.conrelid::regclass::text || ' ' || pg_get_constraintdef(r.oid), r.convalidated::text
    FROM pg_constraint r JOIN ours ON r.connamespace = ours.oid WHERE r.contype <> 'n'
UNION ALL SELECT 'index ' || c.relname, concat_ws(' ', pg_get_indexdef(i.indexrelid, 0, true), i.indisvalid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN ours ON c.relnamespace = ours.oid
UNION ALL SELECT 'trigger ' || t.tgname, concat_ws(' ', pg_get_triggerdef(t.oid, true), t.tgenabled)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN ours ON c.relnamespace = ours.oid
    WHERE NOT t.tgisinternal OR t.tgenabled = 'D'
UNION ALL SELECT 'function ' || p.proname, concat_ws(' ', md5(p.prosrc), p.prosecdef)
    FROM pg_proc p JOIN ours ON p.pronamespace = ours.oid
"""


def migrate(execute: Execute, version: int) -> None:
    """Takes the ledger from `version` (FIRST - 1: nothing) to `VERSION`; the caller holds the transaction."""
    for statements in MIGRATIONS[version - FIRST + 1 :]:
        for statement in statements:
            execute(statement, ())
    execute(
        "INSERT INTO meta (name, value) VALUES ('version', %s) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
        (str(VERSION).encode(),),
    )


@cache
def expected_schema() -> dict[str, str]:
    """Name and definition of every table, column, constraint, index, trigger and function of a ledger of this version,
    as PostgreSQL tells them (schema.tsv: who may only read can't make tables to compare with)."""
    text = files(__package__).joinpath("schema.tsv").read_text(encoding="utf-8")
    return dict(line.split("\t", 1) for line in text.splitlines())


def schema_of(execute: Execute) -> dict[str, str]:
    """Name and definition of all that the ledger's schema has."""
    (row,) = execute("SELECT current_schema()", ())
    return {name: " ".join(text.split()).replace(f" {row[0]}.", " ") for name, text in execute(_OBJECTS, ())}
