"""What the engine is told to do, as plain values: the policy's stages with all privacy parameters filled in.

Nothing here reads data. `dpbeam.policy` makes the input and the quantities, the plan adds the noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from dpbeam.mechanisms.events import Additive, Selection

ColumnType = Literal["string", "int64", "float64", "bool", "date", "timestamp"]
Scalar = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What happens to a row whose value breaks a column's rule: `drop` it, `fail` the run, `replace` the value."""

    action: Literal["drop", "fail", "replace"] = "drop"
    value: Scalar | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that is read from the source, and its rules. `on_nan`, `on_inf` apply to float64 only.

    `on_invalid` applies to what isn't a value of the type: text that is not a number, invalid UTF-8, an integer
    beyond int64, a CSV row of the wrong width (there the row is dropped or the run fails).
    """

    name: str
    type: ColumnType
    on_null: Rule = Rule()
    on_nan: Rule = Rule()
    on_inf: Rule = Rule()
    on_invalid: Rule = Rule()


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
    """The source and every row-local step, in the order they apply: read, validate, derive, where."""

    format: Literal["csv", "parquet"]
    paths: tuple[str, ...]
    columns: tuple[Column, ...]
    derived: tuple[Derived, ...] = ()
    where: tuple[Condition, ...] = ()
    delimiter: str = ","


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One released metric. `name` is its column in the results; `column`, `low`, `high` only for sum and mean."""

    kind: Literal["count", "privacy_id_count", "sum", "mean"]
    name: str
    column: str | None = None
    low: float | None = None
    high: float | None = None
    weight: float = 1.0

    def value_bounds(self) -> tuple[str, float, float]:
        """The summed column and its clipping bounds.

        Raises:
            ValueError: the metric has none, or they aren't finite with low < high.
        """
        if self.column is None or self.low is None or self.high is None or not -inf < self.low < self.high < inf:
            raise ValueError(f"metric {self.name}: a {self.kind} needs a column and finite bounds with low < high")
        return self.column, self.low, self.high


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One noisy quantity; a metric is post-processing of one or two of them.

    `name` is the `metric` field of its mechanism. `sum` adds up clip(value, low, high) − centre, where `centre` is
    0 for a released sum and the middle of the bounds for the numerator of a mean.
    """

    name: str
    kind: Literal["count", "privacy_id_count", "sum"]
    weight: float
    column: str | None = None
    low: float = 0.0
    high: float = 0.0
    centre: float = 0.0

    def linf_sensitivity(self, linf: int) -> float:
        """How far one unit with at most `linf` rows in a partition moves this quantity there."""
        match self.kind:
            case "count":
                return float(linf)
            case "privacy_id_count":
                return 1.0
            case "sum":
                return linf * max(abs(self.low - self.centre), abs(self.high - self.centre))
        raise ValueError(f"unknown quantity {self.kind!r}")


def quantities(metrics: tuple[Metric, ...]) -> tuple[Quantity, ...]:
    """The noisy quantities that serve these metrics, each once, in order of first use.

    A mean needs a centred sum and the count; a released count and every mean share one noisy count, which then
    has the sum of their weights, so that no metric loses by sharing.

    Raises:
        ValueError: two different quantities would have one name.
    """
    found: dict[str, Quantity] = {}

    def need(quantity: Quantity) -> None:
        old = found.get(quantity.name)
        if old is not None and replace(old, weight=quantity.weight) != quantity:
            raise ValueError(f"two different quantities are called {quantity.name}; rename a metric")
        found[quantity.name] = replace(quantity, weight=quantity.weight + (old.weight if old else 0.0))

    for metric in metrics:
        match metric.kind:
            case "count" | "privacy_id_count":
                need(Quantity(name=metric.kind, kind=metric.kind, weight=metric.weight))
            case "sum":
                column, low, high = metric.value_bounds()
                need(Quantity(name=metric.name, kind="sum", weight=metric.weight, column=column, low=low, high=high))
            case "mean":
                column, low, high = metric.value_bounds()
                need(
                    Quantity(
                        name=mean_numerator(metric),
                        kind="sum",
                        weight=metric.weight / 2,
                        column=column,
                        low=low,
                        high=high,
                        centre=low + (high - low) / 2,
                    )
                )
                need(Quantity(name="count", kind="count", weight=metric.weight / 2))
    return tuple(found.values())


def mean_numerator(metric: Metric) -> str:
    """The name of the centred sum that a mean is made from."""
    return f"{metric.name}.sum"


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One stage, ready to run: its grouping, its bounds, its mechanisms.

    `unit` is the privacy-unit column, or None where every row is a unit of its own. `noise` maps a quantity's name
    to its mechanism. `selection` is None for public partitions, which are then listed in a table apart.
    """

    name: str
    unit: str | None
    keys: tuple[str, ...]
    key_types: tuple[ColumnType, ...]
    l0: int
    linf: int
    metrics: tuple[Metric, ...]
    noise: Mapping[str, Additive]
    selection: Selection | None

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return quantities(self.metrics)

    @property
    def value_columns(self) -> tuple[str, ...]:
        """The columns summed, each once, in order of first use."""
        return tuple(dict.fromkeys(q.column for q in self.quantities if q.column is not None))
