"""A stage as the engine runs it: what is asked, with the mechanisms that the plan gave it.

Nothing here reads data. `dpbeam.queries.sharing` says which noisy quantities the metrics are made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from dpbeam.mechanisms.events import (
    Additive,
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    Selection,
    Thresholding,
    TruncatedGeometric,
    WeightedThresholding,
    in_others,
)
from dpbeam.mechanisms.noise_step import step_of
from dpbeam.mechanisms.targets import OfPartitions, target_of
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity, Summed, UnitCount, UnitsByValue, Values
from dpbeam.queries.query import Query, Stage
from dpbeam.queries.residual import other_leaves
from dpbeam.queries.sharing import by_definition, named, quantities, with_own_noise

LEVEL = "level"
"""The result column of a hierarchical stage that says how many of a row's keys are real."""


@dataclass(frozen=True, kw_only=True)
class Flat:
    """Partitions are those of the keys, rows those of the input. `read_for` is the stage that they are read for, where
    that is another (`StageSpec.of_input`)."""

    read_for: str | None = None


@dataclass(frozen=True, kw_only=True)
class Hierarchical:
    """Keys go from coarse to fine, and what isn't kept counts in its parent's `other`. Leaves are selected beforehand;
    once they are, the stage's keys end with the level. `other_l0` is the most leaves of one unit that count in one
    `other`; None for as many as the bounds allow in all."""

    other_l0: int | None = None


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round of a selection by weights: which of the stage's `rounds`, from 1, and for which stage of the query."""

    number: int
    stage: str


@dataclass(frozen=True, kw_only=True)
class UnitRows:
    """Rows aren't the input's but one a unit (`dpbeam.engine.bounding.unit_rows`), made from what it contributes to the
    partitions of `stage` by `keys`, within `bounds`. `placed` is as in `StageSpec`."""

    stage: str
    keys: tuple[str, ...]
    key_types: tuple[ColumnType, ...]
    bounds: Bounds
    placed: str | None = None


@dataclass(frozen=True, kw_only=True)
class Votes(UnitRows):
    """As `UnitRows`, where a unit's row is its vote on what became of all its rows (`dpbeam.engine.bounding.votes`),
    also of those that no rule let in. `mode_of_input` is how the rows of `stage` lie in partitions."""

    mode_of_input: Flat | Hierarchical = Flat()


