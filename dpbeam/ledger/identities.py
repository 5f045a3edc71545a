"""Ed25519 keys of people: made once, kept in a file for one user alone; what is signed with one, everybody can check.

A public key is written `ed25519:` and 64 hexadecimal digits, a signature as 128 of them (RFC 8032).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpbeam.errors import UsageError

PREFIX = "ed25519:"
_PUBLIC = re.compile(r"ed25519:[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, kw_only=True, repr=False)
class SigningKey:
    """One person's private key; shows its public half alone."""

    public: str
    _private: Any

    def __repr__(self) -> str:
        return f"<dpbeam.SigningKey {self.public}>"

    def sign(self, message: bytes) -> str:
        """The signature of `message`, in hexadecimal."""
        return bytes(self._private.sign(message)).hex()


def make_key(path: Path) -> SigningKey:
    """Makes a key and writes it, as PKCS#8 in PEM, into a new file that its user alone may read.

    Raises:
        UsageError: the file is there already, or can't be written.
    """
    from cryptography.hazmat.primitives import serialization as form  # lazily: few commands need keys
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already; a key is never written over: name another file") from None
    except OSError as error:
        raise UsageError(f"{path} can't be written ({error.strerror})") from None
    return _signing(private)


def read_key(path: Path) -> SigningKey:
    """The key that `make_key` wrote.

    Raises:
        UsageError: it can't be read, is no such key, or others may read it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(10_000)
    except OSError as error:
        raise UsageError(f"the key {path} can't be read ({error.strerror})") from None
    if os.name != "nt" and mode & 0o077:
        raise UsageError(
            f"the key {path} may be read by others (mode {mode:04o}); `chmod 600` it, and make another if they may have"
        )
    try:
        private = form.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{path} is no Ed25519 key in PEM; `dpbeam policy key FILE` makes one")
    return _signing(private)


def verifies(public: str, message: bytes, signature: str) -> bool:
    """Whether `signature` is that of `message` by the key whose public half is `public`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not is_public_key(public) or not is_signature(signature):
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public.removeprefix(PREFIX)))
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_public_key(text: object) -> bool:
    """Whether it is written as a public key is."""
    return isinstance(text, str) and _PUBLIC.fullmatch(text) is not None


def is_signature(text: object) -> bool:
    """Whether it is written as a signature is."""
    return isinstance(text, str) and _SIGNATURE.fullmatch(text) is not None


def _signing(private: Any) -> SigningKey:
    from cryptography.hazmat.primitives import serialization as form

    raw = private.public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)
    return SigningKey(public=PREFIX + raw.hex(), _private=private)
