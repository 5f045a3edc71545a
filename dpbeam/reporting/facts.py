"""What a report shows: public facts of policy, plan and ledger, and released values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from dpbeam.reporting.manifest import About, ChosenBound, Coverage, Engine
from dpbeam.reporting.tables import MetricColumn


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts:
    """The manifest's fields that name the release."""

    release_id: str
    release_name: str
    dataset: str
    created: str
    dpbeam_version: str
    policy_digest: str
    input_fingerprint: str
    engine: Engine = "dpbeam"
    about: About | None = None
    period: str | None = None


@dataclass(frozen=True, kw_only=True)
class SelectionFacts:
    """How the partitions of a stage were chosen privately: the strategy (a mechanism's kind), its pre-threshold,
    and the privacy-unit counts at which a partition is kept with probability 50 % and 99 %, from the plan. `note` says
    of which units."""

    strategy: str
    pre_threshold: int
    keep_50: int
    keep_99: int
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class ValueFacts:
    """Of the most frequent values of `column`, shown as metric `name`: for how many of them one unit may count in a
    partition, and how they were kept; None for public candidates."""

    name: str
    column: str
    max_values: int
    selection: SelectionFacts | None


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """One stage: its result `table` (keys, then `m`, `m_low`, `m_high` for each metric), its bounds.

    `selection` is None for public partitions. `clipped` names the columns whose values were cut to bounds, each
    with (low, high), and `chosen` the bounds that the run found.
    """

    name: str
    table: pa.Table
    keys: tuple[str, ...]
    metrics: tuple[MetricColumn, ...]
    l0: int | None
    linf: int | None
    selection: SelectionFacts | None
    l1: int | None = None
    clipped: tuple[tuple[str, float, float], ...] = ()
    totals: tuple[tuple[str, float, float], ...] = ()
    values: tuple[ValueFacts, ...] = ()
    other_leaves: int | None = None
    """Of hierarchical keys, the most leaves of one unit that count in one `other`."""
    shortened: tuple[tuple[str, str, float], ...] = ()
    """Of the metrics that add up vectors, the name, the norm and the greatest norm that a row counts with."""
    chosen: tuple[ChosenBound, ...] = ()
    coverage: Coverage | None = None
    """What became of its rows, if the run bought to know it."""
    order: Literal["keys", "policy"] | None = None
    """Which order that people expect `table` comes in: of keys that are numbers, dates or intervals, or as the policy
    lists public partitions."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """The dataset's budget after this release's charge; `spent` includes it, `held` is set aside for other runs. What
    is called epsilon is what its meter adds up; `spent_as_epsilon` the ε that this proves."""

    cap_epsilon: float
    cap_delta: float
    spent_epsilon: float
    spent_delta: float
    held_epsilon: float
    held_delta: float
    left_epsilon: float
    left_delta: float
    spent_as_epsilon: float
