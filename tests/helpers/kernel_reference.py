"""What the kernels should give: rows in, each partition's metrics out, in plain Python from the definitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.bounding import contributions
from dpbeam.engine.release import results
from dpbeam.engine.release.noises import noises
from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, LaplaceThresholding
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.custom import CustomMetric, RowBound
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.counts import Count, UnitCount
from dpbeam.queries.metrics.distinct import DistinctCount
from dpbeam.queries.metrics.histograms import Histogram
from dpbeam.queries.metrics.means import Mean, StdDev, Variance
from dpbeam.queries.metrics.quantiles import Median, Quantiles
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.metrics.top_k import TopK
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.sharing import quantities

SALT = b"0123456789abcdef"
COUNTS = (Count(name="count"), UnitCount(name="privacy_id_count"))
ALL_METRICS = (
    *COUNTS,
    Sum(name="v_sum", column="v", low=-20.0, high=20.0),
    Mean(name="v_mean", column="v", low=-3.0, high=4.0),
)
VALUE_METRICS = (
    *ALL_METRICS,
    SumOfTotals(name="v_total", column="v", low_total=-9.0, high_total=5.0),
    *(kind(name=f"v_{kind.kind}", column="v", low=-3.0, high=4.0) for kind in (Variance, StdDev)),
    Quantiles(name="v", column="v", low=-20.0, high=20.0, ranks=(0.1, 0.5, 0.9)),
    Median(name="v_median", column="v", low=-20.0, high=20.0, ranks=(0.5,)),
    Histogram(name="bins", column="v", edges=(-8.0, 0.0, 0.5, 16.0)),
    *(VectorSum(name=norm, columns=("v", "w"), norm=norm, max_norm=2.0) for norm in ("l1", "l2", "linf")),
)
"""Every metric, where rows have the columns v and w."""
WORD_METRICS = (
    *COUNTS,
    DistinctCount(name="kinds", column="t"),
    DistinctCount(name="numbers", column="n"),
    TopK(name="top", column="t", k=3, max_values=10**6),
    TopK(name="first", column="t", k=1, max_values=10**6),
    TopK(name="top_n", column="n", k=2, max_values=10**6),
    TopK(name="listed", column="t", k=2, max_values=10**6, candidates=("a", "b", "never")),
)
"""The metrics that look at values as such, where rows have the columns t and n."""


@dataclass(frozen=True, kw_only=True)
class GeometricMean(CustomMetric):
    """exp of the mean logarithm of the values, clipped to [low, high]."""

    version = 1
    needs_count = True
    low: float
    high: float

    @property
    def row_bound(self):
        return RowBound(norm="l1", most=math.log(self.high / self.low) / 2)

    def rows(self, columns):
        return np.log(np.clip(columns[0], self.low, self.high) / math.sqrt(self.low * self.high))

    def release(self, noisy):
        reach = self.row_bound.most
        return [tuple(math.sqrt(self.low * self.high) * np.exp(end) for end in noisy.mean(0, -reach, reach))]

    def by_definition(self, values):
        return math.prod(min(max(value, self.low), self.high) ** (1 / len(values)) for value in values)


def stage(
    *,
    unit: str | None = "u",
    keys: Sequence[str] = ("p",),
    key_types: Sequence[Any] = ("int64",),
    l0: int = 10**6,
    linf: int | None = 10**6,
    l1: int | None = None,
    metrics: tuple[Metric, ...] = ALL_METRICS,
    kind: str = "gaussian",
    scale: float = 1.0,
    threshold: float = 1.0,
) -> StageSpec:
    """A stage whose noise has `scale` times each quantity's sensitivity in one partition for one row; `threshold` is
    that of values in a partition."""
    bounds = Bounds(l0=l0, linf=linf) if l1 is None else Bounds(l1=l1)
    mechanisms: dict[str, Gaussian | Laplace] = {}
    thresholds: dict[str, GaussianThresholding | LaplaceThresholding] = {}
    for quantity in quantities(metrics):
        size, _ = quantity.sensitivity(Bounds(l0=1, linf=1))
        size *= scale
        if quantity.kind == "values":
            common = {"stage": "s", "metric": quantity.name, "threshold": threshold, "delta": 1e-6, "l0": 1}
            thresholds[quantity.name] = (
                GaussianThresholding(sigma=size, l2=1.0, **common)
                if kind == "gaussian"
                else LaplaceThresholding(scale=size, l1=1.0, **common)
            )
        elif kind == "gaussian":
            mechanisms[quantity.name] = Gaussian(stage="s", metric=quantity.name, sigma=size, l2=1.0)
        else:
            mechanisms[quantity.name] = Laplace(stage="s", metric=quantity.name, scale=size, l1=size / scale)
    return StageSpec(
        name="s", unit=unit, keys=tuple(keys), key_types=tuple(key_types), bounds=bounds,
        metrics=metrics, noise=mechanisms, selection=None, thresholds=thresholds,
    )  # fmt: skip


def batches_of(table: pa.Table, cuts: Iterable[int]) -> list[pa.RecordBatch]:
    """The table cut at the given rows, some batches perhaps empty."""
    edges = sorted({0, table.num_rows, *(cut % (table.num_rows + 1) for cut in cuts)})
    found = [table.slice(a, b - a).combine_chunks() for a, b in itertools.pairwise(edges)]
    return [
        pa.RecordBatch.from_arrays(
            [c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in t.columns], schema=t.schema
        )
        for t in [*found, table.slice(0, 0)]
    ]


def accumulators(
    batches: Sequence[pa.RecordBatch],
    spec: StageSpec,
    *,
    shards: int = 1,
    parts: int = 1,
    public: pa.Table | None = None,
    salt: bytes = SALT,
) -> list[pa.RecordBatch]:
    """The engine's data flow without Beam: one merged batch for each part that has any partition."""
    if public is not None:
        batches = [accumulate.filter_public(batch, spec, public) for batch in batches]
    if spec.unit is None:
        partial = [accumulate.accumulate_rows(batch, spec) for batch in batches]
    else:
        inbox: dict[int, list[pa.RecordBatch]] = {}
        for i, batch in enumerate(batches):
            cut = contributions.prebound(batch, spec, salt, (0, i))
            for shard, rows in contributions.split_by_unit(cut, spec, shards, salt):
                inbox.setdefault(shard, []).append(rows)
        partial = [
            accumulate.accumulate(contributions.bound(rows, spec, salt, (shard,)), spec)
            for shard, rows in inbox.items()
        ]
    if public is not None:
        partial.append(accumulate.zeros(public, spec))
    outbox: dict[int, list[pa.RecordBatch]] = {}
    for batch in partial:
        for part, rows in accumulate.split_by_partition(batch, spec, parts):
            outbox.setdefault(part, []).append(rows)
    return [accumulate.merge(rows, spec) for rows in outbox.values()]


