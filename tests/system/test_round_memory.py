"""What a worker needs for a round of a selection by weights is bounded by a block and a shard, whatever the
distribution of the keys: a unit with half of all rows, a partition with half of all rows.

As in `test_shuffle_memory`, files play the runner's part.
"""

from __future__ import annotations

import pytest

from tests.helpers.memory import (
    ALL_BYTES,
    BLOCK_ROWS,
    BLOCKS,
    NEEDS_PROC,
    PARTS,
    SHARD_BYTES,
    SHARDS,
    SLACK_BYTES,
    measured,
)

pytestmark = NEEDS_PROC

PARTITIONS = 100_000
TALLY_BYTES = 8 + 5 * 8
PRE_THRESHOLD = 2
BOUND_BYTES = (
    4 * BLOCK_ROWS * 16  # docs/scale.md
    + 8 * max(3 * SHARD_BYTES // 2, 4 << 20)
    + 4 * (PRE_THRESHOLD * PARTITIONS * TALLY_BYTES // PARTS + (8 << 20))
    + SLACK_BYTES
)

RUN = rf"""
import json, sys, tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import pyarrow as pa
from dpbeam.engine.rounds import weight_tables, weighing
from tests.helpers.played_runner import Files, peak_bytes
from dpbeam.transforms.steps import weigh
from dpbeam.transforms.steps.bound import _Seed
from dpbeam.transforms.wire.control import agree
from dpbeam.transforms.steps.read import label
from tests.helpers import weighing as helpers

shape, spoilt = sys.argv[1], sys.argv[2].split(", ")
shards = 1 if "one shard" in spoilt else {SHARDS}
changes = dict(l0=10, pre_threshold={PRE_THRESHOLD}, sigma=50.0, threshold=300.0, saturation=500.0)
first, second = helpers.event("mad2r", **changes), helpers.event("mad2r", least_bias=0.5, **changes)
stage = helpers.spec(first, second, number=2)
biases = np.random.default_rng(1).integers(512, 1025, {PARTITIONS})
known = pa.table({{"p": np.arange({PARTITIONS}), weighing.KEPT: np.zeros({PARTITIONS}, bool), weighing.BIAS: biases}})
if shape == "hot unit":  # with partitions that nobody else has: the first round of one
    stage, known = helpers.spec(first), None
cut = stage
if "uncut" in spoilt:
    cut = replace(stage, bounds=replace(stage.bounds, l0=1 << 30))
if "held" in spoilt:
    weigh.merged_as_they_come = lambda batches, *_: list(batches)
if "unfolded" in spoilt:
    weight_tables.folded = lambda batches, spec: pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def blocks(count):
    for number in range(count):
        rng = np.random.default_rng(number)
        users = rng.integers(0, {BLOCKS * BLOCK_ROWS} // 8, {BLOCK_ROWS})
        places = rng.integers(0, {PARTITIONS}, {BLOCK_ROWS})
        half = rng.random({BLOCK_ROWS}) < 0.5
        if shape == "hot unit":
            users[half] = 0
            places[half] = rng.integers(0, 1 << 40, int(half.sum()))
        if shape == "hot partition":
            places[half] = 0
        yield label(pa.record_batch({{"u": users, "p": places}}), number, 0, last=True)


def run(count):
    with tempfile.TemporaryDirectory() as folder:
        schema = pa.schema([("u", pa.int64()), ("p", pa.int64())])
        whole = weigh.WeighPartitions(
            spec=stage, shards=shards, result_shards={PARTS}, salt=helpers.SALT, known=known, splits=count,
            schema=schema,
        )
        shared, sampled = whole._round, replace(whole._round, spec=cut)
        users, shares, returns, partitions = (
            Files(Path(folder, name)) for name in ("users", "shares", "returns", "partitions")
        )
        def seed(files, name, schema, number):
            empty = [pa.RecordBatch.from_pylist([], schema=schema)] * number
            files.send(_Seed(shared.shuffle(name), empty).process(None))
        seed(users, "users", schema, shards)
        seed(shares, "shares", weight_tables.sums_schema(stage), {PARTS})
        seed(partitions, "partitions", weight_tables.weight_schema(stage), {PARTS})
        for block in blocks(count):
            users.send(weigh._Sample(sampled).process(block))
        for shard in range(shards):
            for output in weigh._Share(shared).process((shard, users.arrived(shard))):
                own = isinstance(output, weigh.beam.pvalue.TaggedOutput) and output.tag == "pairs"
                (returns if own else shares).send([output])
        for part in range({PARTS}):
            returns.send(weigh._Return(shared).process((part, shares.arrived(part))))
        for shard in range(shards):
            partitions.send(weigh._SendOn(shared).process((shard, returns.arrived(shard))))
        found = 0
        for part in range({PARTS}):
            (_, weighed), report = weigh._Weigh(shared).process((part, partitions.arrived(part)))
            partitions.reports.append(report.value)
            found += sum(weighed.column(weighing.WEIGHT).to_pylist())
        reports = [report for files in (users, shares, returns, partitions) for report in files.reports]
        assert all(agree(s, [report for report in reports if report[0] == s.name]) for s in whole.shuffles)
        return found


run(1)
before = peak_bytes()
weight = run({BLOCKS})
print(json.dumps([peak_bytes() - before, weight]))
"""


@pytest.mark.parametrize(
    ("shape", "bounded", "spoilt"),
    [
        ("even", "", "one shard"),
        ("hot unit", "", "uncut, held"),
        ("hot unit", "uncut", "uncut, held"),
        ("hot partition", "", "unfolded, held"),
    ],
)
def test_a_worker_holds_a_block_and_a_shard_of_a_round(shape, bounded, spoilt) -> None:
    more, weight = measured(RUN, shape, bounded)
    spoilt_more, same = measured(RUN, shape, spoilt)
    assert weight == same
    assert more < BOUND_BYTES < ALL_BYTES < spoilt_more
