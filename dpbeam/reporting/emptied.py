"""What is said of a table without a row, by the plan alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpbeam.accounting.utility import SelectionFigure


def why(needed: SelectionFigure | None) -> str:
    """What it takes to be kept, and what to change. `needed` is None where that takes more than one mechanism."""
    if needed is None:
        return "`dpbeam plan` shows how many privacy units a partition needs, and docs/policy.md what that depends on."
    return (
        f"A partition of {needed.units_50:,} privacy units is kept with probability 50 %, of {needed.units_99:,} with "
        "99 %. Group by fewer or coarser keys, raise epsilon or delta, lower l0, or look for rows that a rule drops: "
        "`dpbeam check` shows them."
    )
