"""Charts: what is drawn lies where its value is, and noise is told apart from what is more than noise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.reporting.charts import Bar, Chart, Row, chart, is_noise
from dpbeam.reporting.rows import Interval

INF, NAN = math.inf, math.nan


def row(value: float, low: float | None = None, high: float | None = None, label: str = "a") -> Row:
    ends = Interval(value=value, low=value - 1 if low is None else low, high=value + 1 if high is None else high)
    return Row(label=label, shown=str(value), interval="", value=ends)


def drawn(*rows: Row) -> Chart:
    found = chart([(None, rows)])
    assert found is not None
    return found


def bars(*rows: Row) -> list[Bar]:
    return [bar for group in drawn(*rows).groups for bar in group.bars]


def test_bars_and_intervals_lie_where_their_values_are() -> None:
    first, second = bars(row(80, 60, 100), row(40, 30, 50))
    assert (first.start, first.width, first.low, first.high) == (0, 80, 60, 100)
    assert (second.start, second.width, second.low, second.high) == (0, 40, 30, 50)


def test_bars_of_negative_values_end_where_0_is() -> None:
    found = drawn(row(-50, -100, -20), row(80, 60, 100))
    (below, above) = found.groups[0].bars
    assert found.zero == 50
    assert (below.start, below.width) == (25, 25)
    assert (above.start, above.width) == (50, 40)


def test_rows_keep_their_order() -> None:
    assert [bar.label for bar in bars(row(2, label="b"), row(9, label="z"), row(5, label="a"))] == ["b", "z", "a"]


@pytest.mark.parametrize(
    ("low", "high", "noise"), [(-1, 1, True), (0, 2, True), (-2, 0, True), (0.1, 2, False), (NAN, 2, False)]
)
def test_a_value_whose_interval_holds_0_is_noise(low: float, high: float, noise: bool) -> None:
    assert is_noise(Interval(value=1, low=low, high=high)) is noise


def test_noise_is_faint_and_does_not_stretch_the_scale() -> None:
    solid, faint = bars(row(80, 60, 100), row(900, -9000, 9000))
    assert (solid.width, solid.is_faint) == (80, False)
    assert (faint.width, faint.is_faint) == (100, True)
    assert (faint.has_low, faint.has_high) == (False, False)


def test_where_all_is_noise_it_sets_the_scale_itself() -> None:
    found = drawn(row(10, -40, 60))
    assert found.zero == 40
    assert found.has_faint


def test_an_interval_without_an_end_is_drawn_to_the_value_alone() -> None:
    (bar,) = bars(row(50, NAN, INF))
    assert (bar.low, bar.high, bar.has_low, bar.has_high) == (100, 100, False, False)


def test_what_is_not_finite_is_left_out() -> None:
    assert [bar.label for bar in bars(row(NAN), row(INF), row(3, label="b"))] == ["b"]
    assert chart([(None, [row(NAN)])]) is None
    assert chart([]) is None


def test_groups_keep_their_labels_and_empty_ones_are_left_out() -> None:
    found = chart([("Lyon", [row(1)]), ("Oslo", []), ("Kyoto", [row(2)])])
    assert found is not None
    assert [group.label for group in found.groups] == ["Lyon", "Kyoto"]


@pytest.mark.parametrize(
    ("high", "ticks"),
    [
        (100.0, ["0", "25", "50", "75", "100"]),
        (7.0, ["0", "2", "4", "6"]),
        (0.03, ["0", "0.01", "0.02", "0.03"]),
        (4_100_000.0, ["0", "2 M", "4 M"]),
        (3e9, ["0", "1 bn", "2 bn", "3 bn"]),
        (1e15, ["0", "2.5e14", "5e14", "7.5e14", "1e15"]),
    ],
)
def test_the_scale_has_round_numbers(high: float, ticks: list[str]) -> None:
    assert [tick.text for tick in drawn(row(high, high / 2, high)).ticks] == ticks


def test_numbers_at_the_edges_stay_within_the_plot() -> None:
    assert [tick.anchor for tick in drawn(row(100, 50, 100)).ticks] == ["start", "middle", "middle", "middle", "end"]


@given(st.lists(st.tuples(*[st.floats() | st.sampled_from([0.0, 5e-324, 1.7e308, -1.7e308])] * 3), max_size=4))
def test_whatever_is_drawn_lies_within_the_plot(values: list[tuple[float, float, float]]) -> None:
    found = chart([(None, [row(value, low, high) for value, low, high in values])])
    if found is None:
        return
    assert 1 <= len(found.ticks) <= 6
    assert all(0 <= tick.at <= 100 for tick in found.ticks)
    for group in found.groups:
        for bar in group.bars:
            assert all(0 <= place <= 100 for place in (bar.start, bar.width, bar.low, bar.high))
            assert bar.start + bar.width <= 100.001
