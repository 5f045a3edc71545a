"""Connections to the ledger's server: made, kept for the next transaction, and let go when they broke."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import psycopg

from dpbeam.ledger.stores.postgresql.address import Address

Connection = psycopg.Connection[tuple[Any, ...]]

_MOST_KEPT = 8
_inherited: list[list[Connection]] = []
"""Connections of a parent process: never used nor closed here, for they are its own."""


class Connections:
    """What a store's transactions run over. Safe from several threads, and after a fork."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._idle: list[Connection] = []
        weakref.finalize(self, _close, self._idle, self._pid)
        _alive.add(self)

    def take(self) -> tuple[Connection, bool]:
        """A connection in no transaction, and whether it was used before, so that it may have broken since.

        Raises:
            psycopg.OperationalError: the server can't be reached, or refuses.
            LedgerError: the password can't be read.
        """
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        parameters = self._address.parameters()
        connection: Connection = psycopg.connect(
            **parameters,
            autocommit=True,  # a transaction's first and last word are said here, not by the driver
            prepare_threshold=None,  # proxies that pool connections keep no statements
            client_encoding="UTF8",
        )
        return connection, False

    def give(self, connection: Connection) -> None:
        """Takes a connection back, to keep it for the next transaction if it is in none and whole."""
        idle = psycopg.pq.TransactionStatus.IDLE
        with self._lock:
            if connection.info.transaction_status == idle and len(self._idle) < _MOST_KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def clear(self) -> None:
        """Closes what is kept: the server they were made to is gone."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def forget(self) -> None:
        """In a new child process: what is kept is the parent's."""
        _inherited.append(self._idle)
        self._pid, self._idle, self._lock = os.getpid(), [], threading.Lock()
        weakref.finalize(self, _close, self._idle, self._pid)


_alive: weakref.WeakSet[Connections] = weakref.WeakSet()


def _close(idle: list[Connection], pid: int) -> None:
    if pid == os.getpid():
        while idle:
            idle.pop().close()


def _forget_parents() -> None:
    for connections in list(_alive):
        connections.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)
