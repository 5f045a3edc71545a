"""What has been spent: the journal, its state machine and its store."""

from __future__ import annotations

from pathlib import Path

from dpbeam.errors import LedgerError
from dpbeam.ledger.ledger import Ledger
from dpbeam.ledger.sqlite import SqliteStore

__all__ = ["Ledger", "open_ledger"]

_SQLITE = "sqlite:///"


def open_ledger(url: str, *, create: bool = False) -> Ledger:
    """Opens a ledger: `sqlite:///relative/path`, `sqlite:////absolute/path`, or a plain path to a SQLite file.

    `create` makes a new ledger where there is none; only creating a budget should ask for that.

    Raises:
        LedgerError: another kind of database; or the file is missing (and not `create`), damaged, no ledger, of a
            newer version, or can't be written.
    """
    if not url.startswith(_SQLITE) and "://" in url:
        scheme = url.split("://", 1)[0]
        raise LedgerError(f"a ledger must be a SQLite file (sqlite:///PATH), got a URL of kind {scheme}")
    path = Path(url.removeprefix(_SQLITE))
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"the folder of the ledger {path} can't be made ({error.strerror})") from None
    return Ledger(store=SqliteStore.open(path, create=create))
