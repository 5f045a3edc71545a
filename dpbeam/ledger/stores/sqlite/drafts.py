"""A new ledger is made under a name of its own, a draft, before it gets its name: here drafts are told from others' and
removed when their maker is gone. A draft holds a secret, so none is left lying about."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dpbeam.ledger.stores.sqlite import file_locks

_SUFFIXES = ("", "-wal", "-shm", "-journal")


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, for this user alone, that is gone at the end."""
    while True:
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            if not _lock(handle, without=True) or not draft.exists():  # somebody took it for one whose maker is gone
                continue
            yield draft
            return
        finally:
            _remove(draft)
            os.close(handle)


def sweep(path: Path) -> None:
    """Removes the drafts of the ledger `path` that nobody makes any more, and any that is the ledger itself."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}")
    with suppress(OSError):
        drafts = {Path(entry.path) for entry in os.scandir(path.parent) if ours.match(entry.name)}
        for draft in {each.with_name(ours.match(each.name)[0]) for each in drafts}:  # type: ignore[index]
            with suppress(OSError):
                if not draft.exists() or (path.exists() and draft.samefile(path)) or _abandoned(draft):
                    _remove(draft)


def _abandoned(draft: Path) -> bool:
    handle = os.open(draft, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return _lock(handle, without=False)  # then it may be at work: it stays
    finally:
        os.close(handle)


def _lock(handle: int, *, without: bool) -> bool:
    """Whether the draft is ours now; `without` if the system has no such locks."""
    try:
        return file_locks.take(handle, file_locks.LOCKED)
    except file_locks.Unsupported:
        return without


def _remove(draft: Path) -> None:
    for suffix in _SUFFIXES:
        Path(f"{draft}{suffix}").unlink(missing_ok=True)
