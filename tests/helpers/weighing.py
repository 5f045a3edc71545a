"""Small tables and rounds of a selection by weights: what tests of weights start from."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from dpbeam.accounting.requests import Request
from dpbeam.accounting.rounds import mechanism
from dpbeam.engine.rounds import weighing
from dpbeam.engine.rounds.earlier_rounds import EarlierRounds
from dpbeam.engine.rounds.weight_tables import weight_schema
from dpbeam.engine.stage import Round, StageSpec
from dpbeam.mechanisms.events import WeightedThresholding
from dpbeam.queries.bounds import Bounds

SALT = b"0123456789abcdef"


def event(
    strategy="mad", sigma=1.0, delta=1e-6, l0=4, pre_threshold=1, least_bias=1.0, **changes
) -> WeightedThresholding:
    """A round's mechanism at a known noise and δ, with a threshold to match, then `changes`."""
    request = Request(
        stage="s",
        metric="partitions.round1",
        kind="weighted_thresholding",
        weight=1.0,
        l0=l0,
        pre_threshold=pre_threshold,
        strategy=strategy,
        least_bias=least_bias,
    )
    return replace(mechanism(request, sigma, delta), **changes)


def spec(*events: WeightedThresholding, number=1) -> StageSpec:
    """The stage of a selection in these rounds, at one of them: unit `u`, partition `p`."""
    return StageSpec(
        name=f"s.round{number}",
        unit="u",
        keys=("p",),
        key_types=("int64",),
        bounds=Bounds(l0=events[0].l0),
        metrics=(),
        noise={},
        selection=None,
        rounds=events,
        mode=Round(number=number, stage="s"),
    )


def table(sets) -> pa.RecordBatch:
    """Rows of {unit: its partitions}."""
    pairs = [(unit, partition) for unit, partitions in sets.items() for partition in partitions]
    units, partitions = zip(*pairs, strict=True) if pairs else ((), ())
    return pa.record_batch({"u": pa.array(units, pa.int64()), "p": pa.array(partitions, pa.int64())})


def told(biases, kept=()) -> pa.Table:
    """What a round before told: {partition: bias}, and whether it was kept."""
    flags = pa.array([partition in kept for partition in biases], pa.bool_())
    columns = {"p": pa.array(list(biases), pa.int64()), weighing.KEPT: flags}
    return pa.table(columns | {weighing.BIAS: pa.array(list(biases.values()), pa.int64())})


def weigh(sets, made, known=None, shards=1) -> dict[int, tuple[int, int]]:
    """{partition: (units, weight in steps)}."""
    found = weigh_whole(table(sets), made, SALT, known, shards)
    return {p: (u, w) for p, u, w in zip(*(column.to_pylist() for column in found.columns), strict=True)}


def weigh_whole(
    rows: pa.RecordBatch, spec: StageSpec, salt: bytes, known: pa.Table | None = None, shards: int = 1
) -> pa.RecordBatch:
    """A round's weights of rows that fit in memory, by the steps that a job takes; the shards don't matter."""
    before = None if known is None else EarlierRounds(table=known)
    needed = weighing.without_kept(rows.select(weighing.columns_of(spec)), spec, before)
    sampled = weighing.sample([needed], spec, salt, before).batch(spec)
    by_shard: dict[int, list[pa.RecordBatch]] = {}
    for shard, some in weighing.split_by_unit(sampled, spec, shards, salt):
        by_shard.setdefault(shard, []).append(some)
    pairs = [weighing.chosen(batches, spec, salt, before) for batches in by_shard.values()]
    shares = [weighing.shares(each) for each in pairs]
    tables = [weighing.weight_rows(each, share, spec) for each, share in zip(pairs, shares, strict=True)]
    empty = pa.RecordBatch.from_pylist([], schema=weight_schema(spec))
    if spec.weighing.saturation:
        replies = [weighing.returned([empty, *tables], spec)]
        tables += [weighing.sent_on(each, share, replies, spec) for each, share in zip(pairs, shares, strict=True)]
    return weighing.weigh([empty, *tables], spec)
