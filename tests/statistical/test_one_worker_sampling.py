"""One worker, in any number of passes, keeps uniform subsets too; with bounds that don't bite it gives the reference.

12,000 units have 6 rows each; partitions and sums are made so that the accumulators tell which two of them each
unit kept. Chi-square against the uniform law fails by chance with probability 1e-9, and rejects each seeded bug.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy import stats

from dpbeam.engine.arrays import hashing
from dpbeam.engine.bounding.shard_buffer import ShardBuffer
from dpbeam.queries.metrics.sums import Sum
from dpbeam.queries.source import Column, InputSpec
from dpbeam.reading import formats
from dpbeam.transforms.steps import one_worker
from dpbeam.transforms.wire.control import SENT, agree
from tests.helpers import kernel_reference as reference

UNITS, EACH, KEEP, ALPHA = 12_000, 6, 2, 1e-9
SUBSETS = list(itertools.combinations(range(EACH), KEEP))
SUMMED = (Sum(name="v_sum", column="v", low=0.0, high=32.0),)
PRIVATE = {"unit": "u", "keys": ("p",), "metrics": SUMMED}


def write(path: Path, *, one_partition: bool, text: bool = False) -> Path:
    """Unit i has rows 6i to 6i + 5, all in partition i or each in its own; row j of a unit has the value 2**j."""
    ids = np.random.default_rng(0).permutation(UNITS * EACH)
    units = pa.array(ids // EACH)
    table = pa.table(
        {
            "u": units.cast(pa.string()) if text else units,
            "p": ids // EACH if one_partition else ids,
            "v": 2.0 ** (ids % EACH),
        }
    )
    pq.write_table(table, path, row_group_size=8_000)
    return path


def aggregate(path: Path, *stages, text=False, room_bytes=1 << 30, shards=16, public=None, parts=3, columns="upv"):
    """The step's outputs: for each stage the rows of all parts, and the reports."""
    types = {"u": "string" if text else "int64", "p": "int64", "v": "float64"}
    source = InputSpec(
        format="parquet", paths=(str(path),), columns=tuple(Column(name=c, type=types[c]) for c in columns)
    )
    splits = tuple((formats.Split(str(path), i),) for i in range(pq.ParquetFile(path).num_row_groups))
    plan = one_worker.OneWorker(shards=shards, room_bytes=room_bytes, threads=3)
    salt = secrets.token_bytes(16)
    step = one_worker._Aggregate(plan, source, splits, stages, public or {}, parts, salt)
    found, reports = {stage.name: [] for stage in stages}, []
    for output in step.process(None):
        if output.tag == one_worker.REPORTS:
            reports.append(output.value)
        else:
            part, rows = output.value
            assert part == len(found[output.tag.removeprefix("stage.")])
            found[output.tag.removeprefix("stage.")].append(rows)
    transform = one_worker.AggregateInOneWorker(plan, source, splits, stages, public or {}, parts, salt)
    return {name: pa.Table.from_batches(batches) for name, batches in found.items()}, (transform.shuffle, reports)


