"""The ledger's file: made, opened, locked and checked, or a LedgerError that says what is wrong and what to do."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from dpbeam.errors import LedgerError
from dpbeam.ledger.refusals import Locked, unverifiable
from dpbeam.ledger.stores.sqlite import drafts, names
from dpbeam.ledger.stores.sqlite.schema import APPLICATION_ID, VERSION, migrate
from dpbeam.ledger.waiting import Patience

BUSY_TIMEOUT_S = 60.0
_DURABLY = (
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS: a plain fsync doesn't reach the platter there
    "PRAGMA foreign_keys = ON",
)
"""So that every commit waits for the disk."""


def prepare(path: Path, *, create: bool, reading: bool, secret: bytes | None = None) -> bytes:
    """Checks the ledger in `path`, migrates an older one, makes a new one, with `secret`, if `create`; returns its
    secret. Of one that is opened for `reading` nothing is changed.

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
            _create(path, secret or secrets.token_bytes(32))
        if reading:
            with read(path) as connection:
                return read_secret(connection, path)
        drafts.sweep(path)
        with written(path) as connection:  # a ledger that can't be written is found out now, not after a run
            if connection.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
                raise _damaged(path)
            version = check_version(connection, path)
            if version < VERSION:
                migrate(connection, version)
            return read_secret(connection, path)


@contextmanager
def written(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in a transaction that excludes other writers; it is committed if the block ends without an error.

    Guarantee: the file has one name while the connection is open (`names`); a commit has reached the disk.
    """
    with names.held(path, seconds=BUSY_TIMEOUT_S) as real, closing(_connect(real, "mode=rw")) as connection:
        begin(connection, (*_DURABLY, "BEGIN IMMEDIATE"), path)
        try:
            check_version(connection, path)
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


@contextmanager
def read(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in a transaction that sees one state of the ledger, in the tables of this version.

    What can't be written, as on an auditor's read-only disk, is read as it lies there.
    """
    still = not all(
        os.access(each, os.W_OK, effective_ids=os.access in os.supports_effective_ids) for each in (path, path.parent)
    )
    with names.held(path, seconds=BUSY_TIMEOUT_S, still=still) as real:
        log = Path(f"{real}-wal")
        # With nothing in the log the file is all there is, and nobody changes it while its name is held so.
        whole = still and not (log.exists() and log.stat().st_size)
        with closing(_connect(real, "mode=ro&immutable=1" if whole else "mode=ro" if still else "mode=rw")) as opened:
            try:
                begin(opened, ("BEGIN",), path)
            except sqlite3.OperationalError:
                if whole or not still:
                    raise
                raise _unread_log(path) from None
            version = check_version(opened, path)
            if version == VERSION:
                yield opened
            else:
                with closing(_migrated_copy(opened, version)) as copy:
                    yield copy
            opened.execute("ROLLBACK")


def _migrated_copy(connection: sqlite3.Connection, version: int) -> sqlite3.Connection:
    """The ledger in the tables of this version, in memory."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        copy.executescript("\n".join(connection.iterdump()))
        migrate(copy, version)
    except BaseException:
        copy.close()
        raise
    return copy


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=0, isolation_level=None)


def begin(connection: sqlite3.Connection, statements: Sequence[str], path: Path) -> None:
    """Begins a transaction by `statements`, any of which may have to wait: at most `BUSY_TIMEOUT_S` for others.

    Raises:
        Locked: others were at work for so long.
    """
    patience = Patience(BUSY_TIMEOUT_S, "other runs at the ledger")
    while True:
        try:
            for statement in (*statements, "SELECT count(*) FROM sqlite_master"):
                connection.execute(statement).fetchall()
            return
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not _is_busy(error):
                raise
            if not patience.wait():
                raise Locked(str(path), BUSY_TIMEOUT_S) from None


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


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Turns the errors of SQLite and of the file system into a LedgerError with the remedy."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise unverifiable(str(path), "a change would break its own constraints") from None
    except sqlite3.OperationalError as error:
        raise _cannot_use(path, error) from None
    except (
        sqlite3.DatabaseError,
        UnicodeError,
        RecursionError,
        OverflowError,
    ):  # no text, nor a number, that was written
        raise _damaged(path) from None
    except OSError as error:
        raise LedgerError(
            f"the ledger {path} can't be used: {error.strerror or type(error).__name__}; check the path and its "
            "permissions"
        ) from None


def _cannot_use(path: Path, error: sqlite3.OperationalError) -> LedgerError:
    text = str(error)
    if _is_busy(error):
        return Locked(str(path), BUSY_TIMEOUT_S)
    if "readonly" in text:
        what, remedy = "it is read-only", "make the file and its folder writable for this user"
    elif "full" in text:
        what, remedy = "the disk is full", "free some space, then settle unfinished runs with `dpbeam recover`"
    elif "unable to open" in text:
        what, remedy = "it can't be opened", "check the path, and that file and folder are writable for this user"
    elif "no such table" in text or "no such column" in text or "malformed" in text or "UTF-8" in text:
        return _damaged(path)
    else:
        what, remedy = f"SQLite says {text!r}", "check the disk, then `dpbeam budget verify`"
    return LedgerError(f"the ledger {path} can't be used: {what}; {remedy}")


def _unread_log(path: Path) -> LedgerError:
    return LedgerError(
        f"the ledger {path} can't be read where nothing can be written: a run that was killed left entries in its log "
        f"({path.name}-wal), and the log's index is missing. Copy both into a folder that this user may write, and "
        "read the copy"
    )


def _damaged(path: Path) -> LedgerError:
    return LedgerError(
        f"the ledger {path} is damaged or no SQLite database. Keep it, for it records what was spent; restore the "
        "latest backup that `dpbeam budget verify` accepts (docs/ledger.md, 'Backup')"
    )


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return any(word in str(error) for word in ("locked", "busy", "locking protocol"))


def _create(path: Path, secret: bytes) -> None:
    """Makes an empty ledger under a name of its own, then links it into place: whole, and never over another."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"the folder of the ledger {path} can't be made ({error.strerror})") from None
    drafts.sweep(path)
    with drafts.draft(path) as draft:
        with closing(_connect(draft, "mode=rw")) as connection:
            begin(connection, (*_DURABLY, "PRAGMA journal_mode = WAL", "BEGIN IMMEDIATE"), draft)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection, 0)
            connection.execute("INSERT INTO meta (name, value) VALUES ('secret', ?)", (secret,))
            connection.execute("COMMIT")
        with suppress(FileExistsError):  # another process made it first: that one counts
            os.link(draft, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
