"""Transactions on the ledger's server: begun in their turn, and known to be committed or not.

Guarantee (`writing`): from its first read to its commit it excludes all others that write by this store, for each
locks the one row of `turn` first; the lock is the server's, so it ends with the transaction, however the client ends.
READ COMMITTED is enough then: each statement sees what was committed last, and nobody else commits. A commit returns
when it lies on the server's disk (`fsync`, `full_page_writes` and `synchronous_commit` are looked at each time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from dpbeam.errors import LedgerError
from dpbeam.ledger.refusals import unverifiable
from dpbeam.ledger.stores.postgresql.address import Address
from dpbeam.ledger.stores.postgresql.connections import Connection, Connections
from dpbeam.ledger.stores.postgresql.errors import is_locked, is_lost
from dpbeam.ledger.stores.postgresql.schema import Execute
from dpbeam.ledger.waiting import SAID_AFTER_S, Patience, tell

_IDLE_S = 300
"""The server ends a transaction whose client has said nothing for so long, so that a host that was cut off keeps the
ledger from others no longer than that."""
_META = """SELECT (SELECT value FROM meta WHERE name = 'version'), (SELECT value FROM meta WHERE name = 'secret'),
    current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_encoding')"""
_DURABLY = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"


@dataclass(frozen=True)
class Head:
    """What a transaction finds first: the ledger's version and its secret."""

    version: int
    secret: bytes


def writing(connections: Connections, address: Address, *, opening: bool = False) -> tuple[Connection, Head]:
    """A connection in a transaction that excludes other writers. While the server is away it waits for it, unless it
    is `opening` the ledger: then it may be named wrongly.

    Raises:
        psycopg.Error: others kept the ledger, or the server stayed away, for too long; or it refuses.
        LedgerError: a commit wouldn't be durable there.
    """
    others = Patience(address.lock_timeout, "other runs at the ledger")

    def begin(connection: Connection) -> tuple[Any, ...]:
        # A short wait first: who waits longer is told so, and then keeps its place in the server's queue.
        for seconds in (min(SAID_AFTER_S, address.lock_timeout), address.lock_timeout):
            try:
                return _last(connection, _begin_write(address, seconds))
            except psycopg.OperationalError as error:
                if not is_locked(error) or seconds == address.lock_timeout:
                    raise
                connection.execute("ROLLBACK")
                tell(others.what)
        raise AssertionError("the last try returns or raises")

    connection, row = _begun(connections, address, begin, opening=opening)
    if (row[2], row[3]) != ("on", "on"):
        rolled_back(connections, connection)
        raise LedgerError(
            f"the ledger {address} can't be used: its server runs with fsync or full_page_writes off, so that what is "
            "charged may be forgotten when it crashes; turn both on"
        )
    return connection, _head(address, row)


def reading(connections: Connections, address: Address, *, opening: bool = False) -> tuple[Connection, Head]:
    """A connection in a transaction that sees one state of the ledger, and writes nothing. Waits and raises as
    `writing` does, but for no other run."""

    def begin(connection: Connection) -> tuple[Any, ...]:
        return _last(connection, f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_settings(address)}; {_META}")

    connection, row = _begun(connections, address, begin, opening=opening)
    return connection, _head(address, row)


def rolled_back(connections: Connections, connection: Connection) -> None:
    """Ends a transaction that leaves nothing behind."""
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:  # then the server does it, when it finds the connection gone
        connection.close()
    connections.give(connection)


def committed(connections: Connections, connection: Connection) -> None:
    """Commits. If it returns, the transaction is durable.

    Raises:
        psycopg.Error: it may be, or not, if the connection was lost; it is not, if the server said no.
    """
    try:
        said = connection.execute("COMMIT").statusmessage
    except BaseException:
        connection.close()
        raise
    finally:
        connections.give(connection)
    if said != "COMMIT":
        raise psycopg.errors.InFailedSqlTransaction("a transaction that had failed can't be committed")


def executor(connection: Connection) -> Execute:
    """The connection as migrations and checks use it."""

    def execute(statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    return execute


def _begun(
    connections: Connections, address: Address, begin: Callable[[Connection], tuple[Any, ...]], *, opening: bool
) -> tuple[Connection, tuple[Any, ...]]:
    patience = Patience(address.lock_timeout, "the ledger's server")
    while True:
        try:
            connection, used = connections.take()
        except psycopg.OperationalError:
            if opening or not patience.wait():
                raise
            continue
        try:
            return connection, begin(connection)
        except psycopg.Error as error:
            if is_lost(error):
                connection.close()
                connections.clear()
                if used or (not opening and patience.wait()):
                    continue
                raise
            rolled_back(connections, connection)
            raise
        except BaseException:
            connection.close()
            raise


def _begin_write(address: Address, seconds: float) -> str:
    return "; ".join(
        (
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            "SET LOCAL statement_timeout = 0",
            f"SET LOCAL lock_timeout = {round(1000 * seconds)}",
            f'SELECT one FROM "{address.schema}".turn FOR UPDATE',
            _settings(address),
            _DURABLY,
            _META,
        )
    )


def _settings(address: Address) -> str:
    return "; ".join(
        (
            f'SET LOCAL search_path = "{address.schema}", pg_temp',
            f"SET LOCAL statement_timeout = {1000 * address.statement_timeout}",
            f"SET LOCAL idle_in_transaction_session_timeout = {1000 * _IDLE_S}",
        )
    )


def _last(connection: Connection, statements: str) -> tuple[Any, ...]:
    """The one row of the last of several statements, which go to the server in one message."""
    cursor = connection.execute(statements.encode())
    while cursor.nextset():
        pass
    (row,) = cursor.fetchall()
    return row


def _head(address: Address, row: tuple[Any, ...]) -> Head:
    version, secret = row[0], row[1]
    if version is None or not version.isdigit():
        raise unverifiable(str(address), "its version is missing")
    if secret is None or len(secret) != 32:
        raise unverifiable(str(address), "its secret is missing or not 32 bytes")
    return Head(int(version), secret)
