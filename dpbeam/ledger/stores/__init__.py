"""The databases that a ledger may lie in, a package each, behind the interface `dpbeam.ledger.store`; picked by URL."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from dpbeam.errors import LedgerError
from dpbeam.ledger.store import Store

_SQLITE = "sqlite:///"
_POSTGRESQL = ("postgresql", "postgres")


def open_store(url: str, *, create: bool, reading: bool, secret: bytes | None = None) -> Store:
    """The store that `url` names; the arguments and errors are those of `dpbeam.ledger.open_ledger`. A new one gets
    `secret`, if that is given: who looks whether it has it knows whether it is new."""
    scheme = url.split("://", 1)[0] if "://" in url else ""
    if scheme in _POSTGRESQL:
        require_driver()
        from dpbeam.ledger.stores.postgresql.store import PostgresqlStore

        return PostgresqlStore.open(url, create=create, reading=reading, secret=secret)
    if scheme and not url.startswith(_SQLITE):
        raise LedgerError(
            f"a ledger must be a SQLite file (sqlite:///PATH) or on PostgreSQL (postgresql://…), got a URL of kind "
            f"{scheme}"
        )
    from dpbeam.ledger.stores.sqlite.store import SqliteStore  # who uses one database needs no other's driver

    return SqliteStore.open(_expanded(url.removeprefix(_SQLITE)), create=create, reading=reading, secret=secret)


def place_of(url: str) -> str:
    """What tells a ledger's place from others', whoever names it: a path from the root on, or server, database, schema.

    Raises:
        LedgerError: the URL is none.
    """
    if url.split("://", 1)[0] in _POSTGRESQL and "://" in url:
        require_driver()
        from dpbeam.ledger.stores.postgresql.address import Address

        return str(replace(Address.read(url), user=None))
    return str(_expanded(url.removeprefix(_SQLITE)).absolute())


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


def require_driver() -> None:
    """Raises LedgerError unless what speaks to PostgreSQL is installed."""
    if find_spec("psycopg") is None:
        raise LedgerError(
            "a ledger on PostgreSQL needs psycopg, which isn't installed here; `pip install 'dpbeam[postgresql]'` "
            "brings it (in a checkout: '.[postgresql]')"
        )
