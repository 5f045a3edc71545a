"""What one worker needs is bounded by the room it was given, whatever the distribution of units and partitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.data import write_visits
from tests.helpers.memory import NEEDS_PROC, measured

ROWS = 10_000_000
ROW_BYTES = 16
REST_BYTES = 96 << 20
"""Row groups as stored, blocks and shards in work on two threads, partitions: docs/scale.md. Measured: 40 to 60 MiB."""
ROOM_BYTES = 24 << 20
BLOCK_ROWS = 1 << 16

RUN = rf"""
import json, re, sys
from dataclasses import replace
from pathlib import Path
import pyarrow as pa
from dpbeam.reading import formats
from dpbeam.engine.bounding.hierarchy import Hierarchy
from dpbeam.engine.stage import LEVEL, Hierarchical
from dpbeam.queries.source import Column, InputSpec
from dpbeam.transforms.steps import one_worker

def peak():
    # not ru_maxrss, which begins with what the parent held when it forked
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10

from tests.helpers import kernel_reference as reference
path = sys.argv[1]
stage = reference.stage(unit="user", keys=("place",), l0=10, linf=3, metrics=reference.COUNTS)
among = {{}}
if sys.argv[3] == "leaves":
    stage = replace(stage, keys=("place", LEVEL), key_types=("int64", "int64"), mode=Hierarchical(), selection=None)
    among = {{stage.name: Hierarchy(keys=("place",), kept=pa.table({{"place": range(0, 5000, 2)}}))}}
columns = (Column(name="user", type="int64"), Column(name="place", type="int64"))
source = InputSpec(format="parquet", paths=(path,), columns=columns)
one_worker.BLOCK_ROWS = {BLOCK_ROWS}

def run(splits, room_bytes):
    plan = one_worker.OneWorker(shards=64, room_bytes=room_bytes, threads=2)
    step = one_worker._Aggregate(plan, source, splits, (stage,), {{}}, 8, b"0" * 16, among)
    return sum(output.value[1].num_rows for output in step.process(None) if output.tag != one_worker.REPORTS)

splits = tuple((formats.Split(path, i),) for i in range({ROWS} // 1_000_000))
run(splits[:1], {ROOM_BYTES})
before = peak()
partitions = run(splits, int(sys.argv[2]))
print(json.dumps([peak() - before, partitions]))
"""


def grown(path: Path, room_bytes: int, keys: str) -> tuple[int, int]:
    """By how much the peak of a run over all rows is above that of one over the first million; and its partitions."""
    more, partitions = measured(RUN, str(path), str(room_bytes), keys)
    return more, partitions


@NEEDS_PROC
@pytest.mark.parametrize(("shape", "keys"), [("even", ""), ("bot", ""), ("bot", "leaves")])
def test_rows_beyond_the_room_need_no_more_memory(tmp_path, shape, keys) -> None:
    path = tmp_path / "visits.parquet"
    write_visits(path, ROWS, text=False, shape=shape)
    bounded, partitions = grown(path, ROOM_BYTES, keys)
    unbounded, same = grown(path, 1 << 40, keys)
    assert partitions == same
    assert bounded < ROOM_BYTES + REST_BYTES < ROWS * ROW_BYTES < unbounded
