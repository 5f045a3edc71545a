"""The `Store` in one SQLite file: WAL, synchronous=FULL, BEGIN IMMEDIATE.

Every transaction opens its own connection. So nothing breaks over a fork or between threads, a ledger that was
deleted or replaced under a running job is noticed, and between transactions the whole ledger is one file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpbeam.errors import LedgerError
from dpbeam.ledger.accounts import Balance, Budget, Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.canonical import canonical, parsed
from dpbeam.ledger.checkpoints import Checkpoint
from dpbeam.ledger.checks import is_dataset
from dpbeam.ledger.entries import JournalEntry, Record
from dpbeam.ledger.meters import meter_named
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.refusals import unverifiable
from dpbeam.ledger.scope import Protected
from dpbeam.ledger.stores.sqlite import file as sqlite_file
from dpbeam.ledger.stores.sqlite.schema import BUDGET, CHARGE, CHECKPOINT, ENTRY, VERSION, expected_schema, schema_of
from dpbeam.ledger.terms import ChargeDetails, Terms

_MOST_FENCES = 2**62


@dataclass(frozen=True, kw_only=True)
class SqliteStore:
    """A ledger in one SQLite file. Make one with `SqliteStore.open`."""

    path: Path
    secret: bytes = field(repr=False)

    @classmethod
    def open(cls, path: Path, *, create: bool, reading: bool = False) -> SqliteStore:
        """Opens the ledger in `path`; migrates one of an older version; makes a new one only if `create`. For `reading`
        it may lie where nothing can be written, and one of an older version stays as it is.

        Raises:
            LedgerError: missing (and not `create`), unreadable, read-only, damaged, no ledger, of a newer version; or
                it has several names.
        """
        return cls(path=path, secret=sqlite_file.prepare(path, create=create, reading=reading))

    @property
    def place(self) -> str:
        return str(self.path)

    @contextmanager
    def write(self) -> Iterator[SqliteTransaction]:
        with sqlite_file.errors_named(self.path), sqlite_file.written(self.path) as connection:
            if sqlite_file.check_version(connection, self.path) != VERSION:
                raise self._replaced()
            self._check_same(connection)
            yield SqliteTransaction(connection, self.place)

    @contextmanager
    def read(self) -> Iterator[SqliteTransaction]:
        with sqlite_file.errors_named(self.path), sqlite_file.read(self.path) as connection:
            self._check_same(connection)
            yield SqliteTransaction(connection, self.place)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        with sqlite_file.errors_named(self.path), sqlite_file.kept_open(self.path):
            yield

    def _check_same(self, connection: sqlite3.Connection) -> None:
        if sqlite_file.read_secret(connection, self.path) != self.secret:
            raise self._replaced()

    def _replaced(self) -> LedgerError:
        return LedgerError(
            f"the ledger {self.path} was replaced while it was in use; check it with `dpbeam budget verify`, then "
            "start the command again"
        )


class SqliteTransaction:
    """`Transaction` over one open connection."""

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        self._connection = connection
        self._place = place

    def datasets(self) -> list[str]:
        return self._datasets("SELECT dataset FROM budgets ORDER BY dataset")

    def budget(self, dataset: str) -> Budget | None:
        rows = self._all(f"SELECT {_names(BUDGET)} FROM budgets WHERE dataset = ?", dataset)
        return self._budget(rows[0]) if rows else None

    def insert_budget(self, budget: Budget) -> None:
        self._write(f"INSERT INTO budgets ({_names(BUDGET)}) VALUES ({_marks(BUDGET)})", *_budget(budget))

    def update_budget(self, budget: Budget) -> None:
        self._write(
            f"UPDATE budgets SET ({_names(BUDGET)}) = ({_marks(BUDGET)}) WHERE dataset = ?",
            *_budget(budget),
            budget.dataset,
        )

    def charge(self, charge_id: str) -> Charge | None:
        rows = self._all(f"SELECT {_names(CHARGE)} FROM charges WHERE id = ?", charge_id)
        return self._charge(rows[0]) if rows else None

    def charges(self, dataset: str, *, key: str | None = None) -> Iterator[Charge]:
        query = f"SELECT {_names(CHARGE)} FROM charges WHERE dataset = ?"
        rows = (query, dataset) if key is None else (f"{query} AND key = ?", dataset, key)
        return map(self._charge, self._each(f"{rows[0]} ORDER BY fence", *rows[1:]))

    def unfinished(self, dataset: str) -> list[Charge]:
        query = f"SELECT {_names(CHARGE)} FROM charges WHERE dataset = ? AND state IN ('RESERVED', 'STARTED')"
        return [self._charge(row) for row in self._all(f"{query} ORDER BY fence", dataset)]

    def insert_charge(self, charge: Charge) -> None:
        self._write(f"INSERT INTO charges ({_names(CHARGE)}) VALUES ({_marks(CHARGE)})", *_charge(charge))

    def update_charge(self, charge: Charge) -> None:
        self._write(
            f"UPDATE charges SET ({_names(CHARGE)}) = ({_marks(CHARGE)}) WHERE id = ?",
            *_charge(charge),
            charge.id,
        )

    def entries(self, dataset: str, *, since: int = 1) -> Iterator[JournalEntry]:
        every = f"SELECT {_names(ENTRY)} FROM journal WHERE dataset = ?"
        if since == 1:  # what can't be an entry's number is found too
            return map(self._entry, self._each(f"{every} ORDER BY seq", dataset))
        return map(self._entry, self._each(f"{every} AND seq >= ? ORDER BY seq", dataset, since))

    def entries_of(self, charge_id: str) -> list[JournalEntry]:
        of_charge = f"SELECT {_names(ENTRY)} FROM journal WHERE charge_id = ? AND charge_id != '' ORDER BY seq"
        return [self._entry(row) for row in self._all(of_charge, charge_id)]

    def entry(self, dataset: str, seq: int) -> JournalEntry | None:
        return self._one_entry("AND seq = ?", dataset, seq)

    def last_entry(self, dataset: str) -> JournalEntry | None:
        return self._one_entry("ORDER BY seq DESC LIMIT 1", dataset)

    def last_anchor(self, dataset: str) -> JournalEntry | None:
        return self._one_entry("AND kind = 'anchored' ORDER BY seq DESC LIMIT 1", dataset)

    def _one_entry(self, which: str, *values: object) -> JournalEntry | None:
        rows = self._all(f"SELECT {_names(ENTRY)} FROM journal WHERE dataset = ? {which}", *values)
        return self._entry(rows[0]) if rows else None

    def append(self, entry: JournalEntry) -> None:
        self._write(f"INSERT INTO journal ({_names(ENTRY)}) VALUES ({_marks(ENTRY)})", *_entry(entry))

    def last_fence(self) -> int:
        # One that can't be is another dataset's damage, for the caller's own is verified; it stops nobody else.
        found = [
            self._all(f"SELECT coalesce(max(fence), 0) FROM {table} WHERE fence < ?", _MOST_FENCES)
            for table in ("journal", "charges")  # each by its index; of both at once SQLite reads every row
        ]
        return max(int(fence) for [(fence,)] in found)

    def journal_datasets(self) -> list[str]:
        return self._datasets("SELECT DISTINCT dataset FROM journal ORDER BY dataset")

    def checkpoints(self, dataset: str) -> list[Checkpoint]:
        query = f"SELECT {_names(CHECKPOINT)} FROM checkpoints WHERE dataset = ? ORDER BY seq, key"
        try:
            rows = self._all(query, dataset)
            return [Checkpoint(**dict(zip(CHECKPOINT, row, strict=True))) for row in rows]
        except (ValueError, TypeError):
            raise unverifiable(self._place, "the row of a checkpoint is no checkpoint", dataset=dataset) from None

    def put_checkpoint(self, checkpoint: Checkpoint) -> None:
        values = (getattr(checkpoint, name) for name in CHECKPOINT)
        self._write(f"INSERT OR REPLACE INTO checkpoints ({_names(CHECKPOINT)}) VALUES ({_marks(CHECKPOINT)})", *values)

    def charged_datasets(self) -> list[str]:
        return self._datasets("SELECT DISTINCT dataset FROM charges ORDER BY dataset")

    def check_integrity(self) -> None:
        faults = self._all("PRAGMA integrity_check(1)")
        if faults != [("ok",)]:
            raise unverifiable(self._place, "SQLite's integrity check finds damaged pages or rows")
        self.check_schema()

    def check_schema(self) -> None:
        if schema_of(self._connection) != expected_schema():
            raise unverifiable(self._place, "its tables or triggers are not those of this version")

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def _each(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        return self._connection.execute(query, values)

    def _datasets(self, query: str) -> list[str]:
        names = [row[0] for row in self._all(query)]
        for dataset in names:
            if not is_dataset(dataset):
                raise unverifiable(self._place, "a row is of no dataset", dataset=dataset)
        return names

    def _write(self, query: str, *values: object) -> None:
        if self._connection.execute(query, values).rowcount != 1:
            raise unverifiable(self._place, "a row that was there a moment ago is gone")

    def _budget(self, row: tuple[Any, ...]) -> Budget:
        dataset, meter, *units, head_seq, head_hash, unit, neighbours, sources, terms = row
        try:
            cap, spent, held = (Amount(epsilon=units[i], delta=units[i + 1]) for i in (0, 2, 4))
            balance = Balance(meter=meter_named(meter), cap=cap, spent=spent, held=held)
            return Budget(
                dataset=dataset,
                balance=balance,
                head_seq=head_seq,
                head_hash=head_hash,
                protected=None if unit is None else Protected(unit=unit, neighbours=neighbours),
                sources=tuple(parsed(sources, list)),
                terms=Terms.from_json(parsed(terms, dict)),
            )
        except (ValueError, TypeError):
            raise unverifiable(self._place, "the balance of a dataset is no balance", dataset=dataset) from None

    def _charge(self, row: tuple[Any, ...]) -> Charge:
        fields = dict(zip(CHARGE, row, strict=True))
        dataset = fields["dataset"]
        try:
            amount = Amount(epsilon=fields.pop("epsilon"), delta=fields.pop("delta"))
            owner, failed = Owner(**parsed(fields["owner"], dict)), {0: False, 1: True}[fields["failed"]]
            details = ChargeDetails.from_json(parsed(fields["details"], dict))
            return Charge(**fields | {"amount": amount, "owner": owner, "failed": failed, "details": details})
        except (KeyError, ValueError, TypeError):
            raise unverifiable(self._place, "the row of a charge is no charge", dataset=dataset) from None

    def _entry(self, row: tuple[Any, ...]) -> JournalEntry:
        fields = dict(zip(ENTRY, row, strict=True))
        try:
            amount = Amount(epsilon=fields.pop("epsilon"), delta=fields.pop("delta"))
            of_fact = {name: fields.pop(name) for name in ("kind", "charge_id", "fence", "details")}
            return JournalEntry.read(**fields, record=Record(amount=amount, **of_fact))
        except (ValueError, TypeError):
            what = f"a row of the journal of dataset {fields['dataset']} is no journal entry"
            raise unverifiable(self._place, what, dataset=fields["dataset"]) from None


def _budget(budget: Budget) -> tuple[Any, ...]:
    balance = budget.balance
    units = [n for part in (balance.cap, balance.spent, balance.held) for n in (part.epsilon, part.delta)]
    unit = None if budget.protected is None else budget.protected.unit
    neighbours = None if budget.protected is None else budget.protected.neighbours
    place = (
        budget.head_seq,
        budget.head_hash,
        unit,
        neighbours,
        canonical(list(budget.sources)),
        canonical(budget.terms.to_json()),
    )
    return (budget.dataset, balance.meter.name, *units, *place)


def _charge(charge: Charge) -> tuple[Any, ...]:
    special = {
        "epsilon": charge.amount.epsilon,
        "delta": charge.amount.delta,
        "owner": canonical(charge.owner.to_json()),
        "failed": int(charge.failed),
        "details": canonical(charge.details.to_json()),
    }
    return tuple(special[name] if name in special else getattr(charge, name) for name in CHARGE)


def _entry(entry: JournalEntry) -> tuple[Any, ...]:
    record = entry.record
    of_fact = {
        "kind": record.kind,
        "charge_id": record.charge_id,
        "epsilon": record.amount.epsilon,
        "delta": record.amount.delta,
        "fence": record.fence,
        "details": record.details,
    }
    return tuple(of_fact[name] if name in of_fact else getattr(entry, name) for name in ENTRY)


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(columns)


def _marks(columns: tuple[str, ...]) -> str:
    return ", ".join("?" * len(columns))
