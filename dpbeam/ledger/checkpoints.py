"""Checkpoints: a dataset's newest entry, signed; and what a signature says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dpbeam.ledger.canonical import canonical
from dpbeam.ledger.checks import check_dataset, check_whole
from dpbeam.ledger.standing import Standing


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """That the entry `seq` of a dataset's journal has the hash `hash`, and so all before it are what they were; `state`
    is the digest of where the dataset then stood ("": not stated), `key` the Ed25519 public key, in hexadecimal, whose
    `signature` this has (both "": unsigned, as a witness may keep it)."""

    dataset: str
    seq: int
    hash: str
    time: str
    state: str = ""
    key: str = ""
    signature: str = ""

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        check_whole("seq", self.seq, least=1)
        for name in ("hash", "time", "state", "key", "signature"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.isascii() or len(value) > 256:
                raise ValueError(f"{name} must be at most 256 ASCII characters")

    def message(self, ledger: str) -> bytes:
        """What is signed: every field but the signature, and the ledger that it is about."""
        fields = [self.dataset, self.seq, self.hash, self.state, self.time, self.key]
        return canonical(["dpbeam checkpoint 1", ledger, *fields]).encode("ascii")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Checkpoint:
        """What `to_json` made. Raises ValueError or TypeError of anything else."""
        return cls(**stored)


def state_digest(standing: Standing) -> str:
    """SHA-256, in hexadecimal, of where a dataset stands."""
    return hashlib.sha256(canonical(standing.to_json()).encode("ascii")).hexdigest()


def rotation_message(follows: str, key: str) -> bytes:
    """What the key `follows` signs when `key` takes its place, in all ledgers."""
    return canonical(["dpbeam key rotation 1", follows, key]).encode("ascii")
