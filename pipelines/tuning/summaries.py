"""One pass over data at hand: what each privacy unit has in each partition, which is all that candidates are judged by.

Guarantee: makes no release, so it charges nothing, takes no ledger and writes no file; what it returns are raw figures
for the operator alone. No message of it holds a figure or a value.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from dpbeam.array_types import F64, I64
from dpbeam.engine.arrays import grouping, hashing
from dpbeam.pipelines.checking.leniency import lenient
from dpbeam.pipelines.checking.merged import Merged, hashes
from dpbeam.pipelines.lifecycle import inputs
from dpbeam.queries.metrics.sums import SumOfTotals
from dpbeam.queries.query import Query, Stage
from dpbeam.reading import rows
from dpbeam.transforms.steps.read import raw_blocks

MOST_PAIRS = 1_000_000
"""Of units and partitions, a stage; of more, units are sampled by a hash."""
Share = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Bounds on the values of a metric of a stage."""

    stage: str
    metric: str
    column: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Of a value, over the rows of each (unit, partition): their sum and that of their squares."""

    total: F64
    squares: F64


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is known of one stage's rows: an entry a pair of a unit and a partition that it has rows in.

    `unit` and `partition` number them from 0; `rows` is how many rows the pair has. `clipped` has the sums of values
    clipped to each of the bounds that were asked for; `values` and `sizes`, by column, those of values and of their
    absolute values as they are. Of units one in `one_in` is here, with all that it has. `listed` is how many public
    partitions there are, those without rows among them; None where they aren't public.
    """

    stage: str
    unit: I64
    partition: I64
    rows: F64
    clipped: Mapping[Clip, Sums]
    values: Mapping[str, F64]
    sizes: Mapping[str, F64]
    one_in: int
    listed: int | None

    @property
    def units(self) -> int:
        return int(self.unit.max()) + 1 if len(self.unit) else 0

    @property
    def partitions(self) -> int:
        """Partitions with rows."""
        return int(self.partition.max()) + 1 if len(self.partition) else 0


def summarise(
    query: Query, clips: Sequence[Clip], share: Share = lambda done, of: None, *, most: int = MOST_PAIRS
) -> tuple[Summary | None, ...]:
    """Reads all rows of the query's source, once, and sums them up for each of its stages: None where no row is left.

    Rows that break a rule are dropped, also where that would end a run.

    Raises:
        UsageError: the input can't be used.
        RunFailed: a file is damaged, or changed while it was read.
    """
    spec, seed = lenient(query.source), secrets.randbits(63)
    found = inputs.resolve(query.source)
    building = [
        _Building(stage, query.unit, [clip for clip in clips if clip.stage == stage.name], seed, most)
        for stage in query.stages
    ]
    for done, portion in enumerate(found.splits):
        share(done, len(found.splits))
        for raw in raw_blocks(portion, spec):
            if raw.num_rows:
                left = rows.prepare(raw, spec)
                for each in building:
                    each.add(left)
    inputs.check_unchanged(found)
    return tuple(each.summary() for each in building)


class _Building:
    """One stage's summary so far."""

    def __init__(self, stage: Stage, unit: str | None, clips: Sequence[Clip], seed: int, most: int) -> None:
        self._stage, self._unit, self._clips, self._seed = stage, unit, clips, seed
        totals = (metric.column for metric in stage.metrics if isinstance(metric, SumOfTotals))
        self._columns = list(dict.fromkeys((*(clip.column for clip in clips), *totals)))
        self._pairs = Merged(["unit", "partition"], "unit", most)
        self._seen = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds rows that keep every rule and meet `where`."""
        stage, public = self._stage, self._stage.public
        if public is not None:
            listed = [public.column(name).combine_chunks() for name in stage.keys]
            inside = grouping.members([batch.column(name) for name in stage.keys], listed, batch.num_rows)
            batch = batch.filter(pa.array(inside))
        if not batch.num_rows:
            return
        of_keys = [hashes(batch.column(name), self._seed) for name in stage.keys]
        pairs = {
            "unit": self._units(batch),
            "partition": hashing.mix_columns(of_keys, batch.num_rows, self._seed),
            "rows": np.ones(batch.num_rows, dtype=np.int64),
        }
        values = {name: _numbers(batch, name) for name in self._columns}
        for place, name in enumerate(self._columns):
            pairs |= {f"value{place}": values[name], f"size{place}": np.abs(values[name])}
        for place, clip in enumerate(self._clips):
            clipped = np.clip(values[clip.column], clip.low, clip.high)
            pairs |= {f"total{place}": clipped, f"squares{place}": clipped**2}
        self._pairs.add(pl.DataFrame(pairs))

    def _units(self, batch: pa.RecordBatch) -> pl.Series:
        if self._unit is not None:
            return pl.Series(hashes(batch.column(self._unit), self._seed))
        numbers = np.arange(self._seen, self._seen + batch.num_rows, dtype=np.uint64)
        self._seen += batch.num_rows
        return pl.Series(hashing.mix64(numbers))

    def summary(self) -> Summary | None:
        """All that was added; None if nothing was."""
        pairs, stage = self._pairs.table(), self._stage
        if pairs is None:
            return None
        numbers = {name: pairs[name].to_numpy() for name in pairs.columns if name not in ("unit", "partition")}
        return Summary(
            stage=stage.name,
            unit=_numbered(pairs["unit"]),
            partition=_numbered(pairs["partition"]),
            rows=numbers["rows"].astype(np.float64),
            clipped={
                clip: Sums(total=numbers[f"total{place}"], squares=numbers[f"squares{place}"])
                for place, clip in enumerate(self._clips)
            },
            values={name: numbers[f"value{place}"] for place, name in enumerate(self._columns)},
            sizes={name: numbers[f"size{place}"] for place, name in enumerate(self._columns)},
            one_in=self._pairs.one_in,
            listed=None if stage.public is None else stage.public.num_rows,
        )


def _numbered(values: pl.Series) -> I64:
    """Equal values as equal numbers from 0 on."""
    _, numbers = np.unique(values.to_numpy(), return_inverse=True)
    return numbers.astype(np.int64)


def _numbers(batch: pa.RecordBatch, column: str) -> F64:
    numbers: F64 = batch.column(column).to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers
