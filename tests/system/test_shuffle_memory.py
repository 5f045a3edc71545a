"""What a worker of a shuffling run needs is bounded by a block and a shard, whatever the distribution of the keys.

The runner's part is played by files (`tests.helpers.played_runner`), so all that the process holds is what the steps
themselves hold.
"""

from __future__ import annotations

import pytest

from tests.helpers.memory import (
    ALL_BYTES,
    BLOCK_ROWS,
    BLOCKS,
    NEEDS_PROC,
    PARTS,
    ROW_BYTES,
    SHARD_BYTES,
    SHARDS,
    SLACK_BYTES,
    measured,
)

PARTITIONS = 100_000
PARTITION_BYTES = 24
BOUND_BYTES = (
    4 * BLOCK_ROWS * ROW_BYTES  # docs/scale.md
    + int(1.5 * 8 * SHARD_BYTES)
    + 4 * (PARTITIONS * PARTITION_BYTES // PARTS + (8 << 20))
    + SLACK_BYTES
)

RUN = rf"""
import json, sys, tempfile
import numpy as np
import pyarrow as pa
from dpbeam.engine.bounding import contributions
from tests.helpers.played_runner import Files, peak_bytes as peak
from dpbeam.transforms.steps import accumulate, bound
from dpbeam.transforms.wire.control import Shuffle, agree
from dpbeam.transforms.wire.progress import WorkProgress
from dpbeam.transforms.steps.read import label

from tests.helpers import kernel_reference as reference
stage = reference.stage(unit="user", keys=("place",), l0=10, linf=3, metrics=reference.COUNTS)
SALT = b"0" * 16
shape, spoilt = sys.argv[1:3]
shards = 1 if spoilt == "one shard" else {SHARDS}
if spoilt == "uncut":
    contributions._crowded_rows = lambda *_: None


def blocks(count):
    for number in range(count):
        rng = np.random.default_rng(number)
        users = rng.integers(0, {BLOCKS * BLOCK_ROWS} // 20, {BLOCK_ROWS})
        places = np.minimum(rng.pareto(1.0, {BLOCK_ROWS}) * 10, {PARTITIONS} - 1).astype(np.int64)
        half = rng.random({BLOCK_ROWS}) < 0.5
        if shape == "hot unit":
            users[half] = 0
        if shape == "hot partition":
            places[half] = 0
        yield label(pa.record_batch({{"user": users, "place": places}}), number, 0, last=True)


def run(count):
    with tempfile.TemporaryDirectory() as users, tempfile.TemporaryDirectory() as partitions:
        users, partitions, held = Files(users), Files(partitions), 0
        schema = pa.schema([("user", pa.int64()), ("place", pa.int64())])
        seeds = [pa.RecordBatch.from_pylist([], schema=schema)] * shards
        users.send(bound._Seed("users", seeds).process(None))
        route = bound._Route(stage, shards, SALT, None, None, "users")
        for block in blocks(count):
            users.send(route.process(block))
        step = bound._BoundShard(stage, SALT, None, "users", None, WorkProgress("aggregating", shards))
        spread = accumulate._RoutePartitions(stage, {PARTS}, "partitions")
        skeleton = [accumulate.accumulate.empty(stage)] * {PARTS}
        partitions.send(bound._Seed("partitions", skeleton).process(None))
        for shard in range(shards):
            for output in step.process((shard, users.arrived(shard))):
                if isinstance(output, bound.beam.pvalue.TaggedOutput):
                    users.reports.append(output.value)
                else:
                    partitions.send(spread.process(output))
        step = accumulate._Merge(stage, "partitions")
        for part in range({PARTS}):
            for output in step.process((part, partitions.arrived(part))):
                if isinstance(output, bound.beam.pvalue.TaggedOutput):
                    partitions.reports.append(output.value)
                else:
                    held += output[1].column("__users").to_numpy().sum()
        senders = frozenset((bound.SEEDER, *range(count)))
        assert agree(Shuffle(name="users", senders=senders, destinations=shards), users.reports)
        senders = frozenset((bound.SEEDER, *range(shards)))
        assert agree(Shuffle(name="partitions", senders=senders, destinations={PARTS}), partitions.reports)
        return int(held)


run(1)
before = peak()
pairs = run({BLOCKS})
print(json.dumps([peak() - before, pairs]))
"""

MERGE = r"""
import json, sys
import numpy as np
import pyarrow as pa
from dpbeam.engine.aggregation import accumulate as kernel
from tests.helpers.played_runner import peak_bytes as peak
from dpbeam.transforms.steps import accumulate
from dpbeam.transforms.wire.control import Outbox, receive

from tests.helpers import kernel_reference as reference
stage = reference.stage(unit="user", keys=("place",), metrics=reference.COUNTS)
columns = [np.arange(80_000), np.ones(80_000, dtype=np.int64), np.ones(80_000, dtype=np.int64)]
rows = pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=kernel.accumulators_schema(stage))

def messages(count):
    for shard in range(count):
        copied = rows.take(pa.array(np.arange(rows.num_rows)))
        yield from (message for _, message in Outbox("partitions", shard, 0, last=True).send(0, copied))

def merge(count):
    if sys.argv[1] == "all at once":
        return kernel.merge(receive("partitions", 0, messages(count))[0], stage)
    (_, merged), _ = accumulate._Merge(stage, "partitions").process((0, messages(count)))
    return merged

merge(10)
before = peak()
merged = merge(100)
assert merged.column("__users").to_numpy().tolist() == [100] * 80_000
print(json.dumps(peak() - before))
"""


pytestmark = NEEDS_PROC


@pytest.mark.parametrize(("shape", "spoilt"), [("even", ""), ("hot unit", "uncut"), ("hot partition", "")])
def test_a_worker_holds_a_block_and_a_shard(shape, spoilt) -> None:
    more, pairs = measured(RUN, shape, "")
    spoilt_more, same = measured(RUN, shape, spoilt or "one shard")
    assert pairs == same
    assert more < BOUND_BYTES < ALL_BYTES < spoilt_more


def test_merging_holds_the_partitions_and_not_every_shard_s_share_of_them() -> None:
    all_bytes = 100 * 80_000 * PARTITION_BYTES
    bound = 4 * (80_000 * PARTITION_BYTES + (8 << 20)) + SLACK_BYTES
    assert measured(MERGE, "") < bound < all_bytes < measured(MERGE, "all at once")
