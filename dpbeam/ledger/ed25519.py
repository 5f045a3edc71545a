"""Ed25519 (RFC 8032), by the `cryptography` package, which is loaded where something is signed or checked."""

from __future__ import annotations


def verifies(key: str, signature: str, message: bytes) -> bool:
    """Whether the signature is that of `message` by the public key's private half; both in hexadecimal."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), message)
    except (ValueError, InvalidSignature):
        return False
    return True
