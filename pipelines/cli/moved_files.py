"""The file in which a ledger moves: written for this user alone, whole, and over no other."""

from __future__ import annotations

import os
from pathlib import Path

from dpbeam.errors import LedgerError, UsageError
from dpbeam.ledger.moving import Export


def check_free(file: Path) -> None:
    """Raises UsageError if something is there, or nothing can be; asked before a ledger is closed."""
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file} is there already; name a file that isn't")
    if not os.access(file.absolute().parent, os.W_OK):
        raise UsageError(f"{file} can't be written: its folder isn't there, or isn't writable for this user")


def write(file: Path, export: Export) -> None:
    """Writes the export; it is on the disk when this returns.

    Raises:
        LedgerError: it can't be written; nothing is left of it, and it can be asked for again.
    """
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(handle, "wb") as out:
                out.write(export.to_bytes())
                out.flush()
                os.fsync(handle)
        except BaseException:
            file.unlink()
            raise
    except OSError as error:
        raise LedgerError(
            f"the export can't be written to {file} ({error.strerror}); the ledger is closed and has all of it, so "
            "start the same command again once that is mended"
        ) from None


def read(file: Path) -> Export:
    """The export in a file. Raises UsageError if it can't be read, LedgerError if it is none or was changed."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} can't be read ({error.strerror})") from None
    return Export.from_bytes(data, str(file))
