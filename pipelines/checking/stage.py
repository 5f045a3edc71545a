"""One stage's figures, added up batch by batch: what its bounds keep, what is clipped, how full its partitions are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from dpbeam.array_types import F64
from dpbeam.engine.arrays import grouping, hashing
from dpbeam.pipelines.checking.figures import Clips, Kept, Spellings, StageFigures
from dpbeam.pipelines.checking.kept import kept_by
from dpbeam.pipelines.checking.merged import Merged, hashes, plain
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.metrics.histograms import Histogram
from dpbeam.queries.metrics.sums import SumOfTotals
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.query import Stage
from dpbeam.reading import vectors

SMALLEST = 5
_GROUPS = 5
_ORDERS = {"l1": 1, "l2": 2, "linf": np.inf}


class StageTally:
    """What is known of one stage's rows so far. `linf` is the policy's, also where rows are aggregated already."""

    def __init__(self, stage: Stage, unit: str | None, linf: int | None, seed: int, most: int) -> None:
        self._stage, self._unit, self._linf, self._seed = stage, unit, linf, seed
        self._rows = self._outside = 0
        self._keys = [f"key{i}" for i in range(len(stage.keys))]
        self._partitions = Merged(["partition", *self._keys], "partition", most)
        self._pairs = Merged(["unit", "partition"], "unit", most)
        self._totals = [metric for metric in stage.metrics if isinstance(metric, SumOfTotals)]
        self._clipped: dict[str, list[int]] = {metric.name: [0, 0] for metric in stage.metrics}

    @property
    def name(self) -> str:
        """The stage's name."""
        return self._stage.name

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds rows that keep every rule and meet `where`."""
        stage, public = self._stage, self._stage.public
        if public is not None:
            columns = [public.column(name).combine_chunks() for name in stage.keys]
            inside = grouping.members([batch.column(name) for name in stage.keys], columns, batch.num_rows)
            self._outside += int((~inside).sum())
            batch = batch.filter(pa.array(inside))
        self._rows += batch.num_rows
        if not batch.num_rows:
            return
        for metric in stage.metrics:
            for side, clipped in enumerate(_clipped(metric, batch)):
                self._clipped[metric.name][side] += clipped
        of_keys = [hashes(batch.column(name), self._seed) for name in stage.keys]
        partition = pl.Series("partition", hashing.mix_columns(of_keys, batch.num_rows, self._seed))
        rows = pl.Series("rows", _counts(batch, stage))
        named = {name: pl.Series(batch.column(key)) for name, key in zip(self._keys, stage.keys, strict=True)}
        self._partitions.add(pl.DataFrame({"partition": partition, **named, "rows": rows}))
        if self._unit is not None:
            unit = pl.Series(hashes(batch.column(self._unit), self._seed))
            totals = {f"total{i}": _numbers(batch, each.column) for i, each in enumerate(self._totals)}
            self._pairs.add(pl.DataFrame({"unit": unit, "partition": partition, "rows": rows, **totals}))

    def figures(self, least: Sequence[tuple[str, int]]) -> StageFigures:
        """All that was found; `least` says in words what a partition needs how many units for."""
        stage, partitions, pairs = self._stage, self._partitions.table(), self._pairs.table()
        kept: tuple[Kept, ...] = ()
        together = None
        people = _no_people() if partitions is None else partitions.select("partition", units="rows")
        if pairs is not None:
            bounds, searched = stage.bounds, frozenset(name for name, _ in stage.searches)
            kept, together = kept_by(pairs, bounds.l0, self._linf, bounds.l1, searched)
            people = pairs.group_by("partition").agg(pl.len().alias("units"))
        units = people["units"].to_numpy()
        return StageFigures(
            name=stage.name,
            rows=self._rows,
            outside=self._outside,
            kept=kept,
            together=together,
            clips=tuple(self._clips(pairs)),
            has_keys=bool(stage.keys),
            partitions=0 if partitions is None else len(partitions) * self._partitions.one_in,
            listed=None if stage.public is None else stage.public.num_rows,
            smallest=self._smallest(partitions, people),
            few=tuple((words, int((units < number).sum())) for words, number in least),
            spellings=tuple(self._spellings(partitions)),
            units_in=self._pairs.one_in,
            partitions_in=self._partitions.one_in,
        )

    def _smallest(
        self, partitions: pl.DataFrame | None, people: pl.DataFrame
    ) -> tuple[tuple[tuple[str, ...], int], ...]:
        if partitions is None or not self._keys:
            return ()
        found = partitions.join(people, on="partition").sort("units", *self._keys).head(SMALLEST)
        return tuple(
            (tuple(map(str, row[:-1])), int(row[-1])) for row in found.select(*self._keys, "units").iter_rows()
        )

    def _clips(self, pairs: pl.DataFrame | None) -> list[Clips]:
        found: list[Clips] = []
        for metric in self._stage.metrics:
            below, above = self._clipped[metric.name]
            match metric:
                case Clipped():
                    low, high = ("low" not in metric.auto, "high" not in metric.auto)
                    what = f"{metric.column} in [{metric.low:g}, {metric.high:g}]"
                    if metric.auto:
                        what = f"{metric.column}, whose {' and '.join(metric.auto)} the run finds"
                    shown = (below if low else None, above if high else None)
                    found.append(Clips(metric=metric.name, of=self._rows, what=what, below=shown[0], above=shown[1]))
                case VectorSum():
                    what = f"{metric.norm} norm up to {metric.max_norm:g}"
                    found.append(Clips(metric=metric.name, of=self._rows, what=what, below=None, above=above))
                case Histogram():
                    what = f"{metric.column} in a bin"
                    found.append(Clips(metric=metric.name, of=self._rows, what=what, below=below, above=above))
                case SumOfTotals() if pairs is not None:
                    totals = pairs[f"total{self._totals.index(metric)}"]
                    found.append(
                        Clips(
                            metric=metric.name,
                            of=len(totals),
                            what=f"a unit's total of {metric.column} in [{metric.low_total:g}, {metric.high_total:g}]",
                            below=int((totals < metric.low_total).sum()),
                            above=int((totals > metric.high_total).sum()),
                        )
                    )
                case _:
                    pass
        return found

    def _spellings(self, partitions: pl.DataFrame | None) -> list[Spellings]:
        found: list[Spellings] = []
        for name, key in zip(self._keys, self._stage.keys, strict=True):
            if partitions is None or partitions[name].dtype != pl.String:
                continue
            values = partitions.group_by(name).agg(pl.col("rows").sum())
            alike = (
                values.with_columns(plain(values[name]).alias("plain"))
                .filter(pl.len().over("plain") > 1)
                .sort(["rows", name], descending=[True, False])
                .group_by("plain", maintain_order=True)
                .agg(pl.col(name), pl.col("rows"))
            )
            if len(alike):
                shown = tuple(
                    tuple(zip(names, rows, strict=True)) for _, names, rows in alike.head(_GROUPS).iter_rows()
                )
                found.append(Spellings(column=key, groups=len(alike), shown=shown))
        return found


def _no_people() -> pl.DataFrame:
    return pl.DataFrame(schema={"partition": pl.UInt64, "units": pl.Int64})


def _counts(batch: pa.RecordBatch, stage: Stage) -> pl.Series:
    """How many rows each row stands for."""
    if stage.counted_by is None:
        return pl.Series(np.ones(batch.num_rows, dtype=np.int64))
    return pl.Series(batch.column(stage.counted_by))


def _numbers(batch: pa.RecordBatch, column: str) -> F64:
    numbers: F64 = batch.column(column).to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers


def _clipped(metric: Metric, batch: pa.RecordBatch) -> tuple[int, int]:
    """How many of a batch's values lie below and above what a metric takes as it is."""
    match metric:
        case Clipped():
            values = _numbers(batch, metric.column)
            return int((values < metric.low).sum()), int((values > metric.high).sum())
        case Histogram():
            values = _numbers(batch, metric.column)
            return int((values < metric.edges[0]).sum()), int((values > metric.edges[-1]).sum())
        case VectorSum():
            columns = [_matrix(batch.column(name)) for name in metric.columns]
            norms = np.linalg.norm(np.hstack(columns), ord=_ORDERS[metric.norm], axis=1)
            return 0, int((norms > metric.max_norm).sum())
        case _:
            return 0, 0


def _matrix(column: pa.Array) -> F64:
    if pa.types.is_fixed_size_list(column.type):
        return vectors.matrix(column)
    flat: F64 = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return flat[:, None]