Mode = Flat | Hierarchical | Round | UnitRows | Votes
"""Which rows a stage has, and how they lie in partitions."""


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One stage, ready to run: its grouping, its bounds, its mechanisms.

    `unit` is the privacy-unit column, or None where every row is a unit of its own. `noise` maps a quantity's name
    to its mechanism; the unit count has none where `selection` is thresholding, whose noisy count it is. `thresholds`
    does the same for quantities that show only what passes a threshold. `selection` is None for public partitions,
    which are then listed in a table apart. Without `keys` the whole table is one partition.

    Raises:
        ValueError: the stage is a round that it hasn't got.
    """

    name: str
    unit: str | None
    keys: tuple[str, ...]
    key_types: tuple[ColumnType, ...]
    bounds: Bounds
    metrics: tuple[Metric, ...]
    noise: Mapping[str, Additive]
    selection: Selection | None
    thresholds: Mapping[str, Thresholding] = field(default_factory=dict)
    rounds: tuple[WeightedThresholding, ...] = ()
    """The rounds by which its partitions are found before it runs; then they are known like public ones."""
    mode: Mode = Flat()
    placed: str | None = None
    """The column of the input that has each row's partition, where it isn't the one key: where a public partition takes
    all rows that aren't in any other."""

    def __post_init__(self) -> None:
        if isinstance(self.mode, Round) and not 1 <= self.mode.number <= len(self.rounds):
            rounds = len(self.rounds)
            raise ValueError(f"stage {self.name} has {rounds} rounds, so it can't be round {self.mode.number}")

    @property
    def hierarchical(self) -> bool:
        """Whether keys go from coarse to fine."""
        return isinstance(self.mode, Hierarchical)

    @property
    def is_round(self) -> bool:
        """Whether it is itself a round of a selection by weights."""
        return isinstance(self.mode, Round)

    @property
    def is_of_unit_rows(self) -> bool:
        """Whether it is read for another, whose rows are one a unit (`of_input`)."""
        return isinstance(self.mode, Flat) and self.mode.read_for is not None

    @property
    def stream(self) -> str:
        """The name under which rows are given their priorities: no other stage of a job has it."""
        return (self.mode.read_for if isinstance(self.mode, Flat) else None) or self.name

    @property
    def input_keys(self) -> tuple[str, ...]:
        """The columns of the input's rows that have the values of `keys`."""
        return self.keys if self.placed is None else (self.placed,)

    @property
    def leaf_keys(self) -> tuple[str, ...]:
        """The keys of the data, without the level."""
        return tuple(key for key in self.keys if not (self.hierarchical and key == LEVEL))

    @property
    def result_keys(self) -> tuple[str, ...]:
        """The key columns of what is released, known before the leaves are."""
        return (*self.leaf_keys, LEVEL) if self.hierarchical else self.keys

    @property
    def other_leaves(self) -> int:
        """The most leaves of one unit that count in one `other`.

        Raises:
            ValueError: its keys aren't hierarchical.
        """
        if not isinstance(self.mode, Hierarchical):
            raise ValueError(f"stage {self.name} has no hierarchical keys, so no other")
        return other_leaves(self.bounds, self.mode.other_l0)

    @property
    def weighing(self) -> WeightedThresholding:
        """The mechanism of a stage that is a round.

        Raises:
            ValueError: it isn't one.
        """
        if not isinstance(self.mode, Round):
            raise ValueError(f"stage {self.name} is not a round of a selection by weights")
        return self.rounds[self.mode.number - 1]

    @property
    def next_weighing(self) -> WeightedThresholding | None:
        """The mechanism of the round after this one; None after the last, and of what isn't a round."""
        done = self.mode.number if isinstance(self.mode, Round) else len(self.rounds)
        return self.rounds[done] if done < len(self.rounds) else None

    @property
    def of_input(self) -> StageSpec:
        """The stage as the input's rows are routed and bounded for it: itself, by the leaves of hierarchical keys, or
        what its units contribute to."""
        match self.mode:
            case UnitRows() as units:
                return replace(
                    self,
                    name=units.stage,
                    mode=self._mode_of_input(units),
                    keys=units.keys,
                    key_types=units.key_types,
                    bounds=units.bounds,
                    placed=units.placed,
                    metrics=(),
                    noise={},
                    thresholds={},
                )
            case Hierarchical() if self.leaf_keys != self.keys:
                return replace(self, keys=self.leaf_keys, key_types=self.key_types[: len(self.leaf_keys)])
            case _:
                return self

    def _mode_of_input(self, units: UnitRows) -> Mode:
        if isinstance(units, Votes) and isinstance(units.mode_of_input, Hierarchical):
            return units.mode_of_input
        return Flat(read_for=self.stream)

    @property
    def votes(self) -> bool:
        """Whether its rows are units' votes on what became of theirs."""
        return isinstance(self.mode, Votes)

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """The noisy quantities. Values that are summed are summed on no finer a grid than their noise can be drawn on;
        where keys are hierarchical, the larger noise of others."""
        return tuple(
            replace(quantity, least_step=step_of(in_others(self.noise[quantity.name])))
            if isinstance(quantity, Summed) and quantity.name in self.noise
            else quantity
            for quantity in quantities(self.metrics)
        )

    @cached_property
    def _by_definition(self) -> Mapping[Quantity, Quantity]:
        return by_definition(self.quantities)

    def made_from(self, metric: Metric) -> tuple[Quantity, ...]:
        """The stage's noisy quantities that one of its metrics is made from, the first the one that it is named for."""
        return named(metric, self._by_definition)

    @property
    def shares_count(self) -> bool:
        """Whether the noisy unit count that selected a partition is released as well."""
        return any(isinstance(quantity, UnitCount) for quantity in self.quantities) and self.counts_to_select

    def passed_threshold(self, metric: Metric) -> bool:
        """Whether what a metric shows are noisy unit counts that are shown since they passed a threshold."""
        first = self.made_from(metric)[0]
        return isinstance(first, Values) or (isinstance(first, UnitCount) and self.counts_to_select)

    @property
    def thresholding(self) -> Thresholding:
        """The selection of a stage that shares its count.

        Raises:
            ValueError: the stage selects otherwise.
        """
        if not isinstance(self.selection, LaplaceThresholding | GaussianThresholding):
            raise ValueError(f"stage {self.name} doesn't select by thresholding")
        return self.selection

    @property
    def counts_to_select(self) -> bool:
        """Whether partitions are selected by noisy unit counts, in the partitions that the metrics count in."""
        return isinstance(self.selection, LaplaceThresholding | GaussianThresholding) and not self.hierarchical

    @property
    def with_own_noise(self) -> tuple[Quantity, ...]:
        """The quantities that have a mechanism of their own."""
        return with_own_noise(self.quantities, shares_count=self.counts_to_select)

    @property
    def number_columns(self) -> tuple[str, ...]:
        """The value columns of which numbers are needed (of text, identities), in order of first use."""
        own = (q for q in self.quantities if not isinstance(q, UnitsByValue))
        return tuple(dict.fromkeys(column for q in own for column in q.columns))

    @property
    def word_columns(self) -> tuple[str, ...]:
        """The value columns whose values are counted by value, in order of first use."""
        own = (q for q in self.quantities if isinstance(q, UnitsByValue))
        return tuple(dict.fromkeys(column for q in own for column in q.columns))

    @property
    def value_columns(self) -> tuple[str, ...]:
        """The columns that quantities are made from, each once, in order of first use."""
        return tuple(dict.fromkeys(column for q in self.quantities for column in q.columns))