def subsets(table: pa.Table, *, one_partition: bool):
    """Which two places each unit kept; None if a unit kept more or fewer."""
    if one_partition:
        steps = pc.divide(table["__q_0"], pa.scalar(2**25)).to_numpy()  # a value of 32 is 2**30 steps
        kept = [tuple(j for j in range(EACH) if int(step) >> j & 1) for step in steps]
    else:
        ids = np.sort(table["p"].to_numpy())
        kept = [tuple(int(i) % EACH for i in run) for run in np.split(ids, np.flatnonzero(np.diff(ids // EACH)) + 1)]
    return kept if len(kept) == UNITS and all(len(each) == KEEP for each in kept) else None


def is_uniform(found) -> bool:
    counts = Counter(found)
    return stats.chisquare([counts[subset] for subset in SUBSETS]).pvalue > ALPHA


@pytest.fixture(params=[1 << 30, 240_000], ids=["one pass", "several passes"])
def room_bytes(request, monkeypatch) -> int:
    monkeypatch.setattr(one_worker, "BLOCK_ROWS", 3_000)
    return request.param


@pytest.mark.parametrize("one_partition", [True, False])
@pytest.mark.parametrize("text", [False, True])
def test_what_is_kept_is_uniform(tmp_path, room_bytes, one_partition, text):
    path = write(tmp_path / "rows.parquet", one_partition=one_partition, text=text)
    l0, linf = (1, KEEP) if one_partition else (KEEP, 1)
    found, reports = aggregate(path, reference.stage(l0=l0, linf=linf, **PRIVATE), text=text, room_bytes=room_bytes)
    assert is_uniform(subsets(found["s"], one_partition=one_partition))
    assert agree(*reports)


def test_what_is_kept_is_uniform_where_every_shard_is_cut_at_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(one_worker, "_CROWD_ROWS", -(10**9))
    monkeypatch.setattr(one_worker.contributions, "_crowded_rows", lambda batch, *_: np.arange(batch.num_rows))
    path = write(tmp_path / "rows.parquet", one_partition=True)
    found, reports = aggregate(path, reference.stage(l0=1, linf=KEEP, **PRIVATE), room_bytes=240_000)
    assert is_uniform(subsets(found["s"], one_partition=True))
    assert agree(*reports)


@pytest.mark.parametrize("stages", [1, 2])
def test_a_hot_unit_is_cut_where_it_is_read(tmp_path, monkeypatch, stages):
    """Unit 0 has half of all rows, in one partition; a block leaves of it what the bounds of the stages allow."""
    buffered, put = [], ShardBuffer.put

    def counted(self, place, rows, shard):
        buffered.append(rows)
        return put(self, place, rows, shard)

    monkeypatch.setattr(ShardBuffer, "put", counted)
    size, hot = 120_000, np.arange(120_000) % 2 == 0
    units, values = np.where(hot, 0, np.arange(size)), np.ones(size)
    table = pa.table({"u": units, "p": np.where(hot, 7, np.arange(size) % 5), "v": values})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=30_000)
    all_stages = [replace(reference.stage(**PRIVATE, l0=1, linf=linf), name=f"s{linf}") for linf in (KEEP, 5)]
    found, reports = aggregate(tmp_path / "rows.parquet", *all_stages[:stages])
    left = sum(pc.sum(pc.equal(rows["u"], 0)).as_py() or 0 for rows in buffered)
    # Each stage has priorities of its own: a row stays that any of them needs.
    assert left == 4 * KEEP if stages == 1 else 4 * 5 <= left <= 4 * (5 + KEEP)
    for linf in (KEEP, 5)[:stages]:
        assert [row["__count"] for row in found[f"s{linf}"].to_pylist() if row["p"] == 7] == [linf]
    assert agree(*reports)


def test_a_unit_split_over_shards_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        hashing, "route_here", lambda array, salt, shards: (np.arange(len(array)) % shards).astype(np.uint16)
    )
    path = write(tmp_path / "rows.parquet", one_partition=False)
    found, _ = aggregate(path, reference.stage(l0=KEEP, linf=1, **PRIVATE))
    assert subsets(found["s"], one_partition=False) is None


def test_priorities_that_follow_the_rows_are_noticed(tmp_path, monkeypatch):
    def by_value(batches, *_):
        return np.concatenate([batch.column("v").to_numpy().astype(np.uint64) << np.uint64(40) for batch in batches])

    monkeypatch.setattr(one_worker.contributions, "_priorities", by_value)
    path = write(tmp_path / "rows.parquet", one_partition=True)
    found, _ = aggregate(path, reference.stage(l0=1, linf=KEEP, **PRIVATE))
    assert not is_uniform(subsets(found["s"], one_partition=True))


def test_several_stages_with_public_partitions_are_the_exact_sums(tmp_path, room_bytes):
    path = write(tmp_path / "rows.parquet", one_partition=False)
    public = pa.table({"p": np.arange(0, 2 * UNITS * EACH, 3)})
    stages = (reference.stage(**PRIVATE), reference.stage(**PRIVATE | {"keys": ()}, key_types=()))
    first, second = replace(stages[0], name="by_p"), replace(stages[1], name="all")
    found, reports = aggregate(path, first, second, room_bytes=room_bytes, public={"by_p": public})
    by_p = found["by_p"].sort_by("p")
    inside = np.arange(0, 2 * UNITS * EACH, 3) < UNITS * EACH
    assert by_p["p"].to_numpy().tolist() == public["p"].to_pylist()
    assert by_p["__users"].to_numpy().tolist() == inside.astype(int).tolist()
    (row,) = found["all"].to_pylist()
    assert row == {"__count": UNITS * EACH, "__users": UNITS, "__q_0": UNITS * 63 * 2**25}
    assert agree(*reports)


def test_rows_that_are_units_of_their_own_are_tallied_where_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(ShardBuffer, "put", None)
    path = write(tmp_path / "rows.parquet", one_partition=True)
    stage = reference.stage(**PRIVATE | {"unit": None}, l0=1, linf=1)
    found, reports = aggregate(path, stage, columns="pv")
    assert sorted(found["s"]["p"].to_pylist()) == list(range(UNITS))
    assert set(found["s"]["__users"].to_pylist()) == {EACH}
    assert agree(*reports)


def test_every_split_reports_by_itself(tmp_path):
    path = write(tmp_path / "rows.parquet", one_partition=True)
    _, (shuffle, reports) = aggregate(path, reference.stage(**PRIVATE))
    assert agree(shuffle, reports)
    for report in reports:
        assert not agree(shuffle, [other for other in reports if other is not report])
    assert {report[2] for report in reports if report[1] == SENT} == shuffle.senders == frozenset(range(9))
