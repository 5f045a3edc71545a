"""A ledger file comes in; a checked connection goes out, or a LedgerError that says what is wrong and what to do."""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from dpbeam.errors import LedgerError
from dpbeam.ledger.outcomes import unverifiable
from dpbeam.ledger.sqlite_schema import APPLICATION_ID, VERSION, migrate

BUSY_TIMEOUT_S = 60.0


def prepare(path: Path, *, create: bool) -> bytes:
    """Checks the ledger in `path`, migrates an older one, makes a new one if `create`; returns its secret.

    Raises:
        LedgerError: see `SqliteStore.open`.
    """
    with errors_named(path):
        if not path.exists():
            if not create:
                raise LedgerError(
                    f"there is no ledger at {path}; create a budget first with "
                    f"`dpbeam budget create POLICY --ledger {path}`, or name the right ledger"
                )
            _create(path)
        if not path.is_file():
            raise LedgerError(f"the ledger {path} is not a file; name a file, such as {path / 'ledger.sqlite'}")
        with closing(connect(path)) as connection:
            version = check_version(connection, path)
            begin(connection, "BEGIN IMMEDIATE")  # a ledger that can't be written is found out now, not after a run
            if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                raise _damaged(path)
            if version < VERSION:
                migrate(connection, check_version(connection, path))
            secret = read_secret(connection, path)
            connection.execute("COMMIT")
        return secret


def connect(path: Path) -> sqlite3.Connection:
    """A connection outside any transaction to a file that must exist; every commit waits for the disk."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync doesn't reach the platter there
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def begin(connection: sqlite3.Connection, statement: str) -> None:
    """Begins a transaction, waiting at most `BUSY_TIMEOUT_S` for others.

    SQLite's own waiting doesn't cover a database that another process is recovering after a kill.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute(statement)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The file's version, from 1 to `VERSION`; LedgerError if it is no ledger or of a newer version."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise LedgerError(
            f"{path} is not a dpbeam ledger; name the right file, or, if it was one, restore it from a backup "
            "(docs/ledger.md, 'Backup')"
        )
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise LedgerError(
            f"the ledger {path} has version {version}, this dpbeam knows versions up to {VERSION}; install the dpbeam "
            "that wrote it, or a newer one"
        )
    stated = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
    if version < 1 or stated != (version,):
        raise unverifiable(str(path), "its version is stated twice, and differently")
    return version


def read_secret(connection: sqlite3.Connection, path: Path) -> bytes:
    """The 32 bytes made with the ledger."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()
    if row is None or not isinstance(row[0], bytes) or len(row[0]) != 32:
        raise unverifiable(str(path), "its secret is missing or not 32 bytes")
    return row[0]


def ledger_id(secret: bytes) -> str:
    """What the journal calls the ledger of this secret; tells nothing of the secret but whether it is the same."""
    return hashlib.sha256(b"dpbeam ledger\0" + secret).hexdigest()


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Turns the errors of SQLite and of the file system into a LedgerError with the remedy."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise unverifiable(str(path), "a change would break its own constraints") from None
    except sqlite3.OperationalError as error:
        raise _cannot_use(path, error) from None
    except sqlite3.DatabaseError:
        raise _damaged(path) from None
    except OSError as error:
        raise LedgerError(
            f"the ledger {path} can't be used: {error.strerror or type(error).__name__}; check the path and its "
            "permissions"
        ) from None


def _cannot_use(path: Path, error: sqlite3.OperationalError) -> LedgerError:
    text = str(error)
    if _is_busy(error):
        what, remedy = f"other runs kept it locked for {BUSY_TIMEOUT_S:.0f} s", "try again when they are done"
    elif "readonly" in text:
        what, remedy = "it is read-only", "make the file and its folder writable for this user"
    elif "full" in text:
        what, remedy = "the disk is full", "free some space, then settle unfinished runs with `dpbeam recover`"
    elif "unable to open" in text:
        what, remedy = "it can't be opened", "check the path, and that file and folder are writable for this user"
    elif "no such table" in text or "no such column" in text or "malformed" in text:
        return _damaged(path)
    else:
        what, remedy = f"SQLite says {text!r}", "check the disk, then `dpbeam budget verify`"
    return LedgerError(f"the ledger {path} can't be used: {what}; {remedy}")


def _damaged(path: Path) -> LedgerError:
    return LedgerError(
        f"the ledger {path} is damaged or no SQLite database. Keep it, for it records what was spent; restore the "
        "latest backup that `dpbeam budget verify` accepts (docs/ledger.md, 'Backup')"
    )


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return any(word in str(error) for word in ("locked", "busy", "locking protocol"))


def _create(path: Path) -> None:
    """Makes an empty ledger under a name of its own, then links it into place: whole, and never over another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection, 0)
            connection.execute("INSERT INTO meta (name, value) VALUES ('secret', ?)", (secrets.token_bytes(32),))
            connection.execute("COMMIT")
        with suppress(FileExistsError):  # another process made it first: that one counts
            os.link(draft, path)
        _sync_folder(path.parent)
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
