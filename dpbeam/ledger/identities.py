"""Ed25519 keys of people: made once, kept in a file for one user alone; what is signed with one, everybody can check.

A public key is written `ed25519:` and 64 hexadecimal digits, a signature as 128 of them (RFC 8032).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpbeam.errors import UsageError
from dpbeam.ledger import ed25519
from dpbeam.ledger.private_files import read_private, write_private

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
        UsageError: the file is there already, would lie in a repository, or can't be written.
    """
    from cryptography.hazmat.primitives import serialization as form  # lazily: few commands need keys
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    write_private(path, text, "the key", exists="a key is never written over: name another file")
    return _signing(private)


def read_key(path: Path) -> SigningKey:
    """The key that `make_key` wrote.

    Raises:
        UsageError: it can't be read, is no such key, or others may read it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    text = read_private(path, "the key")
    try:
        private = form.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{path} is no Ed25519 key in PEM; `dpbeam policy key FILE` makes one")
    return _signing(private)


def verifies(public: str, message: bytes, signature: str) -> bool:
    """Whether `signature` is that of `message` by the key whose public half is `public`."""
    if not is_public_key(public) or not is_signature(signature):
        return False
    return ed25519.verifies(public.removeprefix(PREFIX), signature, message)


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
