"""Where a witness may lie: a file, or what a web server keeps; picked by its name."""

from __future__ import annotations

from pathlib import Path

from dpbeam.errors import UsageError
from dpbeam.ledger.witness import Witness


def open_witness(named: str) -> Witness:
    """The witness that a path or an http(s) URL names. UsageError of a URL of another kind."""
    if "://" not in named:
        from dpbeam.ledger.witnesses.file import FileWitness

        return FileWitness(path=Path(named).expanduser().absolute())
    scheme = named.split("://", 1)[0]
    if scheme not in ("http", "https"):
        raise UsageError(f"a witness must be a file or an http(s) URL, got a URL of kind {scheme}")
    from dpbeam.ledger.witnesses.web import WebWitness

    return WebWitness(url=named)
