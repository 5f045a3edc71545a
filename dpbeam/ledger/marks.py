"""Entries that state no charge: where a dataset stands, by which key its checkpoints are signed, that it was moved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpbeam.ledger.checks import check_dataset, check_text
from dpbeam.ledger.scope import MAX_TEXT
from dpbeam.ledger.standing import Standing

_KEY = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, kw_only=True)
class Anchored:
    """Where the dataset stands, the entries before this one amounted to; `standing` says what that is for."""

    standing: Standing

    def to_json(self) -> dict[str, Any]:
        return self.standing.to_json()

    @classmethod
    def from_json(cls, details: Mapping[str, Any]) -> Anchored:
        return cls(standing=Standing.from_json(details))


@dataclass(frozen=True, kw_only=True)
class KeyPinned:
    """From now on the dataset's checkpoints are signed with `key`, an Ed25519 public key in hexadecimal, and with no
    other. `follows` is the key that it takes the place of ("": none), whose signature of that is `signature`."""

    key: str
    follows: str = ""
    signature: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not _KEY.fullmatch(self.key):
            raise ValueError("key must be 64 hexadecimal digits")
        if (self.follows, self.signature) != ("", "") and not (
            isinstance(self.follows, str)
            and isinstance(self.signature, str)
            and _KEY.fullmatch(self.follows)
            and _SIGNATURE.fullmatch(self.signature)
            and self.follows != self.key
        ):
            raise ValueError("a key that follows another needs that one's signature")

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "follows": self.follows, "signature": self.signature}

    @classmethod
    def from_json(cls, details: Mapping[str, Any]) -> KeyPinned:
        return cls(**details)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """From here on the ledger is at another place, `to`, and nothing is charged at this one. `datasets` are all that it
    has, so that none is left out on the way."""

    to: str
    datasets: tuple[str, ...]

    def __post_init__(self) -> None:
        check_text("to", self.to, most=MAX_TEXT)
        for dataset in self.datasets:
            check_dataset(dataset)


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """The ledger goes on, at the place that it was moved to."""

    at: str
