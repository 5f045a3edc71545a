"""What a budget is held under beside its cap, and a charge beside its amount; each a value that is kept as JSON.

A ledger of an earlier version has neither: `Terms()` and `ChargeDetails()`, whose JSON is {}. A field is written only
where it isn't its default, so that what was stored before a field was there reads, and compares, as it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a dataset's budget is held under. `moved_to` is where the ledger went on, if it did: then nothing is charged
    here."""

    moved_to: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {} if self.moved_to is None else {"moved_to": self.moved_to}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Terms:
        """What `to_json` made. Raises ValueError of anything else."""
        read = cls(**stored)
        if not isinstance(read.moved_to, str | None) or read.to_json() != stored:
            raise ValueError("terms that this version doesn't know")
        return read


@dataclass(frozen=True, kw_only=True)
class ChargeDetails:
    """What a charge takes from beside the dataset's own budget."""

    def to_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ChargeDetails:
        """What `to_json` made. Raises ValueError of anything else."""
        if stored:
            raise ValueError("details that this version doesn't know")
        return cls()


NO_TERMS = Terms()
NO_DETAILS = ChargeDetails()
