"""Who signs checkpoints, and whether one is signed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dpbeam.errors import UsageError
from dpbeam.ledger.checkpoints import Checkpoint, rotation_message
from dpbeam.ledger.ed25519 import verifies
from dpbeam.ledger.marks import KeyPinned


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Signs with one key. `followed` are the rotations that led to it, oldest first, each signed by the key before."""

    private: bytes = field(repr=False)
    key: str
    followed: tuple[KeyPinned, ...] = ()

    @classmethod
    def of(cls, private: bytes, followed: tuple[KeyPinned, ...] = ()) -> Signer:
        """The signer of a private key of 32 bytes. UsageError if it is none."""
        ed25519 = _ed25519()
        try:
            public = ed25519.Ed25519PrivateKey.from_private_bytes(private).public_key()
        except ValueError:
            raise UsageError("an Ed25519 private key is 32 bytes") from None
        return cls(private=private, key=public.public_bytes_raw().hex(), followed=followed)

    @classmethod
    def new(cls) -> Signer:
        """A signer of a fresh key, drawn by the operating system."""
        return cls.of(_ed25519().Ed25519PrivateKey.generate().private_bytes_raw())

    def sign(self, checkpoint: Checkpoint, ledger: str) -> Checkpoint:
        """The checkpoint with this key's signature."""
        named = replace(checkpoint, key=self.key, signature="")
        return replace(named, signature=self._signature(named.message(ledger)))

    def rotated(self) -> Signer:
        """The signer of a fresh key that takes this one's place, with this one's signature of that."""
        new = Signer.new()
        signature = self._signature(rotation_message(self.key, new.key))
        followed = (*self.followed, KeyPinned(key=new.key, follows=self.key, signature=signature))
        return replace(new, followed=followed)

    def since(self, key: str) -> tuple[KeyPinned, ...] | None:
        """The rotations from `key` to this one ("": there was no key); None if it doesn't lead here."""
        if key == self.key:
            return ()
        if not key:
            return (KeyPinned(key=self.key),)
        places = [place for place, each in enumerate(self.followed) if each.follows == key]
        return self.followed[places[0] :] if places else None

    def _signature(self, message: bytes) -> str:
        signature: bytes = _ed25519().Ed25519PrivateKey.from_private_bytes(self.private).sign(message)
        return signature.hex()


def signed(checkpoint: Checkpoint, ledger: str) -> bool:
    """Whether the checkpoint carries its key's signature."""
    return verifies(checkpoint.key, checkpoint.signature, checkpoint.message(ledger))


def rotation_signed(pin: KeyPinned) -> bool:
    """Whether the key before it says that this one takes its place."""
    return verifies(pin.follows, pin.signature, rotation_message(pin.follows, pin.key))


def _ed25519() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return ed25519
