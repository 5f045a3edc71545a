"""The interface between the ledger's rules and a database.

A store knows SQL, locking and durability, and nothing of what the rows mean. Those on SQLite and on PostgreSQL pass the
same contract test (tests/unit/ledger/test_ledger_contract.py).
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from typing import Protocol

from dpbeam.ledger.accounts import Budget, Charge
from dpbeam.ledger.entries import JournalEntry


class Transaction(Protocol):
    """One transaction: what it reads is one state of the ledger, what it writes becomes durable whole or not at all.

    Every method raises LedgerError if the database can't be read or written, or holds a row that isn't a value.
    """

    def datasets(self) -> list[str]:
        """The datasets with a budget, sorted."""
        ...

    def budget(self, dataset: str) -> Budget | None: ...

    def insert_budget(self, budget: Budget) -> None: ...

    def update_budget(self, budget: Budget) -> None: ...

    def charge(self, charge_id: str) -> Charge | None: ...

    def charges(self, dataset: str | None = None, *, key: str | None = None) -> list[Charge]:
        """The charges of a dataset (or all), of one idempotency key (or all), by increasing fence."""
        ...

    def insert_charge(self, charge: Charge) -> None: ...

    def update_charge(self, charge: Charge) -> None: ...

    def entries(self, dataset: str) -> list[JournalEntry]:
        """The dataset's journal by increasing `seq`."""
        ...

    def last_entry(self, dataset: str) -> JournalEntry | None: ...

    def append(self, entry: JournalEntry) -> None: ...

    def last_fence(self) -> int:
        """The highest fence of the whole ledger, 0 if there is none."""
        ...

    def journal_datasets(self) -> list[str]:
        """The datasets that the journal names, sorted."""
        ...

    def check_schema(self) -> None:
        """Whether tables, constraints and triggers are those of this version."""
        ...

    def check_integrity(self) -> None:
        """The database's own checks of pages and rows, and `check_schema`."""
        ...


class Store(Protocol):
    """A database that holds one ledger."""

    @property
    def place(self) -> str:
        """Where it is, as messages name it; holds no password."""
        ...

    @property
    def secret(self) -> bytes:
        """32 random bytes, made with the ledger."""
        ...

    def write(self) -> AbstractContextManager[Transaction]:
        """A transaction that excludes all other writers from its first read to its commit.

        Guarantee: once the block has ended without an exception, what it wrote survives the loss of power.
        """
        ...

    def read(self) -> AbstractContextManager[Transaction]:
        """A transaction that sees one state of the ledger and writes nothing."""
        ...


def ledger_id(store: Store) -> str:
    """What journals call the store's ledger; tells nothing of its secret but whether it is the same."""
    return ledger_id_of(store.secret)


def ledger_id_of(secret: bytes) -> str:
    """What journals call the ledger that has this secret."""
    return hashlib.sha256(b"dpbeam ledger\0" + secret).hexdigest()
