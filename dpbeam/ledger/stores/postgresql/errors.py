"""PostgreSQL's errors as the ledger's: what is wrong, and what to do. Never a value of a row, nor a password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from dpbeam.errors import LedgerError
from dpbeam.ledger.refusals import Locked, Unreachable, unverifiable
from dpbeam.ledger.stores.postgresql.address import Address

_LOCK_NOT_AVAILABLE, _CANCELLED, _DEADLOCK = "55P03", "57014", "40P01"
_LOST = ("08", "57P01", "57P02", "57P03", "25P03", "53300")
"""Connection exceptions; the server stops, crashed, or isn't ready; it gave the session up; it has too many."""
_REFUSED = {
    "42501": (
        "this user lacks a right that it needs there",
        "grant it what docs/ledger.md says ('A ledger for a team')",
    ),
    "25006": ("the server takes no changes: it is a standby, or set to read only", "name the primary server"),
    "53100": ("the server's disk is full", "free some space, then settle unfinished runs with `dpbeam recover`"),
}


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection, or the server, went away, so that another try may find it again."""
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate.startswith(_LOST))


def is_locked(error: psycopg.Error) -> bool:
    """Whether others held what was asked for too long."""
    return error.sqlstate in (_LOCK_NOT_AVAILABLE, _CANCELLED, _DEADLOCK)


@contextmanager
def errors_named(address: Address) -> Iterator[None]:
    """Turns what the driver raises into a LedgerError with the remedy."""
    try:
        yield
    except psycopg.Error as error:
        raise named(address, error) from None


def named(address: Address, error: psycopg.Error) -> LedgerError:
    """The error as the ledger's."""
    place = str(address)
    if is_locked(error):
        return Locked(place, address.lock_timeout)
    if is_lost(error):
        return Unreachable(place, _said(error))
    if error.sqlstate in _REFUSED:
        what, remedy = _REFUSED[error.sqlstate]
        return LedgerError(f"the ledger {place} can't be used: {what}; {remedy}")
    if isinstance(error, psycopg.IntegrityError | psycopg.errors.RaiseException):
        return unverifiable(place, "a change would break its own constraints")
    if error.sqlstate in ("42P01", "42703", "3F000"):
        return unverifiable(place, "its tables are not those of this version")
    return LedgerError(
        f"the ledger {place} can't be used: PostgreSQL reports {error.sqlstate or 'no code'} "
        f"({type(error).__name__}); look it up in the server's log, then `dpbeam budget verify`"
    )


def _said(error: psycopg.Error) -> str:
    """Why there is no connection, in the server's or the system's words, which hold no password."""
    if error.sqlstate is not None:
        return "the server ended the session"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else "no reason given"
    for cut in ("FATAL:", "failed:"):
        reason = reason.rpartition(cut)[2].strip() or reason
    return reason[:200]
