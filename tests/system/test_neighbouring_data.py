"""Random policies over hostile rows: one unit more moves what gets noise by no more than the plan says.

Policies are loaded as from a file, mechanisms are the plan's, and the numbers are those that selection and noise are
given: by the plan for one worker from files on, and by the kernels in the order of the plan with shuffles.

Where priorities are the product's own, drawn by position, the unit's rows stand in the last file: all others' rows then
draw the same priorities without them, and the change is the unit's alone. Where its rows stand anywhere, in any file
and block, the test attaches to each row its draws in all stages together, the same with the unit and without: that is
the coupling of docs/accounting.md, "All stages together". That the product's own draws have its law is tested in
tests/statistical/test_stages_together.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dpbeam.accounting.mechanism_at import mechanism_at
from dpbeam.accounting.plan import requests_for
from dpbeam.engine.aggregation import accumulate, distinct, frequent, kernels
from dpbeam.engine.aggregation.tree import tree_leaves
from dpbeam.engine.arrays import hashing
from dpbeam.engine.bounding import contributions as kernel
from dpbeam.engine.bounding import unit_rows
from dpbeam.engine.rounds import weighing, weights
from dpbeam.engine.stage import StageSpec, planned
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
)
from dpbeam.phases import bounds
from dpbeam.phases import rounds as selecting
from dpbeam.phases.phase import Parameters
from dpbeam.pipelines.lifecycle import inputs
from dpbeam.queries.automatic import Key
from dpbeam.queries.quantities import Quantity
from dpbeam.queries.query import Query
from dpbeam.queries.source import InputSpec
from dpbeam.reading import formats, rows
from dpbeam.transforms.steps import one_worker, read
from tests.helpers import bounding_bugs as bugs
from tests.helpers import random_policies as made_up
from tests.helpers.queries import load_query
from tests.helpers.weighing import weigh_whole

SALT = b"0123456789abcdef"
SHARDS, PARTS = 3, 2
CLOSE = 1 + Fraction(1, 10**12)
"""Sensitivities are floats: √l0, and bounds of decimals."""
Splits = tuple[formats.Portion, ...]
Blocks = list[pa.RecordBatch]


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """A source without one unit's rows, and with them: its splits, and its typed blocks."""

    source: InputSpec
    splits: tuple[Splits, Splits]
    blocks: tuple[Blocks, Blocks]

    @property
    def schema(self) -> pa.Schema:
        return rows.output_schema(self.source)


