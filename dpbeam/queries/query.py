"""The question: what is asked of which rows, free of YAML, of Beam and of noise.

Whoever asks makes a `Question`: policies and builders in Python of a dataset, as a `Query`; PipelineDP's parameters of
rows that their job brings along. Whatever answers reads it: the plan and the check that derives it again, the engine,
the report. It is made once, and never changes.

Guarantee: a `Question` that was made has all that its privacy loss follows from: bounds of at least 1, finite clipping
bounds, noise for what needs noise, one name a stage. What it asks may still not be affordable, or not be possible for
the data; then planning or the run refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from dpbeam.queries.automatic import (
    CountSearch,
    Histogram,
    Key,
    Parameter,
    units_stage,
    values_stage,
)
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.selections import InRounds, Selection, TruncatedGeometric
from dpbeam.queries.sharing import quantities
from dpbeam.queries.source import InputSpec

Noise = Literal["laplace", "gaussian"]


@dataclass(frozen=True, kw_only=True)
class Public:
    """Partitions that are known beforehand, all of which are shown: `table` has a row a partition, a column a key.

    Where one of them takes all rows that aren't in any other, `placed` is the column that has each row's partition
    (`dpbeam.queries.source.Placed`); else None, and the key has it.
    """

    table: pa.Table
    placed: str | None = None


Partitions = Selection | Public | None
"""How a stage has its partitions: selected privately, known beforehand, or None where the whole table is one."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One table of a release: how rows are grouped, what one unit may contribute, what is computed.

    `searches` are the contribution bounds that the run finds; `bounds` has the most that they may become. Metrics carry
    the searches for their clipping bounds. `weight` is the stage's share of the budget. With `counted_by`, the source's
    rows are aggregated already, and that column says how many rows each stands for.

    Raises:
        ValueError: keys without partitions or partitions without keys, metrics without noise, a weight that isn't
            above 0, a search whose bound is more than it may become, coverage that can't be bought.
    """

    name: str
    keys: tuple[str, ...]
    key_types: tuple[ColumnType, ...]
    partitions: Partitions
    bounds: Bounds
    metrics: tuple[Metric, ...]
    noise: Noise | None
    weight: float = 1.0
    searches: tuple[tuple[Parameter, CountSearch], ...] = ()
    counted_by: str | None = None
    coverage: float | None = None
    """The share of the stage's budget that says what became of its rows (`dpbeam.queries.coverage`); None: it isn't
    bought."""
    units_of: Stage | None = None
    """Its rows aren't the input's but one a privacy unit: what that contributes to the partitions of this stage, within
    its bounds (`dpbeam.engine.bounding.unit_rows`). None of a stage of the input's rows."""

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.key_types) or len(set(self.keys)) != len(self.keys):
            raise ValueError(f"stage {self.name}: each key needs a name of its own and a type")
        if bool(self.keys) != (self.partitions is not None):
            raise ValueError(f"stage {self.name}: a stage has partitions if, and only if, it has keys")
        if self.placed is not None and len(self.keys) != 1:
            raise ValueError(f"stage {self.name}: rows that aren't listed can only be placed where there is one key")
        if not self.metrics and not isinstance(self.partitions, Selection):
            raise ValueError(f"stage {self.name}: without metrics, partitions must be selected privately")
        if self.noise is None and (self.metrics or self.searches):
            raise ValueError(f"stage {self.name}: noise must be laplace or gaussian where there are metrics")
        if not self.weight > 0:
            raise ValueError(f"stage {self.name}: weight must be above 0, got {self.weight!r}")
        if self.coverage is not None:
            if not 0 < self.coverage < 1:
                raise ValueError(f"stage {self.name}: coverage must be above 0 and below 1, got {self.coverage!r}")
            if self.noise is None or self.counted_by is not None:
                raise ValueError(f"stage {self.name}: coverage needs noise, and rows that aren't aggregated already")
        if self.units_of is not None and (self.keys or self.bounds != Bounds(l0=1, linf=1) or self.histograms):
            raise ValueError(f"stage {self.name}: one row a unit has no keys, bounds of 1, and nothing to find")
        for name, search in self.searches:
            bound = getattr(self.bounds, name)
            if bound is None or not bound <= search.max:
                raise ValueError(f"stage {self.name}: {name} must be bounded by what its search may find")

    @property
    def selection(self) -> Selection | None:
        """How partitions are selected privately; None where they are known beforehand."""
        return self.partitions if isinstance(self.partitions, Selection) else None

    @property
    def counting(self) -> Selection | None:
        """The selection that looks at the very partitions that the metrics count in; None for public partitions, and
        for hierarchical keys, whose leaves are selected beforehand."""
        selection = self.selection
        return None if selection is None or selection.hierarchy is not None else selection

    @property
    def shares_count(self) -> bool:
        """Whether partitions are selected by noisy unit counts, which are those that are shown where units are."""
        return self.counting is not None and not isinstance(self.counting, TruncatedGeometric | InRounds)

    @property
    def public(self) -> pa.Table | None:
        """The partitions that are known beforehand; None where they are selected, or the whole table is one."""
        return self.partitions.table if isinstance(self.partitions, Public) else None

    @property
    def placed(self) -> str | None:
        """The column that has each row's partition, where it isn't the key: see `Public`."""
        return self.partitions.placed if isinstance(self.partitions, Public) else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the input that its partitions and metrics are made of, each once."""
        if self.units_of is not None:
            return self.units_of.columns
        values = (column for quantity in quantities(self.metrics) for column in quantity.columns)
        return tuple(dict.fromkeys((*(self.keys if self.placed is None else (self.placed,)), *values)))

    @property
    def histograms(self) -> tuple[Histogram, ...]:
        """The histograms that its bounds are found by, each once: of its columns in order of first use, then of l0,
        linf or l1.

        One histogram of a column serves all metrics of the stage, with the largest of their weights.
        """
        columns: dict[str, Histogram] = {}
        for metric in self._clipped:
            for _, search in metric.searches:
                column, old = metric.column, columns.get(metric.column)
                weight = max(search.weight, 0.0 if old is None else old.weight)
                columns[column] = Histogram(stage=values_stage(self.name), metric=column, weight=weight, search=search)
        units = (
            Histogram(stage=units_stage(self.name), metric=name, weight=search.weight, search=search)
            for name, search in self.searches
        )
        return (*columns.values(), *units)

    @property
    def automatic(self) -> Iterator[tuple[Key, float]]:
        """Each bound that the run finds, with what it stands for; those of metrics before the stage's own."""
        for metric in self._clipped:
            for side in metric.auto:
                yield (self.name, metric.name, side), metric.low if side == "low" else metric.high
        for name, _ in self.searches:
            yield (self.name, None, name), getattr(self.bounds, name)

    @property
    def _clipped(self) -> Iterator[Clipped]:
        """The metrics of values that are clipped, each by itself, to bounds that the run may find."""
        return (metric for metric in self.metrics if isinstance(metric, Clipped))

    def with_chosen(self, chosen: Mapping[Key, float]) -> Stage:
        """The stage with each bound that it leaves to the run set to what was chosen.

        Raises:
            KeyError: a bound wasn't chosen.
            ValueError: one can't be chosen.
        """
        limits: dict[str, int] = {}
        for name, search in self.searches:
            value = int(chosen[self.name, None, name])
            if not 1 <= value <= search.max:
                raise ValueError(f"a bound must lie between 1 and {search.max}, got {value}")
            limits[name] = value
        return replace(
            self,
            bounds=replace(self.bounds, **limits),
            metrics=tuple(_with_chosen(self.name, metric, chosen) for metric in self.metrics),
        )


