"""What a budget is a budget of: one privacy unit, one neighbouring relation, and the sources that a dataset stands for.

Losses may be added up only where they are losses of one and the same unit about one and the same data: a person with
1,000 rows loses up to 1,000 times the ε that is stated for a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from dpbeam.ledger.checks import check_text
from dpbeam.ledger.patterns import matcher

Neighbours = Literal["add_or_remove_one"]
NEIGHBOURS: tuple[str, ...] = get_args(Neighbours)

MAX_SOURCES = 1000
MAX_TEXT = 4096
"""The most characters of a path or a column's name."""


@dataclass(frozen=True, kw_only=True)
class Protected:
    """Whose presence a budget protects: `unit` names the column of the source that says whose row it is, or is `row`;
    `neighbours` says which tables count as neighbours."""

    unit: str
    neighbours: Neighbours = "add_or_remove_one"

    def __post_init__(self) -> None:
        check_text("privacy unit", self.unit, most=MAX_TEXT, show=False)
        if self.neighbours not in NEIGHBOURS:
            raise ValueError(f"neighbours must be one of {', '.join(NEIGHBOURS)}, got {self.neighbours!r}")

    def __str__(self) -> str:
        return f"one {self.unit}, added or removed"

    def to_json(self) -> dict[str, str]:
        return {"privacy_unit": self.unit, "neighbours": self.neighbours}


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a run is going to spend a budget on: whom it protects, what it reads (`sources`: paths and patterns that
    mean the same wherever they are stated from), and the `files` that those stand for now."""

    protected: Protected
    sources: tuple[str, ...]
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.sources) <= MAX_SOURCES:
            raise ValueError(f"source.path must be 1 to {MAX_SOURCES} paths, got {len(self.sources)}")
        for source in self.sources:
            check_text("source.path", source, most=MAX_TEXT, show=False)

    def unknown(self, accepted: Iterable[str]) -> tuple[str, ...]:
        """The sources that aren't among `accepted`; none if all files are those of accepted ones, as of one day's part
        of a folder that was accepted."""
        known = set(accepted)
        new = tuple(source for source in dict.fromkeys(self.sources) if source not in known)
        if new and self.files and all(any(covers(source, file) for source in known) for file in self.files):
            return ()
        return new

    def shares(self, others: Iterable[str]) -> bool:
        """Whether anything that the run reads is, or is among, the sources `others`."""
        known = set(others)
        return any(source in known for source in self.sources) or any(
            covers(source, file) for source in known for file in self.files
        )


def covers(source: str, file: str) -> bool:
    """Whether the path, folder or pattern `source` stands for `file`, or for a folder that it lies in."""
    return file == source or file.startswith(source.rstrip("/") + "/") or matcher(source)(file)
