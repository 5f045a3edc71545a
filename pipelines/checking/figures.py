"""What `dpbeam check` finds: raw figures of the data, as values.

Guarantee: none. These numbers are exact and are no release; whoever holds them is inside the trust zone. Nothing here
has a `to_json`, and nothing but the command's screen and its file of mode 0600 is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Broken:
    """How many rows break one rule of one column, and what that does to them: `drop`, `fail` or `replace`."""

    column: str
    rule: str
    action: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """A condition of `where`, in words, and how many rows it leaves out by itself."""

    condition: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a bound keeps: the expected share of rows, and the share of units that lose none; and how much units have of
    what it bounds, at the quantiles 50 %, 90 %, 99 % and 100 %."""

    bound: str
    limit: int
    is_searched: bool
    rows: float
    units: float
    quantiles: tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Clips:
    """How many of the `of` values of a metric lie below and above its bounds; None for a bound that the run finds."""

    metric: str
    of: int
    what: str
    below: int | None
    above: int | None


@dataclass(frozen=True, kw_only=True)
class Spellings:
    """Values of one column that differ in case, blanks, hyphens or Unicode's forms alone: how many such groups, and the
    first of them, each value with its rows."""

    column: str
    groups: int
    shown: tuple[tuple[tuple[str, int], ...], ...]


@dataclass(frozen=True, kw_only=True)
class StageFigures:
    """What one stage would lose. `rows` are those that it gets, `outside` those in no public partition.

    Where there were too many (unit, partition) pairs or partitions for memory, the figures are of one unit in
    `units_in` and one partition in `partitions_in`, chosen by a hash.
    """

    name: str
    rows: int
    outside: int
    kept: tuple[Kept, ...]
    together: float | None
    """The expected share of rows that `l0` and `linf` keep together."""
    clips: tuple[Clips, ...]
    has_keys: bool
    partitions: int
    listed: int | None
    """How many partitions are public; None where they are selected."""
    smallest: tuple[tuple[tuple[str, ...], int], ...]
    """The partitions with the fewest units: keys as text, and units."""
    few: tuple[tuple[str, int], ...]
    """In words what a partition has too few units for, and how many partitions."""
    spellings: tuple[Spellings, ...]
    units_in: int = 1
    partitions_in: int = 1


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a whole query would lose: of `rows`, `dropped` break a rule, and `left` meet `where`."""

    dataset: str
    unit: str | None
    rows: int
    malformed: bool
    """Whether some row of a file is no row at all, of the wrong width or no JSON object."""
    broken: tuple[Broken, ...]
    dropped: int
    filtered: tuple[Filtered, ...]
    left: int
    units: int
    units_left: int
    units_in: int
    unit_spellings: int | None
    """How many groups of unit ids look like two spellings; None where ids aren't text."""
    unused: tuple[str, ...]
    stages: tuple[StageFigures, ...]
