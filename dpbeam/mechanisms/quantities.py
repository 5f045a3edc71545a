"""Metrics in, the noisy quantities they are made from out: each once, with what one privacy unit can move it by.

A metric is post-processing of one to three noisy quantities. Quantities are shared: they are told apart by what they
are, not by the metric that asked for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dpbeam.mechanisms.custom import CustomMetric

MetricKind = Literal[
    "count",
    "privacy_id_count",
    "sum",
    "mean",
    "variance",
    "stddev",
    "quantiles",
    "median",
    "min",
    "max",
    "vector_sum",
    "histogram",
    "distinct_count",
    "top_k",
    "custom",
]
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
Norm = Literal["l1", "l2", "linf"]

BY_VALUE = ("values", "candidates")
"""The quantities that count units by the values of a column."""

THRESHOLDING = ("laplace_thresholding", "gaussian_thresholding")

TREE_HEIGHT = 4
TREE_BRANCHING = 16
"""A quantile tree's shape: 16**4 leaves, as in Google's library and PipelineDP."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one privacy unit may contribute to a stage: at most `l0` partitions, and `linf` rows in each; or at most
    `l1` rows in all.

    `l0` without `linf` bounds no rows: it is enough for what is bounded in each partition by itself.

    Raises:
        ValueError: neither `l1` alone nor `l0` with or without `linf` is given, or one is below 1.
    """

    l0: int | None = None
    linf: int | None = None
    l1: int | None = None

    def __post_init__(self) -> None:
        given = [bound for bound in (self.l0, self.linf, self.l1) if bound is not None]
        if (self.l0 is None) == (self.l1 is None) or (self.l0 is None and self.linf is not None) or min(given) < 1:
            raise ValueError(f"bounds must be l0, or l0 and linf, or l1, each at least 1, got {self}")

    @property
    def partitions(self) -> int:
        """The most partitions that one unit counts in."""
        return self.l0 or self.l1 or 0

    @property
    def rows(self) -> int | None:
        """The most rows that one unit counts with; None if they aren't bounded."""
        if self.l1 is not None:
            return self.l1
        return None if self.l0 is None or self.linf is None else self.l0 * self.linf

    def of_rows(self, l1: float, l2: float) -> tuple[float, float]:
        """(l1, l2) sensitivity, over all partitions, of a quantity that one row moves by `l1` and by `l2`.

        All rows of a unit in a partition may move the same number, and with `l1` all its rows may be in one partition.

        Raises:
            ValueError: the unit's rows aren't bounded.
        """
        if self.l1 is not None:
            return self.l1 * l1, self.l1 * l2
        if self.l0 is None or self.linf is None:
            raise ValueError("rows of a unit must be bounded by linf or l1 for what they add up to")
        return self.l0 * self.linf * l1, math.sqrt(self.l0) * self.linf * l2

    def of_values(self, most: int) -> int:
        """The most (partition, value) pairs that one unit counts in, with at most `most` values in a partition.

        A row has one value, so a bound on rows bounds values too.
        """
        if self.l1 is not None:
            return self.l1
        return self.partitions * (most if self.linf is None else min(most, self.linf))

    def of_partitions(self, most: float) -> tuple[float, float]:
        """(l1, l2) sensitivity of a quantity that one unit moves by at most `most` in each partition."""
        return self.partitions * most, math.sqrt(self.partitions) * most


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One released metric. `name` is its column in the results, or what their names begin with.

    `column`, `low` and `high` (clipping bounds) serve sum, mean, variance, stddev, quantiles, median, min and max; a
    sum may have `low_total` and `high_total` in their place, the bounds of one unit's total in a partition; so has a
    count of rows that are aggregated already, whose `column` says how many rows each stands for. `ranks`
    serve quantiles, median, min and max; `edges` (rising, one more than bins) a histogram; `columns`, `norm` and
    `max_norm` a vector_sum. A top_k shows the `k` most frequent values of `column`, one unit counting for at most
    `max_values` in a partition: of the public `candidates`, or else of all values, above a threshold on their noisy
    counts and never with fewer units than `pre_threshold`. `auto` says which of `low` and `high` the run chooses.
    """

    kind: MetricKind
    name: str
    column: str | None = None
    low: float | None = None
    high: float | None = None
    weight: float = 1.0
    ranks: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    columns: tuple[str, ...] = ()
    norm: Norm | None = None
    max_norm: float | None = None
    low_total: float | None = None
    high_total: float | None = None
    k: int = 0
    max_values: int = 0
    pre_threshold: int = 1
    candidates: tuple[str, ...] = ()
    custom: CustomMetric | None = None
    """What a custom metric computes from `columns`."""
    auto: tuple[str, ...] = ()

    def value_bounds(self) -> tuple[str, float, float]:
        """The column and its clipping bounds.

        Raises:
            ValueError: the metric has none, or they aren't finite with low < high.
        """
        low, high = self.low, self.high
        if self.column is None or low is None or high is None or not -math.inf < low < high < math.inf:
            raise ValueError(f"metric {self.name}: a {self.kind} needs a column and finite bounds with low < high")
        return self.column, low, high

    @property
    def released(self) -> tuple[str, ...]:
        """The released columns of this metric; each has `<column>_low` and `<column>_high` beside it."""
        match self.kind:
            case "quantiles":
                return tuple(f"{self.name}_{rank_label(rank)}" for rank in self.ranks)
            case "histogram":
                return tuple(f"{self.name}_{i}" for i in range(len(self.edges) - 1))
            case "vector_sum":
                return tuple(f"{self.name}_{i}" for i in range(len(self.columns)))
            case "custom" if self.custom is not None and self.custom.outputs:
                return tuple(f"{self.name}_{output}" for output in self.custom.outputs)
            case "top_k":
                return tuple(f"{self.name}_{i}_count" for i in range(1, self.k + 1))
        return (self.name,)

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of text that say what each released column counts; none but for a top_k."""
        return tuple(f"{self.name}_{i}" for i in range(1, self.k + 1)) if self.kind == "top_k" else ()


