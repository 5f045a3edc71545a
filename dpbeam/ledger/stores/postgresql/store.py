"""The `Store` in a PostgreSQL database: one writer at a time, by the server's own lock, and commits that it keeps."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from dpbeam.errors import LedgerError
from dpbeam.ledger.entries import JournalEntry
from dpbeam.ledger.refusals import Unreachable, unverifiable
from dpbeam.ledger.rows import Row
from dpbeam.ledger.sql import SqlTransaction
from dpbeam.ledger.stores.postgresql import session
from dpbeam.ledger.stores.postgresql.address import Address
from dpbeam.ledger.stores.postgresql.connections import Connection, Connections
from dpbeam.ledger.stores.postgresql.errors import errors_named, is_lost
from dpbeam.ledger.stores.postgresql.schema import FIRST, VERSION, expected_schema, migrate, schema_of


@dataclass(frozen=True, kw_only=True)
class PostgresqlStore:
    """A ledger in a schema of a PostgreSQL database. Make one with `PostgresqlStore.open`."""

    address: Address
    secret: bytes = field(repr=False)
    connections: Connections = field(repr=False, compare=False)

    @classmethod
    def open(cls, url: str, *, create: bool, reading: bool = False, secret: bytes | None = None) -> PostgresqlStore:
        """Opens the ledger that `url` names; migrates one of an older version, makes a new one only if `create`,
        with `secret` or a random one.

        Raises:
            LedgerError: the URL isn't one; the server can't be reached, or refuses; there is no ledger (and not
                `create`), or one of a newer version; what is written there wouldn't be durable.
        """
        address = Address.read(url)
        connections = Connections(address)
        with errors_named(address):
            if not _is_there(connections, address):
                if not create:
                    raise LedgerError(
                        f"there is no ledger at {address}; create a budget first with "
                        f"`dpbeam budget create POLICY --ledger '{address}'`, or name the right ledger"
                    )
                _make(connections, address, secret or secrets.token_bytes(32))
            begin = session.reading if reading else session.writing
            connection, head = begin(connections, address, opening=True)
            try:
                _check_version(address, head.version, reading=reading)
                if head.version < VERSION:
                    migrate(session.executor(connection), head.version)
            except BaseException:
                session.rolled_back(connections, connection)
                raise
            session.committed(connections, connection)
        return cls(address=address, secret=head.secret, connections=connections)

    @property
    def place(self) -> str:
        return str(self.address)

    @contextmanager
    def write(self) -> Iterator[PostgresqlTransaction]:
        with errors_named(self.address):
            connection, head = session.writing(self.connections, self.address)
            try:
                self._check_same(head)
                transaction = PostgresqlTransaction(connection, self.place)
                yield transaction
            except BaseException:
                session.rolled_back(self.connections, connection)
                raise
            try:
                session.committed(self.connections, connection)
            except psycopg.Error as error:
                if not is_lost(error):
                    raise
                self._settle(transaction)

    @contextmanager
    def read(self) -> Iterator[PostgresqlTransaction]:
        with errors_named(self.address):
            connection, head = session.reading(self.connections, self.address)
            try:
                self._check_same(head)
                yield PostgresqlTransaction(connection, self.place)
            finally:
                session.rolled_back(self.connections, connection)

    def _settle(self, transaction: PostgresqlTransaction) -> None:
        """Finds out what became of a commit whose answer was lost: returns if it was recorded.

        Guarantee: what it says is so for good. It asks under the lock that the lost transaction held, so that one is
        over; and the entry that was appended is in the journal, with its own hash, exactly if it was committed.

        Raises:
            Unreachable: it was not recorded, and never will be.
            LedgerError: that can't be found out now.
        """
        entry = transaction.appended
        if entry is None and not transaction.changed:
            return
        unknown = LedgerError(
            f"the connection to the ledger {self.address} broke off while a change was written, and whether it was "
            "recorded can't be found out now. Nothing is charged twice: when the server is there again, "
            "`dpbeam recover` settles what is unfinished, or start the same command again"
        )
        if entry is None:
            raise unknown
        try:
            connection, head = session.writing(self.connections, self.address)
            try:
                self._check_same(head)
                found = connection.execute(
                    "SELECT hash FROM journal WHERE dataset = %s AND seq = %s", (entry.dataset, entry.seq)
                ).fetchone()
            finally:
                session.rolled_back(self.connections, connection)
        except (psycopg.Error, LedgerError):
            raise unknown from None
        if found != (entry.hash,):
            raise Unreachable(self.place, "the connection broke off before the change was recorded")

    def _check_same(self, head: session.Head) -> None:
        if head != session.Head(VERSION, self.secret):
            raise LedgerError(
                f"the ledger {self.address} was replaced while it was in use; check it with `dpbeam budget verify`, "
                "then start the command again"
            )


class PostgresqlTransaction(SqlTransaction):
    """`Transaction` over one connection; knows whether it changed anything, and what it appended last."""

    def __init__(self, connection: Connection, place: str) -> None:
        super().__init__(place)
        self._connection = connection
        self.appended: JournalEntry | None = None
        self.changed = False

    def append(self, entry: JournalEntry) -> None:
        super().append(entry)
        self.appended = entry

    def check_integrity(self) -> None:
        # Pages are the server's to check (initdb --data-checksums); all rows are read by who verifies.
        self.check_schema()

    def check_schema(self) -> None:
        if schema_of(session.executor(self._connection)) != expected_schema():
            raise unverifiable(self._place, "its tables or triggers are not those of this version")

    def _all(self, query: str, *values: object) -> list[Row]:
        if not all(_may_be_stored(value) for value in values):
            return []  # no row has it
        return self._connection.execute(query.replace("?", "%s").encode(), values).fetchall()

    def _changed(self, statement: str, *values: object) -> int:
        self.changed = True
        return self._connection.execute(statement.replace("?", "%s").encode(), values).rowcount


def _may_be_stored(value: object) -> bool:
    """Whether PostgreSQL has such a text: without NUL, and valid Unicode."""
    if not isinstance(value, str):
        return True
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _is_there(connections: Connections, address: Address) -> bool:
    connection, _ = connections.take()
    try:
        (found,) = connection.execute("SELECT to_regclass(%s)", (f'"{address.schema}".turn',)).fetchall()
        return found[0] is not None
    finally:
        connections.give(connection)


def _make(connections: Connections, address: Address, secret: bytes) -> None:
    """Makes an empty ledger, whole or not at all, where there is none; of several that try, one does."""
    connection, _ = connections.take()
    try:
        execute = session.executor(connection)
        with connection.transaction():
            (encoding,) = execute("SELECT current_setting('server_encoding')", ())
            if encoding != ("UTF8",):
                raise LedgerError(f"the database of the ledger {address} must have encoding UTF8, got {encoding[0]}")
            execute("SELECT pg_advisory_xact_lock(hashtextextended('dpbeam ledger ' || %s, 0))", (address.schema,))
            execute("SELECT set_config('synchronous_commit', 'on', true)", ())
            if not execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (address.schema,)):
                execute(f'CREATE SCHEMA "{address.schema}"', ())
            execute(f'SET LOCAL search_path = "{address.schema}", pg_temp', ())
            if execute("SELECT to_regclass(%s)", (f'"{address.schema}".turn',)) != [(None,)]:
                return  # another process made it first: that one counts
            if schema_of(execute):
                raise LedgerError(
                    f"the schema {address.schema} of {address} holds something else; name another with ?schema=NAME"
                )
            migrate(execute, FIRST - 1)
            execute("INSERT INTO meta (name, value) VALUES ('secret', %s)", (secret,))
    finally:
        connections.give(connection)


def _check_version(address: Address, version: int, *, reading: bool) -> None:
    if version > VERSION:
        raise LedgerError(
            f"the ledger {address} has version {version}, this dpbeam knows versions up to {VERSION}; install the "
            "dpbeam that wrote it, or a newer one"
        )
    if version < FIRST:
        raise unverifiable(str(address), "its version is one that no ledger on PostgreSQL had")
    if reading and version < VERSION:
        raise LedgerError(
            f"the ledger {address} has version {version}; it is read once a command that writes, such as `dpbeam run`, "
            "has migrated it"
        )
