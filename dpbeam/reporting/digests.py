"""SHA-256 of a release's files, in hexadecimal, as manifests list them and the ledger keeps them."""

from __future__ import annotations

import hashlib
from pathlib import Path

_READ_BYTES = 1 << 20


def digest(data: bytes) -> str:
    """Of bytes at hand."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Of a file, a piece at a time: a result of millions of partitions need not fit in memory again.

    Raises:
        OSError: it can't be read.
    """
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            sha256.update(piece)
    return sha256.hexdigest()
