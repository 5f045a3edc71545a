"""A stage's coverage in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpbeam.accounting.utility import CoverageFigure
    from dpbeam.reporting.manifest import Coverage

LITTLE = 0.5
"""Of a stage that keeps less of its rows, it is said what to do."""


def percent(share: float) -> str:
    """A share as people read it: 3 %, 97.1 %."""
    return f"{100 * share:.3g} %"


def sentence(coverage: Coverage) -> str:
    """What became of a stage's rows, with the intervals."""
    kept = _of(coverage.rows_kept, coverage.rows_kept_low, coverage.rows_kept_high)
    passed = _of(coverage.rows_passed, coverage.rows_passed_low, coverage.rows_passed_high)
    return (
        f"{coverage.stage}: {kept} of rows are within the bounds and partitions; {passed} passed the columns' rules "
        "and conditions (noisy shares of a privacy unit's rows, on average, with 95 % intervals)"
    )


def remedy(coverage: Coverage) -> str | None:
    """What to do where little is kept, or where nothing can be said; None elsewhere."""
    if coverage.rows_kept_low == 0 and coverage.rows_kept_high == 1:
        return (
            "The noise is as large as the number of privacy units, so these shares say nothing: there are too few of "
            "them, or their column can't be read as the type that the policy declares."
        )
    if coverage.rows_passed < LITTLE:
        return "Most rows are dropped: look at the types, rules and `where`, by `dpbeam check`."
    if coverage.rows_kept < LITTLE:
        return "Most rows are cut: raise the bounds, or list more partitions; `dpbeam check` shows what each one keeps."
    return None


def said(coverage: Coverage | None) -> list[str]:
    """All that is said of a stage's coverage, in sentences; nothing where none was bought."""
    if coverage is None:
        return []
    return [f"{sentence(coverage)}.", *filter(None, [remedy(coverage)])]


def price(figure: CoverageFigure) -> str:
    """What a stage's coverage costs and how exact it will be, of a plan."""
    growth = 100 * (figure.noise_growth - 1)
    return (
        f"{figure.stage}: {percent(figure.share)} of its budget says which share of rows passes the rules and counts "
        f"(coverage), to within 5 percentage points from {figure.units_5_points:,} privacy units on. That makes the "
        f"noise of all else {growth:.2g} % larger."
    )


def of_stage(coverage: Sequence[Coverage], stage: str) -> Coverage | None:
    """The coverage of this stage, if it was bought."""
    return next((each for each in coverage if each.stage == stage), None)


def _of(value: float, low: float, high: float) -> str:
    return f"{percent(value)} ({percent(low)} to {percent(high)})"
