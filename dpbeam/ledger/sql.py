"""A `Transaction` in SQL that every database understands; a store says how a statement is executed and checked."""

from __future__ import annotations

from abc import ABC, abstractmethod

from dpbeam.ledger.accounts import Budget, Charge
from dpbeam.ledger.checks import is_dataset
from dpbeam.ledger.entries import JournalEntry
from dpbeam.ledger.refusals import unverifiable
from dpbeam.ledger.rows import (
    BUDGET,
    CHARGE,
    ENTRY,
    Row,
    budget_row,
    charge_row,
    entry_row,
    read_budget,
    read_charge,
    read_entry,
)

_MOST_FENCES = 2**62


class SqlTransaction(ABC):
    """`Transaction` over one open connection, in tables `budgets`, `charges` and `journal` with the columns of `rows`.
    Statements mark their values with `?`."""

    def __init__(self, place: str) -> None:
        self._place = place

    @abstractmethod
    def _all(self, query: str, *values: object) -> list[Row]:
        """The rows that the query finds."""

    @abstractmethod
    def _changed(self, statement: str, *values: object) -> int:
        """How many rows the statement has written."""

    @abstractmethod
    def check_integrity(self) -> None: ...

    @abstractmethod
    def check_schema(self) -> None: ...

    def datasets(self) -> list[str]:
        return self._datasets("SELECT dataset FROM budgets ORDER BY dataset")

    def budget(self, dataset: str) -> Budget | None:
        rows = self._all(f"SELECT {_names(BUDGET)} FROM budgets WHERE dataset = ?", dataset)
        return read_budget(rows[0], self._place) if rows else None

    def insert_budget(self, budget: Budget) -> None:
        self._write(f"INSERT INTO budgets ({_names(BUDGET)}) VALUES ({_marks(BUDGET)})", *budget_row(budget))

    def update_budget(self, budget: Budget) -> None:
        self._write(
            f"UPDATE budgets SET ({_names(BUDGET)}) = ({_marks(BUDGET)}) WHERE dataset = ?",
            *budget_row(budget),
            budget.dataset,
        )

    def charge(self, charge_id: str) -> Charge | None:
        rows = self._all(f"SELECT {_names(CHARGE)} FROM charges WHERE id = ?", charge_id)
        return read_charge(rows[0], self._place) if rows else None

    def charges(self, dataset: str | None = None, *, key: str | None = None) -> list[Charge]:
        asked = {column: value for column, value in (("dataset", dataset), ("key", key)) if value is not None}
        where = " AND ".join(f"{column} = ?" for column in asked) or "TRUE"
        query = f"SELECT {_names(CHARGE)} FROM charges WHERE {where} ORDER BY fence"
        return [read_charge(row, self._place) for row in self._all(query, *asked.values())]

    def insert_charge(self, charge: Charge) -> None:
        self._write(f"INSERT INTO charges ({_names(CHARGE)}) VALUES ({_marks(CHARGE)})", *charge_row(charge))

    def update_charge(self, charge: Charge) -> None:
        self._write(
            f"UPDATE charges SET ({_names(CHARGE)}) = ({_marks(CHARGE)}) WHERE id = ?",
            *charge_row(charge),
            charge.id,
        )

    def entries(self, dataset: str) -> list[JournalEntry]:
        query = f"SELECT {_names(ENTRY)} FROM journal WHERE dataset = ? ORDER BY seq"
        return [read_entry(row, self._place) for row in self._all(query, dataset)]

    def last_entry(self, dataset: str) -> JournalEntry | None:
        query = f"SELECT {_names(ENTRY)} FROM journal WHERE dataset = ? ORDER BY seq DESC LIMIT 1"
        rows = self._all(query, dataset)
        return read_entry(rows[0], self._place) if rows else None

    def append(self, entry: JournalEntry) -> None:
        self._write(f"INSERT INTO journal ({_names(ENTRY)}) VALUES ({_marks(ENTRY)})", *entry_row(entry))

    def last_fence(self) -> int:
        # One that can't be is another dataset's damage, for the caller's own is verified; it stops nobody else.
        highest = "SELECT max(fence) AS fence FROM {} WHERE fence < ?"
        fences = f"{highest.format('journal')} UNION ALL {highest.format('charges')}"
        [(fence,)] = self._all(f"SELECT coalesce(max(fence), 0) FROM ({fences}) AS f", _MOST_FENCES, _MOST_FENCES)
        return int(fence)

    def journal_datasets(self) -> list[str]:
        return self._datasets("SELECT DISTINCT dataset FROM journal ORDER BY dataset")

    def _datasets(self, query: str) -> list[str]:
        names = [row[0] for row in self._all(query)]
        for dataset in names:
            if not is_dataset(dataset):
                raise unverifiable(self._place, "a row is of no dataset", dataset=dataset)
        return names

    def _write(self, statement: str, *values: object) -> None:
        if self._changed(statement, *values) != 1:
            raise unverifiable(self._place, "a row that was there a moment ago is gone")


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(columns)


def _marks(columns: tuple[str, ...]) -> str:
    return ", ".join("?" * len(columns))
