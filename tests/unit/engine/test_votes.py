"""A unit's vote on what became of its rows: what it says, and how far one unit moves the sum of all votes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.aggregation.kernels import grid_of, vectors
from dpbeam.engine.bounding import contributions, votes
from dpbeam.engine.stage import Flat, StageSpec, Votes
from dpbeam.mechanisms.events import Laplace
from dpbeam.queries import coverage
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.source import Column, Condition, InputSpec
from dpbeam.reading import tallies

SALT = b"0123456789abcdef"
FEW = Bounds(l0=1, linf=2)
SOURCE = InputSpec(
    format="parquet",
    paths=("x",),
    columns=(
        Column(name="who", type="int64"),
        Column(name="city", type="string"),
        Column(name="spend", type="float64"),
    ),
    where=(Condition(column="spend", op=">=", value=0.0),),
)


def spec(bounds: Bounds = FEW, unit: str | None = "who") -> StageSpec:
    noise = Laplace(stage="s.coverage", metric="rows", scale=2.0, l1=1.0)
    return StageSpec(
        name="s.coverage",
        unit=unit,
        keys=(),
        key_types=(),
        bounds=Bounds(l0=1, linf=1),
        metrics=(coverage.votes(),),
        noise={"rows": noise},
        selection=None,
        mode=Votes(stage="s", keys=("city",), key_types=("string",), bounds=bounds),
    )


def read(rows: list[tuple[str | None, str | None, float | None]]) -> pa.RecordBatch:
    """Raw rows, whose ids are text that may be no number."""
    names = ("who", "city", "spend")
    types = (pa.string(), pa.string(), pa.float64())
    return pa.RecordBatch.from_arrays(
        [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(types)], names=list(names)
    )


def summed(blocks: list[list[tuple[str | None, str | None, float | None]]], bounds: Bounds = FEW):
    """The exact sum of all votes, in steps of the grid and as numbers."""
    stage = spec(bounds)
    batches = [part for block in blocks for part in tallies.prepare_counted(read(block), SOURCE, "who")]
    added = accumulate.accumulate(votes.bound(batches, stage, SALT, (0,)), stage)
    (quantity,) = stage.quantities
    steps = vectors(quantity, added.column("__q_0")).sum(axis=0) if added.num_rows else np.zeros(3, dtype=np.int64)
    return steps, steps * grid_of(quantity).step


def test_a_unit_spreads_one_vote_over_what_became_of_its_rows() -> None:
    rows = [("1", "a", 1.0)] * 4 + [("1", "b", float("nan")), ("1", "b", -1.0), ("1", None, 1.0), ("1", "a", None)]
    _, numbers = summed([rows])
    assert numbers == pytest.approx([4 / 8, 2 / 8, 2 / 8], abs=1e-6)


def test_a_unit_all_of_whose_rows_are_dropped_has_a_vote_as_well() -> None:
    _, numbers = summed([[("1", None, 1.0)] * 3 + [("2", "a", 1.0)]])
    assert numbers == pytest.approx([1, 0, 1], abs=1e-6)


def test_rows_without_a_unit_that_can_be_read_are_in_no_vote() -> None:
    with_them, _ = summed([[("1", "a", 1.0), (None, "a", 1.0), ("x", "a", 1.0), (None, None, None)]])
    assert with_them.tolist() == summed([[("1", "a", 1.0)]])[0].tolist()


def test_a_million_rows_weigh_no_more_than_one() -> None:
    batch = read([("1", "a", 1.0)]).take(pa.array(np.zeros(1_000_000, dtype=np.int64)))
    rows, counted = tallies.prepare_counted(batch, SOURCE, "who")
    bounded = votes.bound([rows, counted], spec(), SALT, (0,))
    assert bounded.values[coverage.VOTES].tolist() == [[0.0, 1 - 2e-6, 2e-6]]


def test_what_a_unit_has_in_several_blocks_is_one_vote() -> None:
    block = [("1", "a", 1.0), ("1", None, 1.0), ("2", "a", 1.0)]
    assert summed([block, block])[0].tolist() == summed([block + block])[0].tolist()


def test_rows_that_are_units_vote_each_for_what_became_of_it() -> None:
    rows, counted = tallies.prepare_counted(read([("1", "a", 1.0), ("1", None, 1.0), ("x", "a", 1.0)]), SOURCE, None)
    assert (rows.num_rows, counted.num_rows) == (1, 1)
    bounded = votes.of_rows(0, counted)
    assert bounded.values[coverage.VOTES].tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]


def test_tallies_and_rows_come_apart_as_they_were_joined() -> None:
    parts = tallies.prepare_counted(read([("1", "a", 1.0), ("2", None, 1.0)]), SOURCE, "who")
    again = tallies.apart(tallies.joined(*parts), "who")
    assert [part.to_pylist() for part in again] == [part.to_pylist() for part in parts]


def test_votes_without_a_tally_are_refused() -> None:
    rows, _ = tallies.prepare_counted(read([("1", "a", 1.0)]), SOURCE, "who")
    with pytest.raises(ValueError, match="a unit must have a tally of its rows"):
        votes.bound([rows], spec(), SALT, (0,))


row = st.tuples(
    st.sampled_from(["1", "2", "3", "x", None]),
    st.sampled_from(["a", "b", "c", None]),
    st.sampled_from([0.0, -1.0, float("nan"), float("inf"), None]),
)
limits = st.sampled_from([Bounds(l0=1, linf=1), Bounds(l0=2, linf=3), Bounds(l1=2), Bounds(l0=3, linf=100)])


@settings(max_examples=300, deadline=None)
@given(
    others=st.lists(st.lists(row, max_size=12), min_size=1, max_size=3),
    own=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), row), max_size=40),
    bounds=limits,
)
def test_one_unit_more_moves_all_votes_by_an_l1_of_at_most_1(others, own, bounds) -> None:
    # The unit "9" has rows anywhere among those of others, of any kind.
    without = [list(block) for block in others]
    with_it = [list(block) for block in others]
    for block, place, (_, city, spend) in own:
        with_it[block % len(with_it)].insert(place, ("9", city, spend))
    (before, _), (after, numbers) = summed(without, bounds), summed(with_it, bounds)
    (quantity,) = spec().quantities
    assert np.abs(after - before).sum() * grid_of(quantity).step <= 1
    assert (numbers >= 0).all()


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), bounds=limits, unit=st.integers(0, 10**6))
def test_a_unit_votes_for_as_many_rows_kept_as_its_stage_keeps(sizes, bounds, unit) -> None:
    # Partitions of different sizes: which of them the stage keeps decides how many rows are.
    rows = read([(str(unit), f"p{i}", 1.0) for i, size in enumerate(sizes) for _ in range(size)])
    prepared, counted = tallies.prepare_counted(rows, SOURCE, "who")
    own = replace(
        spec(bounds), name="s", mode=Flat(), keys=("city",), key_types=("string",), bounds=bounds, metrics=(), noise={}
    )
    kept = len(contributions.bound([prepared], own, SALT, (0,)).rows)
    (vote,) = votes.bound([prepared, counted], spec(bounds), SALT, (0,)).values[coverage.VOTES].tolist()
    assert vote[coverage.KEPT] == pytest.approx(kept / sum(sizes))
