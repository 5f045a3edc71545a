"""The peers, each as its users write the same aggregation: a Parquet file goes in; the seconds it took come out.

Counts, sums and unit counts by place; l0 10, linf 3, private selection, (1, 1e-6).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

EPSILON, DELTA, L0, LINF = 1.0, 1e-6, 10, 3


def pipelinedp(path: Path, runner: str) -> float:
    """Stock PipelineDP on the same Beam runner, as its users write it; rows come as tuples from memory."""
    import apache_beam as beam
    import pipeline_dp
    import pyarrow.parquet as pq
    from apache_beam.options.pipeline_options import PipelineOptions

    table = pq.read_table(path)
    rows = list(zip(*(table[name].to_pylist() for name in ("user", "place", "amount")), strict=True))
    accountant = pipeline_dp.NaiveBudgetAccountant(total_epsilon=EPSILON, total_delta=DELTA)
    metrics = pipeline_dp.Metrics
    params = pipeline_dp.AggregateParams(
        metrics=[metrics.COUNT, metrics.SUM, metrics.PRIVACY_ID_COUNT],
        noise_kind=pipeline_dp.NoiseKind.GAUSSIAN,
        max_partitions_contributed=L0,
        max_contributions_per_partition=LINF,
        min_value=0.0,
        max_value=10.0,
    )
    extractors = pipeline_dp.DataExtractors(
        privacy_id_extractor=lambda row: row[0],
        partition_extractor=lambda row: row[1],
        value_extractor=lambda row: row[2],
    )
    started = time.perf_counter()
    with beam.Pipeline(options=PipelineOptions([f"--runner={runner}"])) as pipeline:
        source = pipeline | "Rows" >> beam.Create(rows)
        engine = pipeline_dp.DPEngine(accountant, pipeline_dp.BeamBackend())
        result = engine.aggregate(source, params, extractors)
        accountant.compute_budgets()
        _ = result | "Count" >> beam.combiners.Count.Globally()
    return time.perf_counter() - started


def polars(path: Path, _: str) -> float:
    """Polars' group-by of the same figures without any privacy, on all cores."""
    import polars as pl

    started = time.perf_counter()
    figures = pl.len(), pl.col("amount").clip(0.0, 10.0).sum(), pl.col("user").n_unique()
    pl.scan_parquet(path).group_by("place").agg(*figures).collect(engine="streaming")
    return time.perf_counter() - started


def opendp(path: Path, _: str) -> float:
    """OpenDP's Polars context with the same bounds (it keeps the first partitions where dpbeam samples)."""
    return _opendp(
        path,
        lambda query: query.truncate_per_group(LINF, by=["place"]).truncate_num_groups(L0, by=["place"], keep="first"),
    )


def opendp_coarse(path: Path, _: str) -> float:
    """OpenDP's Polars context with its cheapest bound: the first 30 rows of a unit."""
    return _opendp(path, lambda query: query.truncate_per_group(L0 * LINF, keep="first"))


def _opendp(path: Path, bound: Any) -> float:
    """Finding the noise scale isn't counted: it takes OpenDP seconds, whatever the data."""
    import opendp.prelude as dp
    import polars as pl

    dp.enable_features("contrib")
    context = dp.Context.compositor(
        data=pl.scan_parquet(path),
        privacy_unit=dp.unit_of(contributions=1, identifier=pl.col("user")),
        privacy_loss=dp.loss_of(epsilon=EPSILON, delta=DELTA),
        split_evenly_over=1,
        margins=[dp.polars.Margin(by=["place"], max_length=100_000_000, max_groups=10_000_000)],
    )
    amount = pl.col("amount").fill_null(0.0).fill_nan(0.0)
    figures = dp.len(), amount.dp.sum((0.0, 10.0)), pl.col("user").n_unique().dp.noise()
    release = bound(context.query()).group_by("place").agg(*figures).release()
    started = time.perf_counter()
    release.collect()
    return time.perf_counter() - started
