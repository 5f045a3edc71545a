"""The interface between the ledger's rules and a database.

A store knows SQL, locking and durability, and nothing of what the rows mean. Those on SQLite and on PostgreSQL pass the
same contract test (tests/unit/ledger/test_ledger_contract.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from dpbeam.ledger.accounts import Budget, Charge
from dpbeam.ledger.checkpoints import Checkpoint
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

    def charges(self, dataset: str | None = None, *, key: str | None = None) -> Iterator[Charge]:
        """The charges of a dataset (or all), of one idempotency key (or all), by increasing fence."""
        ...

    def unfinished(self, dataset: str) -> list[Charge]:
        """The dataset's charges that are RESERVED or STARTED, by an index: finished ones cost nothing."""
        ...

    def insert_charge(self, charge: Charge) -> None: ...

    def update_charge(self, charge: Charge) -> None: ...

    def entries(self, dataset: str, *, since: int = 1) -> Iterator[JournalEntry]:
        """The dataset's journal by increasing `seq`, from the entry `since` on, one at a time."""
        ...

    def entries_of(self, charge_id: str) -> list[JournalEntry]:
        """The entries of one charge by increasing `seq`, by an index."""
        ...

    def entry(self, dataset: str, seq: int) -> JournalEntry | None: ...

    def last_entry(self, dataset: str) -> JournalEntry | None: ...

    def last_anchor(self, dataset: str) -> JournalEntry | None:
        """The newest entry of kind `anchored`, by an index."""
        ...

    def append(self, entry: JournalEntry) -> None: ...

    def last_fence(self) -> int:
        """The highest fence of the whole ledger, 0 if there is none."""
        ...

    def journal_datasets(self) -> list[str]:
        """The datasets that the journal names, sorted."""
        ...

    def checkpoints(self, dataset: str) -> list[Checkpoint]:
        """What is signed of the dataset's journal, at most one a key, by increasing `seq`."""
        ...

    def put_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keeps it in the place of the one that the same key signed before."""
        ...

    def charged_datasets(self) -> list[str]:
        """The datasets that charges name, sorted."""
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

    def kept_open(self) -> AbstractContextManager[None]:
        """What costs time at the beginning and end of each transaction is done once for the whole block. For this
        process alone; a process that is forked inside the block does without."""
        ...


def ledger_id(store: Store) -> str:
    """What journals call the store's ledger; tells nothing of its secret but whether it is the same."""
    return ledger_id_of(store.secret)


def ledger_id_of(secret: bytes) -> str:
    """What journals call the ledger that has this secret."""
    return hashlib.sha256(b"dpbeam ledger\0" + secret).hexdigest()
