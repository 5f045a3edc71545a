"""A witness keeps, elsewhere, the last entry of each dataset that it was told of. A ledger that doesn't hold that entry
is older than the witness, or is another copy.

Guarantee: where every process that charges uses the same witness, and nobody sets the witness back along with the
ledger, no run reads its data on a ledger that forgot a charge whose run may have read data, and of two copies of one
ledger at most one goes on. For: `reserve`, `start` and `retry` first find the witness's entry in the ledger's own
journal, and return only after the witness was moved to their own entry; it moves only from an entry that the ledger
holds to a later one that it holds. So it may lag behind the ledger, by what a kill left between a commit and its
update, and never leads. What lags is a charge that no run went on with: `start` hadn't returned, and nothing was read.
Steps after that (`publish`, `close`, `refund`…) tell the witness too, but go on where it can't be reached, since what
they are about is spent already; a ledger set back to before such a step still holds the charge as started.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from dpbeam.errors import LedgerError
from dpbeam.ledger.canonical import canonical
from dpbeam.ledger.checkpoints import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a witness keeps: which ledger it watches (`ledger_id`), and its last known entry of each dataset."""

    ledger: str
    heads: Mapping[str, Checkpoint] = field(default_factory=dict)

    def moved(self, head: Checkpoint) -> Kept:
        return replace(self, heads={**self.heads, head.dataset: head})

    def to_text(self) -> str:
        heads = {dataset: head.to_json() for dataset, head in self.heads.items()}
        return canonical({"version": 1, "ledger": self.ledger, "heads": heads}) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Kept:
        """What `to_text` made. Raises ValueError of anything else."""
        try:
            stored: dict[str, Any] = json.loads(text)
            heads = {dataset: Checkpoint.from_json(head) for dataset, head in stored["heads"].items()}
            kept = cls(ledger=stored["ledger"], heads=heads)
            right = kept.to_text() == text and all(head.dataset == dataset for dataset, head in heads.items())
        except (KeyError, TypeError, AttributeError, RecursionError):
            right = False
        if not right:
            raise ValueError("not what a witness keeps")
        return kept


class Unreachable(LedgerError):
    """The witness can't be read or written."""


class Witness(Protocol):
    """Where `Kept` lies. Both methods raise Unreachable if it can't be used, LedgerError if it holds anything else."""

    @property
    def place(self) -> str:
        """Where it is, as messages name it; holds no password."""
        ...

    def read(self) -> Kept | None:
        """What it keeps; None if it was never made."""
        ...

    def update(self, change: Callable[[Kept | None], Kept | None]) -> None:
        """Puts what `change` makes of what is kept in its place, durably, unless that is None. Nobody else changes it
        in between; `change` may be called again."""
        ...


def damaged(place: str) -> LedgerError:
    return LedgerError(
        f"the witness {place} holds nothing that a witness keeps. Keep it as it is, find out who changed it, and make "
        "a new one with `dpbeam budget witness new`, once `dpbeam budget history` and the release folders agree"
    )
