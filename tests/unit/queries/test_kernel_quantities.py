"""Metrics share the quantities that they have in common, and each quantity states its sensitivity exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from dpbeam.queries.automatic import ClipSearch
from dpbeam.queries.bounds import Bounds, vector_norms
from dpbeam.queries.custom import RowBound
from dpbeam.queries.metrics import TYPES
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.counts import Count, CountOfCounts, UnitCount
from dpbeam.queries.metrics.custom import Custom
from dpbeam.queries.metrics.distinct import DistinctCount
from dpbeam.queries.metrics.histograms import Histogram
from dpbeam.queries.metrics.means import Mean, StdDev, Variance
from dpbeam.queries.metrics.quantiles import Max, Median, Min, Quantiles
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.metrics.top_k import TopK
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.quantities import QUANTITIES, Quantity
from dpbeam.queries.sharing import by_definition, named, quantities, served, with_own_noise
from tests.helpers import kernel_reference as reference

VALUE = {"column": "v", "low": -1.0, "high": 5.0}
SEARCH = ClipSearch(least=1e-6, most=1e12, weight=0.5)
ROWS, ALL_ROWS, NO_ROWS = Bounds(l0=4, linf=3), Bounds(l1=5), Bounds(l0=9)
ROOT = math.sqrt(3)


@dataclass(frozen=True, kw_only=True)
class Pair(reference.GeometricMean):
    """A custom metric of two sums and two outputs."""

    outputs = ("left", "right")

    @property
    def row_bound(self):
        return RowBound(norm="linf", most=3, size=2)


PAIR = Pair(low=1.0, high=2.0)


def quantity(kind, **more):
    (made,) = (found for found in QUANTITIES if found.kind == kind)
    return made(name="q", weight=1.0, **more)


@pytest.mark.parametrize(
    ("bounds", "partitions", "rows", "of_rows", "of_values", "of_partitions"),
    [
        (ROWS, 4, 12, (24.0, 2 * 3 * 7.0), 8, (8.0, 4.0)),
        (ALL_ROWS, 5, 5, (10.0, 35.0), 5, (10.0, math.sqrt(5) * 2)),
        (Bounds(l0=1, linf=1), 1, 1, (2.0, 7.0), 1, (2.0, 2.0)),
    ],
)
def test_bounds_say_what_one_unit_may_move(bounds, partitions, rows, of_rows, of_values, of_partitions):
    assert (bounds.partitions, bounds.rows) == (partitions, rows)
    assert bounds.of_rows(2.0, 7.0) == of_rows
    assert bounds.of_values(2) == of_values
    assert bounds.of_partitions(2.0) == of_partitions


def test_a_bound_on_partitions_alone_bounds_no_rows():
    assert (NO_ROWS.partitions, NO_ROWS.rows) == (9, None)
    assert NO_ROWS.of_values(7) == 63
    with pytest.raises(ValueError, match=r"^rows of a unit must be bounded by linf or l1 for what they add up to$"):
        NO_ROWS.of_rows(1.0, 1.0)


@pytest.mark.parametrize(
    "given", [{}, {"linf": 1}, {"l1": 1, "linf": 1}, {"l0": 1, "l1": 1}, {"l0": 0}, {"l0": 1, "linf": 0}, {"l1": 0}]
)
def test_bounds_that_bound_nothing_are_refused(given):
    with pytest.raises(ValueError, match=r"^bounds must be l0, or l0 and linf, or l1, each at least 1, got Bounds"):
        Bounds(**given)


@pytest.mark.parametrize(
    ("made", "sensitivity"),
    [
        (quantity("count"), (12.0, 6.0)),
        (quantity("bins", edges=(0.0, 1.0, 2.0)), (12.0, 6.0)),
        (quantity("distinct"), (12.0, 6.0)),
        (quantity("privacy_id_count"), (4.0, 2.0)),
        (quantity("total", low=-7.0, high=3.0), (28.0, 14.0)),
        (quantity("sum", low=-1.0, high=5.0), (60.0, 30.0)),
        (quantity("sum", low=-1.0, high=5.0, centre=2.0), (36.0, 18.0)),
        (quantity("sum", low=-10.0, high=-2.0, centre=-6.0), (48.0, 24.0)),
        (quantity("custom", custom=PAIR, norm="linf", max_norm=3.0), (72.0, 18.0 * math.sqrt(2))),
        (quantity("squares", low=-1.0, high=5.0, centre=2.0), (54.0, 27.0)),
        (quantity("tree", low=-1.0, high=5.0), (48.0, 12.0)),
        (quantity("vector", columns=("a", "b", "c"), norm="l1", max_norm=2.0), (24.0, 12.0)),
        (quantity("vector", columns=("a", "b", "c"), norm="l2", max_norm=2.0), (24.0 * ROOT, 12.0)),
        (quantity("vector", columns=("a", "b", "c"), norm="linf", max_norm=2.0), (72.0, 12.0 * ROOT)),
        (quantity("values", max_values=2), (8.0, math.sqrt(8))),
        (quantity("candidates", candidates=("a",), max_values=9), (12.0, math.sqrt(12))),
    ],
)
def test_one_unit_moves_a_quantity_by(made, sensitivity):
    assert made.sensitivity(ROWS) == pytest.approx(sensitivity, rel=1e-15)


def test_what_is_unknown_has_no_sensitivity():
    with pytest.raises(TypeError, match="abstract"):
        Quantity(name="q", weight=1.0)
    with pytest.raises(ValueError, match=r"^a vector's norm must be l1, l2 or linf, got 'l3'$"):
        vector_norms("l3", 1.0, 2)
    with pytest.raises(TypeError, match="abstract"):
        Metric(name="m")


@pytest.mark.parametrize(
    ("made", "size"),
    [
        (quantity("bins", edges=(0.0, 1.0, 2.0)), 2),
        (quantity("vector", columns=("a", "b", "c"), norm="l1", max_norm=1.0), 3),
        (quantity("candidates", candidates=("a", "b"), max_values=1), 2),
        (quantity("custom", custom=reference.GeometricMean(low=1.0, high=2.0), norm="l1", max_norm=1.0), 1),
        (quantity("custom", custom=PAIR, norm="linf", max_norm=3.0), 2),
        (quantity("tree", low=0.0, high=1.0), 1),
    ],
)
def test_a_quantity_has_as_many_numbers_as_it_counts(made, size):
    assert made.size == size


def shape(metric):
    ends = ("low", "high", "centre")
    return [
        (made.name, made.kind, made.weight, *(getattr(made, end, 0.0) for end in ends)) for made in metric.quantities
    ]


@pytest.mark.parametrize(
    ("metric", "made"),
    [
        (Count(name="n", weight=3.0), [("count", "count", 3.0, 0.0, 0.0, 0.0)]),
        (
            CountOfCounts(name="n", column="c", low_total=1.0, high_total=9.0),
            [("count", "total", 1.0, 1.0, 9.0, 0.0)],
        ),
        (UnitCount(name="u"), [("privacy_id_count", "privacy_id_count", 1.0, 0.0, 0.0, 0.0)]),
        (Sum(name="s", **VALUE), [("s", "sum", 1.0, -1.0, 5.0, 0.0)]),
        (
            SumOfTotals(name="s", column="v", low_total=-2.0, high_total=3.0),
            [("s", "total", 1.0, -2.0, 3.0, 0.0)],
        ),
        (
            Mean(name="m", weight=3.0, **VALUE),
            [("m.sum", "sum", 1.5, -1.0, 5.0, 2.0), ("count", "count", 1.5, 0.0, 0.0, 0.0)],
        ),
        *(
            (
                kind(name="m", weight=3.0, **VALUE),
                [
                    ("m.sum", "sum", 1.0, -1.0, 5.0, 2.0),
                    ("m.squares", "squares", 1.0, -1.0, 5.0, 2.0),
                    ("count", "count", 1.0, 0.0, 0.0, 0.0),
                ],
            )
            for kind in (Variance, StdDev)
        ),
        *(
            (kind(name="m", ranks=(0.5,), **VALUE), [("m.tree", "tree", 1.0, -1.0, 5.0, 0.0)])
            for kind in (Quantiles, Median, Min, Max)
        ),
        (Histogram(name="h", column="v", edges=(0.0, 1.0)), [("h", "bins", 1.0, 0.0, 0.0, 0.0)]),
        (
            VectorSum(name="w", columns=("a",), norm="l2", max_norm=1.0),
            [("w", "vector", 1.0, 0.0, 0.0, 0.0)],
        ),
        (DistinctCount(name="d", column="t"), [("d", "distinct", 1.0, 0.0, 0.0, 0.0)]),
        (TopK(name="t", column="t", k=1, max_values=1), [("t", "values", 1.0, 0.0, 0.0, 0.0)]),
        (
            TopK(name="t", column="t", k=1, max_values=1, candidates=("a",)),
            [("t", "candidates", 1.0, 0.0, 0.0, 0.0)],
        ),
    ],
)
def test_a_metric_is_made_of(metric, made):
    assert shape(metric) == made
    assert [made.name for made in named(metric, by_definition(quantities((metric,))))] == [name for name, *_ in made]


def test_what_a_metric_needs_to_know_reaches_its_quantity():
    (vector,) = VectorSum(name="w", columns=("a", "b"), norm="l2", max_norm=2.0).quantities
    assert (vector.columns, vector.norm, vector.max_norm) == (("a", "b"), "l2", 2.0)
    (bins,) = Histogram(name="h", column="v", edges=(0.0, 1.0)).quantities
    assert (bins.columns, bins.edges) == (("v",), (0.0, 1.0))
    (tree,) = Quantiles(name="q", ranks=(0.1, 0.9), searches=(("low", SEARCH),), **VALUE).quantities
    assert (tree.columns, tree.ranks, tree.auto) == (("v",), (0.1, 0.9), ("low",))
    (counted,) = TopK(name="t", column="t", k=2, max_values=3, candidates=("a", "b")).quantities
    assert (counted.columns, counted.max_values, counted.candidates) == (("t",), 3, ("a", "b"))
    (kept,) = TopK(name="t", column="t", k=2, max_values=3, pre_threshold=4).quantities
    assert (kept.columns, kept.max_values, kept.pre_threshold) == (("t",), 3, 4)
    (rows,) = CountOfCounts(name="n", column="c", low_total=1.0, high_total=9.0).quantities
    (distinct,) = DistinctCount(name="d", column="t").quantities
    assert (rows.columns, distinct.columns) == (("c",), ("t",))
    (summed,) = Sum(name="s", searches=(("high", SEARCH),), **VALUE).quantities
    assert (summed.columns, summed.auto) == (("v",), ("high",))
    plain, _ = Mean(name="m", **VALUE).quantities
    automatic, _ = Mean(name="m", searches=(("low", SEARCH),), **VALUE).quantities
    assert (plain.columns, plain.auto, automatic.auto) == (("v",), (), ("low", "centred"))
    made = reference.GeometricMean(low=1.0, high=4.0)
    sums, count = Custom(name="g", columns=("v",), custom=made, weight=4.0).quantities
    assert (sums.kind, sums.norm, sums.max_norm, sums.columns, sums.custom) == (
        "custom",
        "l1",
        math.log(2),
        ("v",),
        made,
    )
    assert (sums.weight, count.weight, count.kind, count.name) == (2.0, 2.0, "count", "count")


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (
            Sum,
            {"column": "v", "low": 1.0, "high": 1.0},
            "metric m: a sum needs a column and finite bounds with low < high",
        ),
        (Mean, {"column": "v", "low": 0.0, "high": math.inf}, "metric m: a mean needs a column and"),
        (Mean, {"column": "v", "low": -math.inf, "high": 0.0}, "metric m: a mean needs a column and"),
        (Mean, {"column": "v", "low": math.nan, "high": 0.0}, "metric m: a mean needs a column and"),
        (SumOfTotals, {"column": "v", "low_total": 1.0, "high_total": 1.0}, "metric m: a sum needs a column and"),
        (
            CountOfCounts,
            {"column": "v", "low_total": 0.0, "high_total": math.inf},
            "metric m: a count needs a column and",
        ),
        *(
            (VectorSum, {"columns": ("a",), **more}, "metric m: a vector_sum needs a norm and a pos")
            for more in (
                {"norm": None, "max_norm": 1.0},
                {"norm": "l1", "max_norm": 0.0},
                {"norm": "l1", "max_norm": math.inf},
            )
        ),
        *(
            (TopK, {"column": "t", **more}, "metric m: a top_k needs k, max_values and pre_thresh")
            for more in (
                {"k": 0, "max_values": 1},
                {"k": 1, "max_values": 0},
                {"k": 1, "max_values": 1, "pre_threshold": 0},
            )
        ),
    ],
)
def test_a_metric_that_could_not_be_bounded_cannot_be_made(kind, given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        kind(name="m", **given)


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind not in (Count, UnitCount)])
def test_a_metric_that_lacks_what_its_type_needs_cannot_be_made(kind):
    with pytest.raises(TypeError, match=r"missing .* required keyword-only argument"):
        kind(name="m")


def test_metrics_share_what_they_have_in_common_at_the_sum_of_their_weights():
    found = quantities(
        (
            Count(name="count", weight=1.0),
            Mean(name="mean", weight=2.0, **VALUE),
            Variance(name="variance", weight=3.0, **VALUE),
            Quantiles(name="a", ranks=(0.9, 0.1), **VALUE),
            Median(name="b", ranks=(0.5,), **VALUE),
        )
    )
    assert [(made.name, made.weight) for made in found] == [
        ("count", 3.0),
        ("mean.sum", 2.0),
        ("variance.squares", 1.0),
        ("a.tree", 2.0),
    ]
    assert found[-1].ranks == (0.1, 0.5, 0.9)


def test_a_quantity_serves_every_metric_that_is_made_from_it_once():
    count, mean, variance = (
        Count(name="count"),
        Mean(name="mean", **VALUE),
        Variance(name="variance", **VALUE),
    )
    found = {
        made.name: [metric.name for metric in served((count, mean, variance))[made.definition]]
        for made in quantities((count, mean, variance))
    }
    assert found == {
        "count": ["count", "mean", "variance"],
        "mean.sum": ["mean", "variance"],
        "variance.squares": ["variance"],
    }


def test_two_quantities_of_one_name_are_refused():
    other = Sum(name="s", column="v", low=0.0, high=1.0)
    with pytest.raises(ValueError, match=r"^two different quantities are called s; rename a metric$"):
        quantities((Sum(name="s", **VALUE), other))


def test_a_threshold_counts_units_too_so_they_need_no_noise_of_their_own():
    found = quantities(reference.COUNTS)
    names = [[made.name for made in with_own_noise(found, shares_count=shares)] for shares in (False, True)]
    assert names == [["count", "privacy_id_count"], ["count"]]


def test_a_quantity_that_is_missing_is_an_error():
    with pytest.raises(KeyError):
        named(Count(name="count"), {})


def test_what_is_released_has_a_name_for_each_number():
    made = reference.GeometricMean(low=1.0, high=2.0)
    for metric, names in (
        (Count(name="n"), ("n",)),
        (Quantiles(name="q", ranks=(0.5, 0.999), **VALUE), ("q_p50", "q_p99_9")),
        (Histogram(name="h", column="v", edges=(0.0, 1.0, 2.0)), ("h_0", "h_1")),
        (VectorSum(name="w", columns=("a", "b"), norm="l1", max_norm=1.0), ("w_0", "w_1")),
        (TopK(name="t", column="t", k=2, max_values=1), ("t_1_count", "t_2_count")),
        (Custom(name="c", columns=("v",), custom=made), ("c",)),
        (Custom(name="c", columns=("v",), custom=PAIR), ("c_left", "c_right")),
    ):
        assert metric.released == names
        assert metric.labels == (("t_1", "t_2") if metric.kind == "top_k" else ())
    tree = quantity("tree", low=0.0, high=1.0)
    assert replace(tree, ranks=(0.5,), name="other").definition == tree.definition
