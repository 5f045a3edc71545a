"""What a charge says of itself beside its amount: from which part of the dataset's budget it is taken, and why.

Kept as JSON in the charge and in the journal's entry that reserves it. A field is written only where it isn't its
default, so that entries of before the field read, and are hashed, as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpbeam.ledger.checks import check_text


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """`account` is the quota that the charge is taken from ("": the dataset's cap alone)."""

    account: str = ""

    def __post_init__(self) -> None:
        if self.account != "":
            check_text("account", self.account, most=256)

    def to_json(self) -> dict[str, Any]:
        return {} if self.account == "" else {"account": self.account}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Allocation:
        """What `to_json` made. Raises ValueError of anything else."""
        if not isinstance(stored, Mapping):
            raise ValueError("an allocation is an object")
        allocation = cls(account=stored.get("account", ""))
        if allocation.to_json() != stored:
            raise ValueError("an allocation that this version doesn't know")
        return allocation


UNALLOCATED = Allocation()
