"""Runs one stage on both engines with the same noise: what our kernels release, and what PipelineDP's engine does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pipeline_dp
import pyarrow as pa
import yaml
from scipy import stats

from dpbeam.adapters.reference.plan import PlannedBudgets, ReferenceStage, reference_plan
from dpbeam.adapters.reference.stepped import SteppedEngine
from dpbeam.adapters.reference.transform import rows_of
from dpbeam.engine.release import results
from dpbeam.engine.release.noises import noises
from dpbeam.mechanisms.selection import Selector
from dpbeam.policy.load import load_policy
from dpbeam.transforms.steps.read import label
from dpbeam.transforms.steps.select import selected
from tests.helpers import kernel_reference as kernels

ALPHA = 1e-9
PARTITIONS = 12_000
"""Independent draws a test."""
COPIES = 8
"""How often a seeded bug draws for each partition. PARTITIONS draws of Laplace noise and COPIES times as many of 1.3
times its scale are told apart at ALPHA with probability 1 − 1e-9: their distributions are 0.0481 ± 0.0038 apart in two
places, of which one must be above 0.0317. Of 0.7 times its scale, or of Gaussian noise, more clearly."""


def stage(folder: Path, *, epsilon: float = 20.0, **fields: Any) -> ReferenceStage:
    """A stage over the columns u, p, v and w, planned for PipelineDP's engine: the noise that both are run with."""
    column = {"type": "float64"}
    policy = {
        "version": 1,
        "dataset": "parity",
        "source": {"format": "csv", "path": "none.csv"},
        "privacy_unit": "u",
        "columns": {"u": {"type": "int64"}, "p": {"type": "int64"}, "v": column, "w": column},
        "run": {"epsilon": epsilon, "delta": 1e-3},
        "stages": [{"name": "s", "group_by": ["p"]} | fields],
    }
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    (planned,) = reference_plan(load_policy(folder / "policy.yaml")).stages
    return planned


def batch(units: Any, partitions: Any, values: Any = 0.0, others: Any = 0.0) -> pa.RecordBatch:
    """Rows as columns; a single number stands for all rows."""
    rows = len(units)
    columns = [np.broadcast_to(np.asarray(c), rows) for c in (units, partitions, values, others)]
    kinds = (np.int64, np.int64, np.float64, np.float64)
    arrays = [pa.array(np.ascontiguousarray(c.astype(kind))) for c, kind in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=["u", "p", "v", "w"])


def alike(values: list[tuple[int, float, float]], partitions: int = PARTITIONS) -> pa.RecordBatch:
    """The rows (unit, v, w) in every one of many partitions, by units of its own."""
    units, v, w = (np.array(column) for column in zip(*values, strict=True))
    each = int(units.max()) + 1
    at = np.repeat(np.arange(partitions), len(values))
    return batch(np.tile(units, partitions) + at * each, at, np.tile(v, partitions), np.tile(w, partitions))


def ours(planned: ReferenceStage, rows: pa.RecordBatch, public: pa.Table | None = None) -> dict[str, Any]:
    """{released column: values by partition} of our kernels, sorted by partition."""
    return _released(_kept(planned, rows, public), planned, noises(planned.spec))


def misdrawn(
    planned: ReferenceStage,
    rows: pa.RecordBatch,
    public: pa.Table | None = None,
    *,
    scale: float,
    copies: int = COPIES,
) -> dict[str, Any]:
    """As `ours`, with a seeded bug: noise of `scale` times what is planned, drawn `copies` times for each partition."""
    drawn = {name: Misdrawn(mechanism, scale) for name, mechanism in planned.spec.noise.items()}
    return _released(_kept(planned, rows, public) * copies, planned, drawn)


class Misdrawn:
    """Stands in for a stage's noise where the test is to reject it: NumPy draws it, at `scale` times its scale."""

    def __init__(self, mechanism: Any, scale: float) -> None:
        self.mechanism, self._random = mechanism, np.random.default_rng()
        self._width = scale * (mechanism.sigma if mechanism.kind == "gaussian" else mechanism.scale)

    def to_counts(self, counts: Any) -> Any:
        draw = self._random.normal if self.mechanism.kind == "gaussian" else self._random.laplace
        return counts + draw(0.0, self._width, len(counts))

    def to_sums(self, sums: Any, grid: Any) -> Any:
        return self.to_counts(sums * grid.step)


def theirs(planned: ReferenceStage, rows: pa.RecordBatch, public: pa.Table | None = None) -> dict[str, Any]:
    """{field of PipelineDP's MetricsTuple: values by partition} of PipelineDP's engine, run locally."""
    engine = SteppedEngine(PlannedBudgets(planned.budgets), pipeline_dp.LocalBackend(), planned.steps)
    extractors = pipeline_dp.DataExtractors(
        privacy_id_extractor=lambda row: row[0],
        partition_extractor=lambda row: row[1],
        value_extractor=lambda row: row[2],
    )
    # A set: PipelineDP looks each row up in it.
    keys = None if public is None else {(key,) for key in public["p"].to_pylist()}
    plain = list(rows_of(label(rows, 0, 0, last=True), planned.spec, planned.call.grid))
    found = sorted(engine.aggregate(plain, planned.call.params, extractors, keys))
    fields = found[0][1]._fields if found else ()
    return {"p": np.array([key for (key,), _ in found])} | {
        name: np.array([getattr(metrics, name) for _, metrics in found], dtype=np.float64) for name in fields
    }


def public(partitions: int = PARTITIONS) -> pa.Table:
    return pa.table({"p": np.arange(partitions)})


def one_law(one: Any, other: Any) -> bool:
    """Whether two samples may be of one distribution: by chance it says no with probability 1e-9."""
    return bool(stats.ks_2samp(one, other).pvalue > ALPHA)


def one_rate(one: int, other: int, draws: int) -> bool:
    """Whether two numbers of successes in `draws` each may be of one probability: says no by chance at 1e-9."""
    table = [[one, draws - one], [other, draws - other]]
    return bool(stats.fisher_exact(table).pvalue > ALPHA)


def _kept(planned: ReferenceStage, rows: pa.RecordBatch, public: pa.Table | None) -> list[pa.RecordBatch]:
    spec = planned.spec
    selector = None if spec.selection is None else Selector(mechanism=spec.selection)
    return [selected(merged, spec, selector) for merged in kernels.accumulators([rows], spec, shards=4, public=public)]


def _released(kept: list[pa.RecordBatch], planned: ReferenceStage, drawn: Any) -> dict[str, Any]:
    spec = planned.spec
    table = pa.Table.from_batches(
        results.metrics(results.noisy_quantities(merged, spec, drawn), spec) for merged in kept
    ).sort_by("p")
    return {name: table[name].to_numpy() for name in table.column_names}
