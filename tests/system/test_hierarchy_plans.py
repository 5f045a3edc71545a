"""Hierarchical keys in one worker: the cells are those of all rows in one go, however many passes there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.bounding import hierarchy, unit_rows
from dpbeam.engine.bounding.hierarchy import Hierarchy
from dpbeam.engine.stage import LEVEL, Hierarchical
from dpbeam.queries.source import Column, InputSpec
from dpbeam.reading import formats
from dpbeam.transforms.steps import one_worker
from tests.helpers import kernel_reference as reference

SALT, PARTS = b"0123456789abcdef", 3
ROWS = 20_000


def stage(name, leaf_keys, l0, other_l0=None):
    keys = (*leaf_keys, LEVEL)
    own = {"keys": keys, "key_types": ("int64",) * len(keys), "l0": l0, "linf": 1, "metrics": reference.COUNTS}
    mode = Hierarchical(other_l0=other_l0)
    return replace(reference.stage(unit="u", **own), name=name, mode=mode, selection=None)


def rows_of() -> pa.RecordBatch:
    """Each (unit, leaf) once, so that no row is chosen by a draw of its own; unit 0 has an eighth of the rows."""
    rng = np.random.default_rng(11)
    units = np.where(rng.random(ROWS) < 0.125, 0, rng.integers(0, 1500, ROWS))
    leaves = rng.integers(0, 5000, ROWS)
    _, first = np.unique(units * 5000 + leaves, return_index=True)
    leaves = leaves[first]
    return pa.record_batch({"u": units[first], "country": leaves % 7, "city": leaves})


def kept(keys) -> Hierarchy:
    cities = np.arange(0, 5000, 9)
    return Hierarchy(keys=keys, kept=pa.table({"country": cities % 7, "city": cities}).select(list(keys)))


def in_one_worker(path, stages, kept_leaves, public, room_bytes):
    columns = tuple(Column(name=name, type="int64") for name in ("u", "country", "city"))
    source = InputSpec(format="parquet", paths=(str(path),), columns=columns)
    splits = tuple((formats.Split(str(path), i),) for i in range(pq.ParquetFile(path).num_row_groups))
    plan = one_worker.OneWorker(shards=16, room_bytes=room_bytes, threads=2)
    found = {spec.name: [] for spec in stages}
    for output in one_worker._Aggregate(plan, source, splits, stages, public, PARTS, SALT, kept_leaves).process(None):
        if output.tag != one_worker.REPORTS:
            found[output.tag.removeprefix("stage.")].append(output.value[1])
    return {spec.name: accumulate.merge(found[spec.name], spec) for spec in stages}


def at_once(rows, spec, kept_leaves, public):
    """All rows as one shard: which leaves count follows from the salt alone."""
    if kept_leaves is not None:
        bounded = hierarchy.bound([rows], spec, kept_leaves, SALT, (0,))
    else:
        bounded = unit_rows.bound([accumulate.filter_public(rows, spec, public)], spec, SALT, (0,))
    return accumulate.merge([accumulate.accumulate(bounded, spec), accumulate.zeros(public, spec)], spec)


@pytest.mark.parametrize("cut", [False, True], ids=["", "every shard cut at the source"])
@pytest.mark.parametrize("room_bytes", [1 << 30, 60_000], ids=["one pass", "several passes"])
@pytest.mark.parametrize("count", [1, 3], ids=["alone", "with others"])
def test_the_cells_are_those_of_all_rows_at_once(tmp_path, monkeypatch, count, room_bytes, cut) -> None:
    monkeypatch.setattr(one_worker, "BLOCK_ROWS", 1_000)
    if cut:
        monkeypatch.setattr(one_worker, "_CROWD_ROWS", -(10**9))
        monkeypatch.setattr(one_worker.contributions, "_crowded_rows", lambda batch, *_: np.arange(batch.num_rows))
    rows = rows_of()
    pq.write_table(pa.Table.from_batches([rows]), tmp_path / "rows.parquet", row_group_size=4_000)
    flat = reference.stage(unit="u", keys=("country",), l0=2, linf=99, metrics=reference.COUNTS)
    stages = (
        stage("by_city", ("country", "city"), 6, other_l0=2),
        stage("again", ("city", "country"), 4),
        replace(flat, name="flat", selection=None),
    )[:count]
    kept_leaves = {spec.name: kept(spec.leaf_keys) for spec in stages if spec.hierarchical}
    public = {name: hierarchy.cells(found.kept, found.keys) for name, found in kept_leaves.items()}
    public |= {"flat": pa.table({"country": [1, 3, 8]})} if count == 3 else {}
    found = in_one_worker(tmp_path / "rows.parquet", stages, kept_leaves, public, room_bytes)
    for spec in stages:
        wanted = at_once(rows, spec, kept_leaves.get(spec.name), public[spec.name])
        assert found[spec.name].equals(wanted)
        assert wanted.num_rows == public[spec.name].num_rows
    everything = at_once(rows, replace(stages[0], bounds=replace(stages[0].bounds, l0=10**6), mode=Hierarchical()),
                         kept_leaves["by_city"], public["by_city"])  # fmt: skip
    assert not found["by_city"].equals(everything)