def rank_label(rank: float) -> str:
    """0.5 → p50, 0.999 → p99_9."""
    return "p" + f"{rank * 100:.10g}".replace(".", "_")


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

    @property
    def definition(self) -> Quantity:
        """What it is, whoever asked for it: two quantities of one definition are one."""
        return replace(self, name="", weight=1.0, ranks=())

    @property
    def reach(self) -> float:
        """The largest distance of a clipped value from the centre."""
        return max(abs(self.low - self.centre), abs(self.high - self.centre))

    @property
    def size(self) -> int:
        """Numbers a partition in the accumulators: 1, or the length of a vector."""
        return {
            "bins": len(self.edges) - 1,
            "vector": len(self.columns),
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


def vector_norms(norm: Norm | None, most: float, length: int) -> tuple[float, float]:
    """The largest l1 and l2 norm of a vector of `length` numbers whose `norm` is at most `most`."""
    match norm:
        case "l1":
            return most, most
        case "l2":
            return most * math.sqrt(length), most
        case "linf":
            return most * length, most * math.sqrt(length)
    raise ValueError(f"a vector's norm must be l1, l2 or linf, got {norm!r}")


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


def noisy_by_themselves(found: Sequence[Quantity], strategy: str | None) -> tuple[Quantity, ...]:
    """The quantities that need a mechanism of their own in a stage that selects partitions by `strategy`.

    Thresholding adds noise to the unit count of every partition: where units are to be counted, that noisy count
    serves.
    """
    shared = strategy in THRESHOLDING
    return tuple(quantity for quantity in found if not (shared and quantity.kind == "privacy_id_count"))


def named(metric: Metric, among: Sequence[Quantity]) -> tuple[Quantity, ...]:
    """The quantities of `among` that make this metric, in the order of `parts`.

    Raises:
        KeyError: one is missing.
    """
    known = {quantity.definition: quantity for quantity in among}
    return tuple(known[part.definition] for part in parts(metric))


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
