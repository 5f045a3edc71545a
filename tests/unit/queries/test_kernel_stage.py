"""What a stage says of the input's rows, of its keys and of the columns that it reads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpbeam.engine.stage import LEVEL, Flat, Hierarchical, Round, UnitRows
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.top_k import TopK
from tests.helpers import kernel_reference as reference
from tests.helpers import weighing

FLAT = reference.stage(keys=("a", LEVEL), key_types=("string", "int64"), l0=7)
LEAVES = reference.stage(keys=("a", "b"), key_types=("string", "date"), l0=7)
HIERARCHICAL = replace(LEAVES, mode=Hierarchical())
CELLS = replace(HIERARCHICAL, keys=("a", "b", LEVEL), key_types=("string", "date", "int64"))
"""The same once its leaves are selected."""


def test_the_level_is_no_key_of_the_data_but_where_a_column_of_it_is_called_so() -> None:
    assert [spec.leaf_keys for spec in (FLAT, HIERARCHICAL, CELLS)] == [("a", LEVEL), ("a", "b"), ("a", "b")]


def test_what_is_released_has_the_level_of_hierarchical_keys_once() -> None:
    expected = [("a", LEVEL), ("a", "b"), ("a", "b", LEVEL), ("a", "b", LEVEL)]
    assert [spec.result_keys for spec in (FLAT, LEAVES, HIERARCHICAL, CELLS)] == expected


def test_rows_are_bounded_by_the_leaves_of_their_keys() -> None:
    assert FLAT.of_input is FLAT
    assert HIERARCHICAL.of_input is HIERARCHICAL
    assert CELLS.of_input == HIERARCHICAL


def test_rows_of_a_stage_of_one_row_a_unit_are_bounded_for_what_the_unit_contributes_to() -> None:
    units = UnitRows(stage="by_b", keys=("b",), key_types=("date",), bounds=Bounds(l0=3, linf=2))
    metrics = (*reference.COUNTS, TopK(name="top", column="t", k=1, max_values=1))
    own = reference.stage(keys=(), key_types=(), metrics=metrics)
    assert own.thresholds
    whole = replace(own, name="by_b.units", mode=units, unit="person")
    inner = whole.of_input
    assert (inner.name, inner.keys, inner.key_types, inner.bounds) == ("by_b", ("b",), ("date",), units.bounds)
    assert (inner.unit, inner.metrics, inner.noise, inner.thresholds) == ("person", (), {}, {})
    assert inner.of_input is inner


def test_only_a_round_has_a_weighing() -> None:
    with pytest.raises(ValueError, match=r"^stage s is not a round of a selection by weights$"):
        _ = FLAT.weighing


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_round_that_the_stage_has_not_got_can_not_be_made(number) -> None:
    rounds = (weighing.event(), weighing.event()) if number != 1 else ()
    with pytest.raises(ValueError, match=rf"^stage s has {len(rounds)} rounds, so it can't be round {number}$"):
        replace(FLAT, rounds=rounds, mode=Round(number=number, stage="s"))


def test_a_round_knows_the_one_after_it() -> None:
    first, second = weighing.event(sigma=3.0), weighing.event(sigma=1.0)
    made = [weighing.spec(first, second, number=number) for number in (1, 2)]
    assert [(spec.weighing, spec.next_weighing) for spec in made] == [(first, second), (second, None)]
    assert replace(made[0], mode=Flat()).next_weighing is None


def test_only_hierarchical_keys_have_others() -> None:
    assert replace(LEAVES, mode=Hierarchical(other_l0=3)).other_leaves == 3
    with pytest.raises(ValueError, match=r"^stage s has no hierarchical keys, so no other$"):
        _ = LEAVES.other_leaves
