"""The databases that a ledger may lie in, a package each, behind the interface `dpbeam.ledger.store`; picked by URL."""

from __future__ import annotations

from pathlib import Path

from dpbeam.errors import LedgerError
from dpbeam.ledger.store import Store

_SQLITE = "sqlite:///"


def open_store(url: str, *, create: bool, reading: bool) -> Store:
    """The store that `url` names; the arguments and errors are those of `dpbeam.ledger.open_ledger`."""
    if not url.startswith(_SQLITE) and "://" in url:
        scheme = url.split("://", 1)[0]
        raise LedgerError(f"a ledger must be a SQLite file (sqlite:///PATH), got a URL of kind {scheme}")
    from dpbeam.ledger.stores.sqlite.store import SqliteStore  # who uses one database needs no other's driver

    return SqliteStore.open(_expanded(url.removeprefix(_SQLITE)), create=create, reading=reading)


def _expanded(named: str) -> Path:
    """The path with `~` or `~user` at its start replaced by that home folder, as a shell does."""
    path = Path(named)  # which drops a ./ at the start
    if not named.startswith("~"):
        return path
    if path.exists():  # what version 0.1.0 made of it: another ledger, that may have spent
        raise LedgerError(
            f"the ledger {path} lies in a folder called {path.parts[0]} here, and might mean one in the home folder; "
            f"name it ./{path}, or write the home folder out"
        )
    try:
        return path.expanduser()
    except RuntimeError:
        raise LedgerError(f"the ledger {path}: the home folder isn't known; write the whole path") from None
