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

from dpbeam.errors import LedgerError
from dpbeam.ledger.refusals import unverifiable
from dpbeam.ledger.rows import Row
from dpbeam.ledger.sql import SqlTransaction
from dpbeam.ledger.stores.sqlite import file as sqlite_file
from dpbeam.ledger.stores.sqlite.schema import VERSION, expected_schema, schema_of


@dataclass(frozen=True, kw_only=True)
class SqliteStore:
    """A ledger in one SQLite file. Make one with `SqliteStore.open`."""

    path: Path
    secret: bytes = field(repr=False)

    @classmethod
    def open(cls, path: Path, *, create: bool, reading: bool = False, secret: bytes | None = None) -> SqliteStore:
        """Opens the ledger in `path`; migrates one of an older version; makes a new one only if `create`. For `reading`
        it may lie where nothing can be written, and one of an older version stays as it is. A new one gets `secret`, or
        a random one.

        Raises:
            LedgerError: missing (and not `create`), unreadable, read-only, damaged, no ledger, of a newer version; or
                it has several names.
        """
        return cls(path=path, secret=sqlite_file.prepare(path, create=create, reading=reading, secret=secret))

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

    def _check_same(self, connection: sqlite3.Connection) -> None:
        if sqlite_file.read_secret(connection, self.path) != self.secret:
            raise self._replaced()

    def _replaced(self) -> LedgerError:
        return LedgerError(
            f"the ledger {self.path} was replaced while it was in use; check it with `dpbeam budget verify`, then "
            "start the command again"
        )


class SqliteTransaction(SqlTransaction):
    """`Transaction` over one open connection."""

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        super().__init__(place)
        self._connection = connection

    def check_integrity(self) -> None:
        faults = self._all("PRAGMA integrity_check(1)")
        if faults != [("ok",)]:
            raise unverifiable(self._place, "SQLite's integrity check finds damaged pages or rows")
        self.check_schema()

    def check_schema(self) -> None:
        if schema_of(self._connection) != expected_schema():
            raise unverifiable(self._place, "its tables or triggers are not those of this version")

    def _all(self, query: str, *values: object) -> list[Row]:
        return self._connection.execute(query, values).fetchall()

    def _changed(self, statement: str, *values: object) -> int:
        return self._connection.execute(statement, values).rowcount
