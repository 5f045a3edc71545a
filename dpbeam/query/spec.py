"""What the engine is told to do, as plain values: the policy's stages with all privacy parameters filled in.

Nothing here reads data. `dpbeam.policy` makes the input and the metrics, the plan adds the noise;
`dpbeam.query.quantities` says which noisy quantities the metrics are made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from dpbeam.mechanisms.events import Additive, Selection, Thresholding, WeightedThresholding, in_others
from dpbeam.mechanisms.noise_step import step_of
from dpbeam.query.bounds import Bounds
from dpbeam.query.metric import Metric
from dpbeam.query.quantities import (
    BY_VALUE,
    SUMMED,
    Quantity,
    by_definition,
    named,
    noisy_by_themselves,
    quantities,
)
from dpbeam.query.residual import other_leaves

ColumnType = Literal["string", "int64", "float64", "bool", "date", "timestamp"]
DeclaredType = Literal["string", "int64", "float64", "bool", "date", "timestamp", "vector"]
"""What a column may be declared as: one value a row, or a list of numbers, all of one length."""
Scalar = str | int | float | bool
Format = Literal["csv", "parquet", "jsonl", "avro"]
Compression = Literal["auto", "none", "gzip", "bz2", "zstd", "xz"]

LEVEL = "level"
"""The result column of a hierarchical stage that says how many of a row's keys are real."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What happens to a row whose value breaks a column's rule: `drop` it, `fail` the run, `replace` the value."""

    action: Literal["drop", "fail", "replace"] = "drop"
    value: Scalar | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that is read from the source, and its rules. `on_nan`, `on_inf` apply to float64 and vectors only.

    `on_invalid` applies to what isn't a value of the type: text that is not a number, invalid UTF-8, an integer
    beyond int64, a CSV row of the wrong width or a line that isn't JSON (there the row is dropped or the run fails).
    `field` says where the column lies in the source, if not under its name: a name, a path with dots into structs, or
    the path's names one by one. A vector has `length` numbers in every row, and its rules hold for each of them.

    Raises:
        ValueError: a vector without a length of at least 1, or a length of anything else.
    """

    name: str
    type: DeclaredType
    on_null: Rule = Rule()
    on_nan: Rule = Rule()
    on_inf: Rule = Rule()
    on_invalid: Rule = Rule()
    field: str | tuple[str, ...] | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        if (self.type == "vector") != (self.length is not None) or not (self.length is None or self.length >= 1):
            raise ValueError(f"columns.{self.name}: a vector, and no other type, needs a length of at least 1")


@dataclass(frozen=True, kw_only=True)
class Bin:
    """`name` = the interval of `edges` that holds `column`, as text: "< 18", "[18, 30)", …, "≥ 65"."""

    name: str
    column: str
    edges: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Truncate:
    """`name` = `column` (date or timestamp) cut to the start of its `unit`, as ISO 8601 text."""

    name: str
    column: str
    unit: Literal["year", "month", "week", "day", "hour", "minute"]


@dataclass(frozen=True, kw_only=True)
class Lower:
    """`name` = `column` (string) in lower case."""

    name: str
    column: str


Derived = Bin | Truncate | Lower


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Keeps the rows where `column` `op` `value` holds; a row-local test, so it costs no budget."""

    column: str
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not_in"]
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The source and every row-local step, in the order they apply: read, validate, derive, where.

    `path_columns` are columns whose values stand in the files' paths, as folders `name=value`. `quoted_newlines` says
    whether a quoted CSV value may hold line breaks; if not, each line is a row.
    """

    format: Format
    paths: tuple[str, ...]
    columns: tuple[Column, ...]
    derived: tuple[Derived, ...] = ()
    where: tuple[Condition, ...] = ()
    delimiter: str = ","
    quoted_newlines: bool = True
    compression: Compression = "auto"
    path_columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UnitRows:
    """Makes one row of each unit of `stage`, from what it contributes to its partitions by `keys`, within `bounds`."""

    stage: str
    keys: tuple[str, ...]
    key_types: tuple[ColumnType, ...]
    bounds: Bounds


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One stage, ready to run: its grouping, its bounds, its mechanisms.

    `unit` is the privacy-unit column, or None where every row is a unit of its own. `noise` maps a quantity's name
    to its mechanism; the unit count has none where `selection` is thresholding, whose noisy count it is. `thresholds`
    does the same for quantities that show only what passes a threshold. `selection` is None for public partitions,
    which are then listed in a table apart. Without `keys` the whole table is one partition. With `units`, the stage's
    rows are not the input's but one a unit (`dpbeam.engine.bounding.unit_rows`).
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
    round: int = 0
    """Of a stage that is itself such a round: which of `rounds`, from 1."""
    hierarchical: bool = False
    """Keys go from coarse to fine, and what isn't kept counts in its parent's `other`. Leaves are selected beforehand;
    once they are, `keys` end with the level."""
    other_l0: int | None = None
    """The most leaves of one unit that count in one `other`; None for as many as the bounds allow in all."""
    units: UnitRows | None = None
    read_for: str | None = None
    """Of what `of_input` makes: the stage that it is read for."""

    @property
    def stream(self) -> str:
        """The name under which rows are given their priorities: no other stage of a job has it."""
        return self.read_for or self.name

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
        """The most leaves of one unit that count in one `other`."""
        return other_leaves(self.bounds, self.other_l0)

    @property
    def weighing(self) -> WeightedThresholding:
        """The mechanism of a stage that is a round.

        Raises:
            ValueError: it isn't one.
        """
        if not 1 <= self.round <= len(self.rounds):
            raise ValueError(f"stage {self.name} is not a round of a selection by weights")
        return self.rounds[self.round - 1]

    @property
    def of_input(self) -> StageSpec:
        """The stage as the input's rows are routed and bounded for it: itself, by the leaves of hierarchical keys, or
        what its units contribute to."""
        if self.units is None:
            leaves = self.leaf_keys
            return self if leaves == self.keys else replace(self, keys=leaves, key_types=self.key_types[: len(leaves)])
        inner = replace(
            self, name=self.units.stage, read_for=self.stream, units=None, metrics=(), noise={}, thresholds={}
        )
        return replace(inner, keys=self.units.keys, key_types=self.units.key_types, bounds=self.units.bounds)

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """The noisy quantities. Values that are summed are summed on no finer a grid than their noise can be drawn on;
        where keys are hierarchical, the larger noise of others."""
        return tuple(
            replace(quantity, least_step=step_of(in_others(self.noise[quantity.name])))
            if quantity.kind in SUMMED and quantity.name in self.noise
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
        strategy = None if self.selection is None or self.hierarchical else self.selection.kind
        return len(noisy_by_themselves(self.quantities, strategy)) < len(self.quantities)

    @property
    def number_columns(self) -> tuple[str, ...]:
        """The value columns of which numbers are needed (of text, identities), in order of first use."""
        own = (q for q in self.quantities if q.kind not in BY_VALUE)
        return tuple(dict.fromkeys(column for q in own for column in q.columns))

    @property
    def word_columns(self) -> tuple[str, ...]:
        """The value columns whose values are counted by value, in order of first use."""
        own = (q for q in self.quantities if q.kind in BY_VALUE)
        return tuple(dict.fromkeys(column for q in own for column in q.columns))

    @property
    def value_columns(self) -> tuple[str, ...]:
        """The columns that quantities are made from, each once, in order of first use."""
        return tuple(dict.fromkeys(column for q in self.quantities for column in q.columns))
