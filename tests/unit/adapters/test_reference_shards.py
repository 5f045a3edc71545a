"""A result shard of PipelineDP's holds each partition once, and every public one; else the run ends."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dpbeam.adapters.reference.result_table import table
from dpbeam.adapters.reference.transform import _OneShard, key_columns, keys_of
from dpbeam.engine.stage import StageSpec
from dpbeam.errors import RunFailed
from dpbeam.mechanisms.events import Laplace
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.counts import Count

SPEC = StageSpec(
    name="s",
    unit="u",
    keys=("p",),
    key_types=("date",),
    bounds=Bounds(l0=1, linf=1),
    metrics=(Count(name="count"),),
    noise={"count": Laplace(stage="s", metric="count", scale=1.0, l1=1.0)},
    selection=None,
)


def released(*days: int) -> pa.RecordBatch:
    return table(key_columns([(day,) for day in days], SPEC), [{"count": 1.0}] * len(days), SPEC)


def gathered(*batches: pa.RecordBatch, public: dict[int, int] | None = None) -> pa.RecordBatch:
    ((part, rows),) = _OneShard(SPEC, public).work((0, batches))
    assert part == 0
    return rows


def test_a_shard_is_sorted_by_key() -> None:
    assert keys_of(gathered(released(5, 2), released(), released(3)), SPEC) == [(2,), (3,), (5,)]


@pytest.mark.parametrize(("days", "public"), [((1, 1), None), ((1, 1), {0: 2}), ((1,), {0: 2}), ((1, 2, 3), {0: 2})])
def test_a_partition_drawn_twice_or_lost_ends_the_run(days, public) -> None:
    with pytest.raises(
        RunFailed, match=r"^the runner lost or doubled partitions of PipelineDP's; nothing was published"
    ):
        gathered(*(released(day) for day in days), public=public)


def test_an_empty_shard_is_whole() -> None:
    assert gathered(released(), public={1: 5}).num_rows == gathered(released()).num_rows == 0