# Fresh policies in each run; a seed can't be shrunk.
@settings(max_examples=60, phases=(Phase.reuse, Phase.generate), suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_a_unit_moves_what_gets_noise_by_what_the_plan_says(tmp_path_factory, seed) -> None:
    examine(seed, tmp_path_factory.mktemp("neighbours"))


@settings(max_examples=500, phases=(Phase.reuse, Phase.generate), suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_a_unit_anywhere_moves_all_stages_together_by_what_the_plan_says(tmp_path_factory, seed) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_priorities", attached)
        examine(seed, tmp_path_factory.mktemp("neighbours"), anywhere=True)


@settings(max_examples=200, phases=(Phase.reuse, Phase.generate), suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_so_it_does_where_every_block_is_cut_before_it_is_sent_on(tmp_path_factory, seed) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cut_everywhere(patch, drawn_by_content)
        examine(seed, tmp_path_factory.mktemp("neighbours"), anywhere=True)


def test_draws_by_position_where_blocks_are_cut_move_it_further(tmp_path_factory, monkeypatch) -> None:
    def by_position(batch: pa.RecordBatch, _: np.random.Generator) -> Any:
        rng = hashing.generator(SALT, "bound", (0,))
        return rng.integers(0, 2**64, batch.num_rows, dtype=np.uint64)

    cut_everywhere(monkeypatch, by_position)

    def search() -> None:
        for seed in range(200):
            examine(seed, tmp_path_factory.mktemp("bug"), anywhere=True)

    with pytest.raises(AssertionError, match="moved"):
        search()


def cut_everywhere(patch: pytest.MonkeyPatch, draws: Callable[[pa.RecordBatch, np.random.Generator], Any]) -> None:
    """Has every block taken for one with a crowded unit. Rows keep all their columns, so that draws by a row's content
    are the same wherever they are made."""
    patch.setattr(kernel, "_crowded_rows", lambda rows, *_: np.arange(rows.num_rows) if rows.num_rows else None)
    patch.setattr(kernel, "_project", lambda batch, _: batch)

    def fresh_or_carried(batch: pa.RecordBatch, rng: np.random.Generator) -> Any:
        return batch[kernel.PRIORITY].to_numpy() if kernel.PRIORITY in batch.schema.names else draws(batch, rng)

    patch.setattr(kernel, "_draws", fresh_or_carried)


def drawn_by_content(batch: pa.RecordBatch, _: np.random.Generator) -> Any:
    """Equal rows have equal draws: which of them is kept doesn't matter."""
    rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return np.array([hashing.derive(SALT, repr(row), 0) & 0xFFFFFFFFFFFFFFFF for row in rows], dtype=np.uint64)


def test_priorities_by_position_that_stages_share_move_it_further(tmp_path_factory, monkeypatch) -> None:
    def by_position(batches: Sequence[pa.RecordBatch], _: StageSpec, salt: bytes, seeds: Sequence[int]) -> Any:
        rng = hashing.generator(salt, "bound", seeds)
        return np.concatenate([rng.integers(0, 2**64, batch.num_rows, dtype=np.uint64) for batch in batches])

    monkeypatch.setattr(kernel, "_priorities", by_position)

    def search() -> None:
        for seed in range(200):
            examine(seed, tmp_path_factory.mktemp("bug"), anywhere=True)

    with pytest.raises(AssertionError, match="moved"):
        search()


def attached(batches: Sequence[pa.RecordBatch], spec: StageSpec, salt: bytes, _: Sequence[int]) -> Any:
    """Priorities that are a function of the stage, the row, and how many like it came before: equal rows are alike to
    whatever is computed, so that which of them has which doesn't matter."""
    seen: Counter[str] = Counter()
    drawn: list[int] = []
    for batch in batches:
        for row in zip(*(batch.column(name).to_pylist() for name in kernel.input_columns(spec)), strict=True):
            drawn.append(hashing.derive(salt, f"{spec.stream} {row!r}", seen[repr(row)]) & 0xFFFFFFFFFFFFFFFF)
            seen[repr(row)] += 1
    return np.array(drawn, dtype=np.uint64)


@pytest.mark.parametrize("bug", bugs.ALL, ids=lambda bug: bug.__name__)
def test_a_seeded_bug_moves_it_further(tmp_path_factory, monkeypatch, bug) -> None:
    bug(monkeypatch)

    def search() -> None:
        for seed in range(200):
            examine(seed, tmp_path_factory.mktemp("bug"))

    with pytest.raises(AssertionError, match="moved"):
        search()


def examine(seed: int, folder: Path, *, anywhere: bool = False) -> None:
    """Makes a policy (of two to four stages, where the unit's rows are anywhere) and two neighbouring tables, and
    compares what all of the policy's mechanisms get to see."""
    rng = Random(seed)
    stated = made_up.policy(rng, stages=(2, 3, 4)) if anywhere else made_up.policy(rng)
    (folder / "policy.yaml").write_text(yaml.safe_dump(stated, allow_unicode=True), encoding="utf-8")
    policy = load_query(folder / "policy.yaml")
    own = made_up.some_rows(rng, ("me",), 30)
    own = own[:1] if policy.unit is None else own
    others = made_up.some_rows(rng, ("x", "y", "z"), 40)
    tables = scattered(others, own, rng) if anywhere else ([others], [others, own])
    found = neighbours(policy.source, folder, *tables)
    public = {s.name: t for s in policy.stages if (t := s.public) is not None}
    if policy.automatic:
        made: Any = SimpleNamespace(mechanisms=mechanisms_of(policy))
        compare(bounds.stages(Parameters(query=policy, plan=made, stages=(), public=public)), found, public)
        policy = policy.with_chosen(chosen(policy, rng))
    specs = planned(policy, mechanisms_of(policy))
    compare(tuple(spec for spec in specs if not spec.rounds and not spec.hierarchical), found, public)
    for spec in specs:
        if spec.rounds or spec.hierarchical:
            compare_selected(spec, found, rng)


Rows = list[dict[str, Any]]
Files = list[Rows]


def scattered(others: Rows, own: Rows, rng: Random) -> tuple[Files, Files]:
    """Files without a unit's rows, and with them at any places, cut at other places."""
    both = list(others)
    for row in own:
        both.insert(rng.choice((0, len(both), rng.randint(0, len(both)))), row)
    return cut_up(others, rng), cut_up(both, rng)


def cut_up(table: Rows, rng: Random) -> Files:
    ends = sorted(rng.randint(0, len(table)) for _ in range(rng.randint(0, 3)))
    return [table[start:end] for start, end in zip([0, *ends], [*ends, len(table)], strict=True)]


def neighbours(source: InputSpec, folder: Path, without: Files, having: Files) -> Neighbours:
    """The files of two neighbouring tables, read."""
    splits, blocks = [], []
    for world, files in (("without", without), ("having", having)):
        (folder / world).mkdir()
        for number, table in enumerate(files):
            written = pa.Table.from_pylist(table, schema=made_up.SCHEMA)
            pq.write_table(written, folder / world / f"{number}.parquet", row_group_size=11)
        # Each row group by itself: small files would be read as one, and others' last block end in the unit's rows.
        found = inputs.resolve(replace(source, paths=(str(folder / world),))).splits
        splits.append(tuple((split,) for portion in found for split in portion))
        blocks.append(
            [rows.prepare(raw, source) for split in splits[-1] for raw in read.raw_blocks(split, source, batch_rows=7)]
        )
    return Neighbours(source=source, splits=(splits[0], splits[1]), blocks=(blocks[0], blocks[1]))


def mechanisms_of(policy: Query) -> tuple[Mechanism, ...]:
    """The plan's mechanisms at some noise: their sensitivities don't follow from it, and solving for it takes time.

    So little that two units' weights saturate a partition.
    """
    return tuple(mechanism_at(request, 0.02, 1e-6 if request.is_selection else 0.0) for request in requests_for(policy))


def chosen(policy: Query, rng: Random) -> dict[Key, float]:
    """Bounds that a run might find."""
    found: dict[Key, float] = {}
    stages = {stage.name: stage for stage in policy.stages}
    for stage, metric, parameter in policy.automatic:
        if metric is None:
            found[stage, metric, parameter] = rng.randint(1, getattr(stages[stage].bounds, parameter))
            continue
        (asked,) = (choice for choice in stages[stage].metrics if choice.name == metric)
        other = "high" if parameter == "low" else "low"
        stated = None if other in asked.auto else getattr(asked, other)
        if parameter == "low":
            found[stage, metric, parameter] = -0.5 if stated is None or stated > -0.5 else 2.0 * stated
        else:
            found[stage, metric, parameter] = 0.5 if stated is None or stated < 0.5 else 2.0 * stated
    return found


def compare(specs: tuple[StageSpec, ...], found: Neighbours, public: dict[str, pa.Table]) -> None:
    """Both data flows, with and without the unit."""
    if not specs:
        return
    before, after = (in_one_worker(splits, found.source, specs, public) for splits in found.splits)
    for spec in specs:
        check(before[spec.name], after[spec.name], spec)
        check(*(by_shuffles(blocks, spec, public.get(spec.name)) for blocks in found.blocks), spec)


def compare_selected(spec: StageSpec, found: Neighbours, rng: Random) -> None:
    """The phases that select partitions, then the main job over some that might have been kept."""
    if spec.rounds:
        for number in range(1, len(spec.rounds) + 1):
            made = selecting._round(spec, number)
            weighed = [weigh_whole(joined(blocks, found.schema), made, SALT) for blocks in found.blocks]
            check_weights(*weighed, made)
    else:
        compare((selecting._round(spec, 1),), found, {})
    if spec.hierarchical:  # their cells have tests of their own
        return
    keys = list(spec.keys)
    kept = pa.Table.from_batches(found.blocks[0], schema=found.schema).group_by(keys).aggregate([])
    kept = kept.sort_by([(key, "ascending") for key in keys]).slice(0, rng.randint(0, kept.num_rows))
    check(*(by_shuffles(blocks, spec, kept) for blocks in found.blocks), spec)


def in_one_worker(
    splits: Splits, source: InputSpec, specs: tuple[StageSpec, ...], public: dict[str, pa.Table]
) -> dict[str, pa.RecordBatch]:
    """Each stage's merged accumulators, by the plan for one worker, in several passes."""
    plan = one_worker.OneWorker(shards=SHARDS, room_bytes=1 << 9, threads=1)
    merged: dict[str, list[pa.RecordBatch]] = defaultdict(list)
    for output in one_worker._Aggregate(plan, source, splits, specs, public, PARTS, SALT).work(None):
        if output.tag.startswith("stage."):
            merged[output.tag.removeprefix("stage.")].append(output.value[1])
    return {spec.name: joined(merged[spec.name], accumulate.accumulators_schema(spec)) for spec in specs}


def by_shuffles(blocks: Blocks, spec: StageSpec, public: pa.Table | None) -> pa.RecordBatch:
    """The same by the kernels in the order in which the plan with shuffles has them."""
    own = blocks if public is None else [accumulate.filter_public(block, spec.of_input, public) for block in blocks]
    shards: dict[int, Blocks] = defaultdict(list)
    for number, block in enumerate(own if spec.unit is not None else ()):
        cut = kernel.prebound(block, spec.of_input, SALT, (0, number))
        for shard, part in kernel.split_by_unit(cut, spec.of_input, SHARDS, SALT):
            shards[shard].append(part)
    # Batches in the order of their blocks: in that of their tags, the unit's rows might come before others'.
    partial = [
        accumulate.accumulate(unit_rows.bound(found, spec, SALT, (shard,)), spec) for shard, found in shards.items()
    ]
    partial += [accumulate.accumulate_rows(block, spec) for block in (own if spec.unit is None else ())]
    partial += [accumulate.zeros(public, spec)] if public is not None else []
    partial += [accumulate.whole(spec)] if not spec.keys else []
    routed: dict[int, Blocks] = defaultdict(list)
    for batch in partial:
        for part, found in accumulate.split_by_partition(batch, spec, PARTS):
            routed[part].append(found)
    merged = [accumulate.merge(found, spec) for found in routed.values()]
    return joined(merged, accumulate.accumulators_schema(spec))


def joined(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    arrays = pa.Table.from_batches(batches, schema=schema).combine_chunks().columns
    flat = [array.chunk(0) if array.num_chunks else pa.array([], array.type) for array in arrays]
    return pa.RecordBatch.from_arrays(flat, schema=schema)


def check(before: pa.RecordBatch, after: pa.RecordBatch, spec: StageSpec) -> None:
    for quantity in spec.quantities:
        shared = quantity.kind == "privacy_id_count" and spec.shares_count
        mechanism = spec.selection if shared else spec.noise.get(quantity.name) or spec.thresholds[quantity.name]
        assert_within(mechanism, moved(*(numbers(batch, spec, quantity) for batch in (before, after))))
    if spec.selection is not None:
        assert_within(spec.selection, moved(*(units(batch, spec) for batch in (before, after))))


def check_weights(before: pa.RecordBatch, after: pa.RecordBatch, spec: StageSpec) -> None:
    step = Fraction(1, 1 << weights.WEIGHT_BITS)
    found = (
        {
            key: weight * step
            for key, weight in zip(keys_of(batch, spec), batch[weighing.WEIGHT].to_pylist(), strict=True)
        }
        for batch in (before, after)
    )
    assert sum(change**2 for change in moved(*found)) <= 1, f"{spec.name} moved"


def assert_within(mechanism: Any, changes: list[Fraction]) -> None:
    where = f"{mechanism.stage}, {mechanism.metric} moved"
    if isinstance(mechanism, Laplace | LaplaceThresholding):
        assert sum(map(abs, changes)) <= Fraction(mechanism.l1) * CLOSE, where
    if isinstance(mechanism, Gaussian | GaussianThresholding):
        assert sum(change**2 for change in changes) <= Fraction(mechanism.l2) ** 2 * CLOSE, where
    if isinstance(mechanism, LaplaceThresholding | GaussianThresholding | TruncatedGeometric):
        assert len(changes) <= mechanism.l0, where
        assert all(abs(change) <= 1 for change in changes), where


def moved(before: dict[Any, Fraction], after: dict[Any, Fraction]) -> list[Fraction]:
    changes = (after.get(key, Fraction(0)) - before.get(key, Fraction(0)) for key in {*before, *after})
    return [change for change in changes if change]


def keys_of(batch: pa.RecordBatch, spec: StageSpec) -> list[tuple[Any, ...]]:
    return list(zip(*(batch[name].to_pylist() for name in spec.keys), strict=True)) or [()] * batch.num_rows


def units(batch: pa.RecordBatch, spec: StageSpec) -> dict[Any, Fraction]:
    return dict(zip(keys_of(batch, spec), map(Fraction, batch[accumulate.USERS].to_pylist()), strict=True))


def numbers(batch: pa.RecordBatch, spec: StageSpec, quantity: Quantity) -> dict[Any, Fraction]:
    """What a quantity's noise is added to, by partition and place in it: of a tree, the rows of every node."""
    keys, column = keys_of(batch, spec), batch[accumulate.quantity_column(spec, quantity)]
    found: dict[Any, Fraction] = defaultdict(Fraction)
    if quantity.kind == "tree":
        for partition, leaf, count in zip(*(part.tolist() for part in tree_leaves(column)), strict=True):
            for level in range(1, 5):
                found[keys[partition], level, leaf >> (4 * (4 - level))] += count
        return found
    if quantity.kind == "distinct":
        return {key: Fraction(size) for key, size in zip(keys, distinct.lengths(column).tolist(), strict=True)}
    if quantity.kind == "values":
        listed = zip(keys, column.to_pylist(), strict=True)
        return {(key, one[frequent.VALUE]): Fraction(one[frequent.UNITS]) for key, counts in listed for one in counts}
    whole = quantity.kind in ("count", "privacy_id_count", "bins", "candidates")
    step = Fraction(1) if whole else Fraction(kernels.grid_of(quantity).step)
    table = zip(keys, kernels.vectors(quantity, column).tolist(), strict=True)
    return {(key, place): number * step for key, row in table for place, number in enumerate(row)}
