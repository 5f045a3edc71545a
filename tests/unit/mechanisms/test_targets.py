"""What a mechanism is applied to is read from its names in one place, where they are made too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.accounting.utility import SelectionFigure, utility
from dpbeam.mechanisms.events import LaplaceThresholding
from dpbeam.mechanisms.targets import (
    OfHistogram,
    OfPartitions,
    OfQuantity,
    OfRound,
    histogram_stage,
    target,
    target_of,
)
from tests.helpers import weighing

STAGES = st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True)


@given(STAGES, st.integers(1, 10**6))
def test_what_is_named_is_what_is_read(stage: str, number: int) -> None:
    for made in (OfPartitions(stage=stage), OfRound(stage=stage, number=number)):
        assert target(stage, made.metric) == made


@given(STAGES, st.sampled_from(["values", "units"]), st.text(min_size=1))
def test_a_histogram_is_one_whatever_its_column_is_called(stage: str, of, column: str) -> None:
    assert target(histogram_stage(stage, of), column) == OfHistogram(stage=stage, of=of, metric=column)


@given(STAGES, st.text(min_size=1).filter(lambda name: name != "partitions" and not name.startswith("partitions.")))
def test_any_other_name_is_a_quantity_s(stage: str, name: str) -> None:
    assert target(stage, name) == OfQuantity(stage=stage, metric=name)


@pytest.mark.parametrize("name", ["partitions_top", "partitions.round", "partitions.round0", "partitions.round1x"])
def test_a_name_that_only_begins_like_a_selection_s_is_a_quantity_s(name: str) -> None:
    assert target("s", name) == OfQuantity(stage="s", metric=name)


@pytest.mark.parametrize("part", ["sum", "squares", "tree"])
def test_a_part_of_a_metric_is_known_by_its_end_and_a_metric_of_that_name_is_none(part: str) -> None:
    names = [f"a.{part}", f"a.b.{part}", part, f"a{part}", f".{part}", f"a.{part}.x"]
    assert [OfQuantity(stage="s", metric=name).part for name in names] == [part, part, None, None, None, None]


def test_a_mechanism_s_target_is_that_of_its_names() -> None:
    assert target_of(weighing.event()) == OfRound(stage="s", number=1)


@pytest.mark.parametrize(
    ("metric", "values"),
    [("partitions", False), ("partitions.round3", False), ("partitions_top", True), ("top", True)],
)
def test_a_selection_s_figure_says_whether_it_keeps_values(metric: str, values: bool) -> None:
    figure = SelectionFigure(stage="s", kind="mad", pre_threshold=1, units_50=1, units_99=2, metric=metric)
    assert figure.keeps_values == values


def test_a_threshold_on_values_is_a_decision_beside_the_stage_s_own() -> None:
    how = {"scale": 1.0, "l1": 1.0, "threshold": 20.0, "delta": 1e-8, "l0": 1}
    made = [LaplaceThresholding(stage="s", metric=name, **how) for name in ("partitions", "partitions_top")]
    assert [figure.metric for figure in utility(made, {}).selections] == ["partitions", "partitions_top"]