@dataclass(frozen=True, kw_only=True)
class ByUse:
    """The mechanisms of one stage by what they are for, as in `StageSpec`."""

    noise: Mapping[str, Additive]
    thresholds: Mapping[str, Thresholding]
    selection: Selection | None
    rounds: tuple[WeightedThresholding, ...]


def by_use(mechanisms: Sequence[Mechanism]) -> ByUse:
    """The mechanisms of one stage, each where it is applied.

    Raises:
        ValueError: a mechanism that nothing here applies.
    """
    noise: dict[str, Additive] = {}
    thresholds: dict[str, Thresholding] = {}
    selection: Selection | None = None
    rounds: list[WeightedThresholding] = []
    for mechanism in mechanisms:
        match mechanism:
            case Laplace() | Gaussian():
                noise[mechanism.metric] = mechanism
            case WeightedThresholding():
                rounds.append(mechanism)
            case TruncatedGeometric():
                selection = mechanism
            case LaplaceThresholding() | GaussianThresholding():
                if isinstance(target_of(mechanism), OfPartitions):
                    selection = mechanism
                else:
                    thresholds[mechanism.metric] = mechanism
            case _:
                raise ValueError(f"nothing is known to apply {mechanism!r}")
    return ByUse(noise=noise, thresholds=thresholds, selection=selection, rounds=tuple(rounds))


def planned(query: Query, mechanisms: Sequence[Mechanism]) -> tuple[StageSpec, ...]:
    """Every stage of a query with the mechanisms that its plan gave it.

    Raises:
        ValueError: the plan lacks a mechanism that a stage needs, or has one too many.
    """
    return tuple(planned_stage(query.unit, stage, mechanisms) for stage in query.stages)


def planned_stage(unit: str | None, stage: Stage, mechanisms: Sequence[Mechanism]) -> StageSpec:
    """One stage of a query whose privacy unit is `unit`, with the mechanisms that the plan gave it.

    Raises:
        ValueError: the plan lacks a mechanism that the stage needs, or has one too many.
    """
    own = by_use([mechanism for mechanism in mechanisms if mechanism.stage == stage.name])
    spec = StageSpec(
        name=stage.name,
        unit=unit,
        keys=stage.keys,
        key_types=stage.key_types,
        bounds=stage.bounds,
        metrics=stage.metrics,
        noise=own.noise,
        selection=own.selection,
        thresholds=own.thresholds,
        rounds=own.rounds,
        mode=_mode(stage),
        placed=stage.placed,
    )
    needed = with_own_noise(spec.quantities, shares_count=stage.shares_count)
    by_threshold = {quantity.name for quantity in needed if isinstance(quantity, Values)}
    if set(own.thresholds) != by_threshold or set(own.noise) != {quantity.name for quantity in needed} - by_threshold:
        raise ValueError(f"stage {stage.name}: the plan's noise doesn't match the stage's quantities")
    if (own.selection is None and not own.rounds) != (stage.selection is None):
        raise ValueError(f"stage {stage.name}: the plan's selection doesn't match the stage's partitions")
    return spec


def unit_rows(stage: Stage, within: Bounds) -> UnitRows:
    """Rows of the units of a stage, made from its partitions within these bounds."""
    return UnitRows(stage=stage.name, keys=stage.keys, key_types=stage.key_types, bounds=within, placed=stage.placed)


def _mode(stage: Stage) -> Mode:
    if stage.units_of is not None:
        return unit_rows(stage.units_of, stage.units_of.bounds)
    hierarchy = None if stage.selection is None else stage.selection.hierarchy
    return Flat() if hierarchy is None else Hierarchical(other_l0=hierarchy.other_l0)
