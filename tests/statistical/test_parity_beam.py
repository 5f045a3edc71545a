"""PipelineDP's engine on Beam, as `--engine=pipelinedp` runs it, releases what our kernels release: one law, 1e-9."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.adapters.reference.plan import PlannedBudgets
from dpbeam.adapters.reference.transform import PipelineDPAggregate
from dpbeam.transforms.steps.read import label
from dpbeam.transforms.wire import arrow_coder
from tests.helpers import parity

pytestmark = pytest.mark.usefixtures("reference_engine")
PARTITIONS = 10_000


def write(element, folder):
    part, rows = element
    pq.write_table(pa.Table.from_batches([rows]), f"{folder}/{part}.parquet")


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
def test_counts_and_means_on_beam_have_our_law(tmp_path, noise) -> None:
    planned = parity.stage(
        tmp_path,
        noise=noise,
        metrics=["count", {"mean": {"column": "v", "low": -4.0, "high": 8.0}}],
        bounds={"l0": 1, "linf": 1},
        partitions={"public": {"values": [0, 1]}},
    )
    rows, public = parity.alike([(0, 1.5, 0.0), (1, 9.0, 0.0)], PARTITIONS), parity.public(PARTITIONS)
    folder = tmp_path / "parts"
    folder.mkdir()
    arrow_coder.register()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        blocks = pipeline | beam.Create([label(rows, 0, 0, last=True)]).with_output_types(pa.RecordBatch)
        budgets = PlannedBudgets(planned.budgets)
        engine = PipelineDPAggregate(
            planned.spec, planned.call.params, planned.call.grid, planned.steps, budgets, public, 3
        )
        blocks | engine | beam.Map(write, str(folder))
    theirs = pa.concat_tables(pq.read_table(path) for path in folder.iterdir())
    assert theirs.num_rows == PARTITIONS
    found = [parity.ours(planned, rows, public)]
    found += [parity.misdrawn(planned, rows, public, scale=scale) for scale in (1.5, 0.6)]
    for metric in ("count", "v_mean"):
        one = theirs[metric].to_numpy()
        if metric == "v_mean":  # ours lie within the bounds, by design
            one = one.clip(-4.0, 8.0)
        assert [parity.one_law(other[metric], one) for other in found] == [True, False, False], metric
