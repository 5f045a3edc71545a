"""Metrics in, the noisy quantities they are made from out: each once, with what one privacy unit can move it by.

A metric is post-processing of one to three noisy quantities. Quantities are shared: they are told apart by what they
are, not by the metric that asked for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from dpbeam.queries.bounds import Bounds, Norm, vector_norms
from dpbeam.queries.metric import Metric

if TYPE_CHECKING:
    from dpbeam.queries.custom import CustomMetric

QuantityKind = Literal[
    "count",
    "privacy_id_count",
    "sum",
    "total",
    "squares",
    "bins",
    "vector",
    "tree",
    "distinct",
    "values",
    "candidates",
    "custom",
]
BY_VALUE = ("values", "candidates")
"""The quantities that count units by the values of a column."""
SUMMED = ("sum", "total", "squares", "vector", "custom")
"""The quantities that add up fixed-point numbers on a grid of their own; all others count."""

TREE_HEIGHT = 4
TREE_BRANCHING = 16
"""A quantile tree's shape: 16**4 leaves, as in Google's library and PipelineDP."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One noisy quantity of every partition. `name` is the `metric` field of its mechanism.

    `sum` adds up clip(value, low, high) − centre, where `centre` is 0 for a released sum and the middle of the bounds
    for the numerator of a mean; `total` adds up clip(total of one unit's values in the partition, low, high); `squares`
    adds up (clip(value) − centre)² − reach²/2; `bins` counts rows by interval of `edges`; `vector` adds up the vectors
    of `columns`, scaled down to a `norm` of at most `max_norm`; `tree` counts rows by node of a quantile tree over
    [low, high], asked for the quantiles at `ranks`; `distinct` counts the distinct values of a column; `values` and
    `candidates` count units by value, `candidates` those of a public list, `values` all whose noisy count passes a
    threshold (and which at least `pre_threshold` units have), a unit with at most `max_values` of them in a partition;
    `custom` adds up what a custom metric makes of `columns`, vectors of a `norm` of at most `max_norm`.

    `least_step` is set once the noise is planned: what is summed is summed on no finer a grid (0: as fine as there is).

    `auto` says which of its bounds the run chooses, and `centred` there that it is centred: two quantities that the
    policy tells apart stay two, whatever is chosen, so that the plan's noise holds.
    """

    name: str
    kind: QuantityKind
    weight: float
    columns: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    centre: float = 0.0
    edges: tuple[float, ...] = ()
    norm: Norm | None = None
    max_norm: float = 0.0
    ranks: tuple[float, ...] = ()
    max_values: int = 0
    pre_threshold: int = 1
    candidates: tuple[str, ...] = ()
    custom: CustomMetric | None = None
    auto: tuple[str, ...] = ()
    length: int = 0
    """Of a vector whose columns hold several numbers each, how many there are in all; 0 where each holds one."""
    least_step: float = 0.0

    @property
    def definition(self) -> Quantity:
        """What it is, whoever asked for it: two quantities of one definition are one."""
        return replace(self, name="", weight=1.0, ranks=(), least_step=0.0)

    @property
    def reach(self) -> float:
        """The largest distance of a clipped value from the centre."""
        return max(abs(self.low - self.centre), abs(self.high - self.centre))

    @property
    def size(self) -> int:
        """Numbers a partition in the accumulators: 1, or the length of a vector."""
        return {
            "bins": len(self.edges) - 1,
            "vector": self.length or len(self.columns),
            "candidates": len(self.candidates),
            "custom": 1 if self.custom is None else self.custom.row_bound.size,
        }.get(self.kind, 1)

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        """How far, in l1 and in l2 over all partitions, one privacy unit within `bounds` moves this quantity."""
        match self.kind:
            case "count" | "bins" | "distinct":  # a row adds at most one to the values seen
                return bounds.of_rows(1.0, 1.0)
            case "privacy_id_count":
                return bounds.of_partitions(1.0)
            case "total":
                return bounds.of_partitions(self.reach)
            case "sum":
                return bounds.of_rows(self.reach, self.reach)
            case "squares":
                return bounds.of_rows(self.reach**2 / 2, self.reach**2 / 2)
            case "tree":  # a row counts in one node of each level; all rows may be in the same ones
                return bounds.of_rows(TREE_HEIGHT, math.sqrt(TREE_HEIGHT))
            case "vector" | "custom":
                l1, l2 = vector_norms(self.norm, self.max_norm, self.size)
                return bounds.of_rows(l1, l2)
            case "values" | "candidates":  # a unit counts once for each (partition, value)
                cells = bounds.of_values(self.max_values)
                return float(cells), math.sqrt(cells)
        raise ValueError(f"unknown quantity {self.kind!r}")


def numbers(quantity: Quantity, bounds: Bounds) -> int:
    """How many numbers, over all partitions, one privacy unit within `bounds` moves at most."""
    match quantity.kind:
        case "tree":
            nodes = math.prod([TREE_BRANCHING] * TREE_HEIGHT) * 2  # more than all levels together
            return min(bounds.partitions * nodes, TREE_HEIGHT * (bounds.rows or 0))
        case "bins":
            return min(bounds.partitions * quantity.size, bounds.rows or 0)
        case "vector" | "custom":
            return bounds.partitions * quantity.size
        case "values" | "candidates":
            return bounds.of_values(quantity.max_values)
    return bounds.partitions


def quantities(metrics: Sequence[Metric]) -> tuple[Quantity, ...]:
    """The noisy quantities that serve these metrics, each once, in order of first use.

    A quantity that several metrics need is one mechanism with the sum of their weights, so that no metric loses by
    sharing.

    Raises:
        ValueError: two different quantities would have one name, or a metric lacks what its kind needs.
    """
    found: dict[Quantity, Quantity] = {}
    names: set[str] = set()
    for metric in metrics:
        for needed in parts(metric):
            old = found.get(needed.definition)
            if old is None and needed.name in names:
                raise ValueError(f"two different quantities are called {needed.name}; rename a metric")
            names.add(needed.name)
            found[needed.definition] = needed if old is None else _joined(old, needed)
    return tuple(found.values())


def noisy_by_themselves(found: Sequence[Quantity], *, shares_count: bool) -> tuple[Quantity, ...]:
    """The quantities that need a mechanism of their own.

    Thresholding adds noise to the unit count of every partition: where units are to be counted in a stage that
    `shares_count`, that noisy count serves.
    """
    return tuple(quantity for quantity in found if not (shares_count and quantity.kind == "privacy_id_count"))


def by_definition(among: Iterable[Quantity]) -> dict[Quantity, Quantity]:
    """Each quantity by what it is."""
    return {quantity.definition: quantity for quantity in among}


def named(metric: Metric, known: Mapping[Quantity, Quantity]) -> tuple[Quantity, ...]:
    """The quantities that make this metric, in the order of `parts`, of those `known` by their definitions.

    Raises:
        KeyError: one is missing.
    """
    return tuple(known[part.definition] for part in parts(metric))


def served(metrics: Iterable[Metric]) -> dict[Quantity, list[Metric]]:
    """The metrics that each quantity, by its definition, is needed for, each once."""
    found: dict[Quantity, list[Metric]] = {}
    for metric in metrics:
        for definition in dict.fromkeys(part.definition for part in parts(metric)):
            found.setdefault(definition, []).append(metric)
    return found


def parts(metric: Metric) -> tuple[Quantity, ...]:
    """The quantities that one metric needs, as if it were alone; its weight is shared evenly among them."""
    match metric.kind:
        case "count" if metric.column is not None:  # of rows that are aggregated already
            column, low, high = replace(metric, low=metric.low_total, high=metric.high_total).value_bounds()
            counted = Quantity(name="count", kind="total", weight=metric.weight, columns=(column,), low=low, high=high)
            return (counted,)
        case "count" | "privacy_id_count":
            return (Quantity(name=metric.kind, kind=metric.kind, weight=metric.weight),)
        case "sum":
            kind: Literal["sum", "total"] = "sum" if metric.low_total is None else "total"
            bounded = metric if kind == "sum" else replace(metric, low=metric.low_total, high=metric.high_total)
            column, low, high = bounded.value_bounds()
            total = Quantity(name=metric.name, kind=kind, weight=metric.weight, columns=(column,), low=low, high=high)
            return (replace(total, auto=metric.auto),)
        case "mean":
            return _moments(metric, ("sum",))
        case "variance" | "stddev":
            return _moments(metric, ("sum", "squares"))
        case "quantiles" | "median" | "min" | "max":
            column, low, high = metric.value_bounds()
            tree = Quantity(
                name=f"{metric.name}.tree",
                kind="tree",
                weight=metric.weight,
                columns=(column,),
                low=low,
                high=high,
                ranks=metric.ranks,
                auto=metric.auto,
            )
            return (tree,)
        case "histogram":
            bins = Quantity(
                name=metric.name,
                kind="bins",
                weight=metric.weight,
                columns=(_column(metric),),
                edges=metric.edges,
            )
            return (bins,)
        case "vector_sum":
            if metric.norm is None or metric.max_norm is None or not 0 < metric.max_norm < math.inf:
                raise ValueError(f"metric {metric.name}: a vector_sum needs a norm and a positive finite max_norm")
            vector = Quantity(
                name=metric.name,
                kind="vector",
                weight=metric.weight,
                columns=metric.columns,
                length=metric.length,
                norm=metric.norm,
                max_norm=metric.max_norm,
            )
            return (vector,)
        case "distinct_count":
            column = _column(metric)
            return (Quantity(name=metric.name, kind="distinct", weight=metric.weight, columns=(column,)),)
        case "top_k":
            if not (metric.k >= 1 and metric.max_values >= 1 and metric.pre_threshold >= 1):
                raise ValueError(f"metric {metric.name}: a top_k needs k, max_values and pre_threshold of at least 1")
            counted = Quantity(
                name=metric.name,
                kind="candidates" if metric.candidates else "values",
                weight=metric.weight,
                columns=(_column(metric),),
                max_values=metric.max_values,
                pre_threshold=metric.pre_threshold,
                candidates=metric.candidates,
            )
            return (counted,)
        case "custom":
            return _custom(metric)
    raise ValueError(f"unknown metric {metric.kind!r}")


def _moments(metric: Metric, powers: tuple[Literal["sum", "squares"], ...]) -> tuple[Quantity, ...]:
    """The centred sums of powers, and the count, that a mean or a variance is made from."""
    column, low, high = metric.value_bounds()
    weight = metric.weight / (len(powers) + 1)
    sums = [
        Quantity(
            name=f"{metric.name}.{power}",
            kind=power,
            weight=weight,
            columns=(column,),
            low=low,
            high=high,
            centre=low + (high - low) / 2,
            auto=(*metric.auto, "centred") if metric.auto else (),
        )
        for power in powers
    ]
    return (*sums, Quantity(name="count", kind="count", weight=weight))


def _custom(metric: Metric) -> tuple[Quantity, ...]:
    """The sums of what rows add, and the count if it is needed."""
    if metric.custom is None:
        raise ValueError(f"metric {metric.name}: a custom metric must be built first")
    bound = metric.custom.row_bound
    weight = metric.weight / (2 if metric.custom.needs_count else 1)
    sums = Quantity(
        name=metric.name,
        kind="custom",
        weight=weight,
        columns=metric.columns,
        norm=bound.norm,
        max_norm=float(bound.most),
        custom=metric.custom,
    )
    return (sums, Quantity(name="count", kind="count", weight=weight)) if metric.custom.needs_count else (sums,)


def _joined(one: Quantity, other: Quantity) -> Quantity:
    ranks = tuple(sorted({*one.ranks, *other.ranks}))
    return replace(one, weight=one.weight + other.weight, ranks=ranks)


def _column(metric: Metric) -> str:
    if metric.column is None:
        raise ValueError(f"metric {metric.name}: a {metric.kind} needs a column")
    return metric.column