def _with_chosen(stage: str, metric: Metric, chosen: Mapping[Key, float]) -> Metric:
    if not isinstance(metric, Clipped):
        return metric
    clips: dict[str, float] = {}
    for side, search in metric.searches:
        value = chosen[stage, metric.name, side]
        if not abs(value) <= search.reach:
            raise ValueError(f"a clipping bound must lie within ±{search.reach}, got {value}")
        clips[side] = float(value)
    return replace(metric, low=clips.get("low", metric.low), high=clips.get("high", metric.high))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, stage by stage, and the (ε, δ) that all of it may cost together.

    Raises:
        ValueError: no stage, two of one name, or an ε or δ that isn't above 0 (δ: and below 1).
    """

    stages: tuple[Stage, ...]
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError("a query needs stages, each with a name of its own")
        if not (self.epsilon > 0 and 0 < self.delta < 1):
            raise ValueError(f"epsilon must be above 0 and delta above 0 and below 1, got {self.epsilon}, {self.delta}")


@dataclass(frozen=True, kw_only=True)
class Query(Question):
    """A question of one dataset.

    `unit` is the column that tells whose row it is; None where every row is a unit of its own. `digest` is that of the
    policy's canonical form, the same for the same policy: a release is found again by it. It is carried along, not made
    anew of what stands here (docs/decisions.md says why).
    """

    dataset: str
    source: InputSpec
    unit: str | None
    digest: str = ""

    @property
    def automatic(self) -> dict[Key, float]:
        """Each bound that the query leaves to the run, with what it stands for."""
        return {key: value for stage in self.stages for key, value in stage.automatic}

    def with_chosen(self, chosen: Mapping[Key, float]) -> Query:
        """The query with each bound that it leaves to the run set to what was chosen; its digest stays.

        Raises:
            KeyError: a bound wasn't chosen.
            ValueError: one can't be chosen.
        """
        return replace(self, stages=tuple(stage.with_chosen(chosen) for stage in self.stages))
