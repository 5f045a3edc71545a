"""Key files: a private key for its operator alone, and the public keys that an operator trusts.

A key file is JSON: the private key, and the rotations that led to it. A file of trusted keys has one public key in
hexadecimal a line; what follows it on the line is for people.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from dpbeam.errors import UsageError
from dpbeam.ledger.marks import KeyPinned
from dpbeam.ledger.private_files import read_private, write_private
from dpbeam.ledger.signing import Signer

_KEY = re.compile(r"[0-9a-f]{64}")


def read_key(path: Path) -> Signer:
    """The signer whose key lies in `path`.

    Raises:
        UsageError: it isn't there, others may read it, or it holds no key.
    """
    content = read_private(path, "the signing key")
    try:
        stored = json.loads(content)
        if stored["version"] != 1:
            raise UsageError(f"the signing key {path} is of version {stored['version']!r}, this dpbeam knows version 1")
        return Signer.of(
            bytes.fromhex(stored["private"]), tuple(KeyPinned.from_json(each) for each in stored["followed"])
        )
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{path} holds no signing key; make one with `dpbeam budget key new FILE`") from None


def write_key(path: Path, signer: Signer, *, replace: bool = False) -> None:
    """Puts the signer's key into `path`, for this user alone; durable, and whole or not at all.

    Raises:
        UsageError: there is a file (and not `replace`); it would lie in a repository; or it can't be written.
    """
    text = json.dumps(
        {"version": 1, "private": signer.private.hex(), "followed": [each.to_json() for each in signer.followed]}
    )
    exists = "`dpbeam budget key rotate` replaces a key, signed by the old one"
    write_private(path, f"{text}\n".encode(), "the signing key", exists=exists, replace=replace)


def trust(path: Path, key: str, note: str) -> None:
    """Adds a public key to those that are trusted. UsageError if the file can't be written."""
    try:
        with path.open("a", encoding="utf-8") as opened:
            opened.write(f"{key} {note}\n")
    except OSError as error:
        raise UsageError(f"the trusted keys {path} can't be written ({error.strerror})") from None


def read_trusted(path: Path) -> frozenset[str]:
    """The public keys in `path`. UsageError if it can't be read, or a line begins with none."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"the trusted keys {path} can't be read ({type(error).__name__})") from None
    keys = [words[0] for words in lines if words and not words[0].startswith("#")]
    if not keys or not all(_KEY.fullmatch(key) for key in keys):
        raise UsageError(f"{path} must have one public key, 64 hexadecimal digits, at the start of each line")
    return frozenset(keys)