def released(merged: Sequence[pa.RecordBatch], spec: StageSpec) -> dict[tuple[Any, ...], dict[str, float]]:
    """Metrics by key; exact only where the test has replaced the noise."""
    found: dict[tuple[Any, ...], dict[str, float]] = {}
    for batch in merged:
        for row in results.metrics(results.noisy_quantities(batch, spec, noises(spec)), spec).to_pylist():
            key = tuple(row.pop(name) for name in spec.keys)
            assert key not in found, "a partition came out twice"
            found[key] = row
    return found


def expected(
    rows: Iterable[dict[str, Any]], spec: StageSpec, public: Iterable[tuple[Any, ...]] | None = None
) -> dict[tuple[Any, ...], dict[str, float]]:
    """The metrics of each partition by brute force, where no bound bites and there is no noise."""
    table: dict[tuple[Any, ...], list[tuple[Any, dict[str, Any]]]] = {key: [] for key in public or ()}
    for i, row in enumerate(rows):
        key = tuple(row[name] for name in spec.keys)
        if public is None or key in table:
            table.setdefault(key, []).append((i if spec.unit is None else row[spec.unit], row))

    def clipped(metric: Metric, members: list[tuple[Any, dict[str, Any]]]) -> Fraction:
        column, low, high = metric.column, metric.low, metric.high
        return sum((Fraction(min(max(row[column], low), high)) for _, row in members), Fraction(0))

    answers = {}
    for key, members in table.items():
        answer: dict[str, float] = {}
        for metric in spec.metrics:
            match metric.kind:
                case "count":
                    answer[metric.name] = float(len(members))
                case "privacy_id_count":
                    answer[metric.name] = float(len({unit for unit, _ in members}))
                case "sum" if isinstance(metric, SumOfTotals):
                    totals: dict[Any, Fraction] = {}
                    for unit, row in members:
                        # One value counts for 1024 times the larger bound at most.
                        value = min(max(Fraction(row[metric.column]), Fraction(-9216)), Fraction(9216))
                        totals[unit] = totals.get(unit, Fraction(0)) + value
                    clipped_totals = (min(max(total, -9), 5) for total in totals.values())
                    answer[metric.name] = float(sum(clipped_totals, Fraction(0)))
                case "sum":
                    answer[metric.name] = float(clipped(metric, members))
                case "mean":
                    low, high = metric.low, metric.high
                    middle = (Fraction(low) + Fraction(high)) / 2
                    answer[metric.name] = float(clipped(metric, members) / len(members) if members else middle)
                case "variance" | "stddev":
                    column, low, high = metric.column, metric.low, metric.high
                    values = [Fraction(min(max(row[column], low), high)) for _, row in members]
                    middle = sum(values, Fraction(0)) / max(1, len(values))
                    spread = float(sum(((value - middle) ** 2 for value in values), Fraction(0)) / max(1, len(values)))
                    spread = spread if members else (high - low) ** 2 / 8
                    answer[metric.name] = spread if metric.kind == "variance" else spread**0.5
                case "quantiles" | "median":
                    column, low, high = metric.column, metric.low, metric.high
                    ranked = sorted(min(max(row[column], low), high) for _, row in members)
                    for name, rank in zip(metric.released, metric.ranks, strict=True):
                        at = max(0, math.ceil(rank * len(ranked) - 1e-6) - 1)
                        answer[name] = float(ranked[at]) if ranked else low + rank * (high - low)
                case "histogram":
                    edges = metric.edges
                    for i, name in enumerate(metric.released):
                        last = i == len(edges) - 2
                        answer[name] = float(
                            sum(
                                edges[i] <= row[metric.column]
                                and (row[metric.column] < edges[i + 1] or (last and row[metric.column] == edges[i + 1]))
                                for _, row in members
                            )
                        )
                case "custom":
                    answer[metric.name] = metric.custom.by_definition([row[metric.columns[0]] for _, row in members])
                case "distinct_count":
                    answer[metric.name] = float(len({row[metric.column] for _, row in members}))
                case "top_k":
                    holders: dict[str, set[Any]] = {text: set() for text in metric.candidates}
                    for unit, row in members:
                        text = str(row[metric.column])
                        if not metric.candidates or text in holders:
                            holders.setdefault(text, set()).add(unit)
                    listed = {text: i for i, text in enumerate(metric.candidates)}
                    ranked = sorted(holders, key=lambda text: (-len(holders[text]), listed.get(text, 0), text.encode()))
                    for i, (label, name) in enumerate(zip(metric.labels, metric.released, strict=True)):
                        answer[label] = ranked[i] if i < len(ranked) else None
                        answer[name] = float(len(holders[ranked[i]])) if i < len(ranked) else None
                case "vector_sum":
                    vectors = [[float(row[column]) for column in metric.columns] for _, row in members]
                    short = [shortened(vector, metric.norm, metric.max_norm) for vector in vectors]
                    for i, name in enumerate(metric.released):
                        answer[name] = math.fsum(vector[i] for vector in short)
        answers[key] = answer
    return answers


def shortened(vector: Sequence[float], norm: str, most: float) -> list[float]:
    """The vector, scaled down to a norm of at most `most`."""
    if norm == "linf":
        return [min(max(number, -most), most) for number in vector]
    largest = max(map(abs, vector)) or 1.0
    unit = [number / largest for number in vector]
    length = math.fsum(map(abs, unit)) if norm == "l1" else math.hypot(*unit)
    return list(vector) if length * largest <= most else [number * most / length for number in unit]


def kept_ids(bounded: contributions.Bounded, column: str = "id") -> set[int]:
    """The row ids that bounding kept, where a column numbers the rows."""
    ids = bounded.values[column].tolist()
    assert len(set(ids)) == len(ids), "a row was kept twice"
    return set(ids)


ID_METRIC = (Sum(name="id_sum", column="id", low=0.0, high=1e6),)


def numbered(units: Sequence[Any], partitions: Sequence[Any]) -> pa.Table:
    """A table of units and partitions whose rows are numbered in `id`."""
    return pa.table(
        {"u": pa.array(units), "p": pa.array(partitions), "id": pa.array(np.arange(len(units), dtype=np.int64))}
    )
