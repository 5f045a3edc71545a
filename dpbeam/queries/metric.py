"""A released metric, as the engine knows it: what is asked for, and the columns it fills."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dpbeam.queries.automatic import ClipSearch, Side
from dpbeam.queries.bounds import Norm

if TYPE_CHECKING:
    from dpbeam.queries.custom import CustomMetric

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


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One released metric. `name` is its column in the results, or what their names begin with.

    `column`, `low` and `high` (clipping bounds) serve sum, mean, variance, stddev, quantiles, median, min and max; a
    sum may have `low_total` and `high_total` in their place, the bounds of one unit's total in a partition; so has a
    count of rows that are aggregated already, whose `column` says how many rows each stands for. `ranks`
    serve quantiles, median, min and max; `edges` (rising, one more than bins) a histogram; `columns`, `norm` and
    `max_norm` a vector_sum. A top_k shows the `k` most frequent values of `column`, one unit counting for at most
    `max_values` in a partition: of the public `candidates`, or else of all values, above a threshold on their noisy
    counts and never with fewer units than `pre_threshold`.
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
    searches: tuple[tuple[Side, ClipSearch], ...] = ()
    """Of `low` and `high`, those that the run finds, which stand for the farthest that they may become until it has."""
    length: int = 0
    """Of a vector_sum whose columns hold vectors, how many numbers they have in all; 0 where each holds one."""

    @property
    def auto(self) -> tuple[Side, ...]:
        """Which of `low` and `high` the run finds."""
        return tuple(side for side, _ in self.searches)

    @property
    def numbers(self) -> int:
        """How many numbers a vector_sum's vectors have."""
        return self.length or len(self.columns)

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
                return tuple(f"{self.name}_{i}" for i in range(self.numbers))
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
