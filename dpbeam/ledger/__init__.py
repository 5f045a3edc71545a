"""What has been spent: the journal, its state machine and its store."""

from __future__ import annotations

from pathlib import Path

from dpbeam.errors import LedgerError
from dpbeam.ledger.ledger import Ledger
from dpbeam.ledger.stores.sqlite.store import SqliteStore

__all__ = ["Ledger", "open_ledger"]

_SQLITE = "sqlite:///"


def open_ledger(url: str, *, create: bool = False, reading: bool = False) -> Ledger:
    """Opens a ledger: `sqlite:///relative/path`, `sqlite:////absolute/path`, or a plain path to a SQLite file;
    `~` at its start is the home folder.

    `create` makes a new ledger where there is none; only creating a budget should ask for that.
    `reading` changes nothing in it, so that it may lie where nothing can be written.

    Raises:
        LedgerError: another kind of database; or the file is missing (and not `create`), damaged, no ledger, of a
            newer version, or can't be written.
    """
    if not url.startswith(_SQLITE) and "://" in url:
        scheme = url.split("://", 1)[0]
        raise LedgerError(f"a ledger must be a SQLite file (sqlite:///PATH), got a URL of kind {scheme}")
    path = _expanded(url.removeprefix(_SQLITE))
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"the folder of the ledger {path} can't be made ({error.strerror})") from None
    return Ledger(store=SqliteStore.open(path, create=create, reading=reading))


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
