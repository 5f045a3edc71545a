"""A run's plan and tables come in; what the reporting room needs to know of them goes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from dpbeam.accounting.utility import NOTES, noise_figure, selection_figure
from dpbeam.ledger.model import Balance
from dpbeam.mechanisms import results
from dpbeam.mechanisms.quantities import named
from dpbeam.mechanisms.spec import StageSpec
from dpbeam.policy.schema import Policy
from dpbeam.reporting import report as reports
from dpbeam.reporting.manifest import Manifest
from dpbeam.reporting.tables import MetricColumn

_CLIPPED = ("sum", "squares", "tree")
"""The quantities whose values are clipped, each by itself."""


def metric_columns(spec: StageSpec) -> tuple[MetricColumn, ...]:
    """The stage's released columns with their noise, which for some metrics differs from partition to partition."""
    found: list[MetricColumn] = []
    for metric in spec.metrics:
        shared = metric.kind == "privacy_id_count" and spec.shares_count
        noise = results.thresholding(spec) if shared else spec.noise[named(metric, spec.quantities)[0].name]
        std = None if metric.kind in NOTES else noise_figure(noise).std
        law: Literal["laplace", "gaussian"] = "laplace" if noise.kind.startswith("laplace") else "gaussian"
        found.extend(
            MetricColumn(name=name, kind=metric.kind, noise=law, std=std, biased=shared) for name in metric.released
        )
    return tuple(found)


def stage_report(spec: StageSpec, table: pa.Table) -> reports.StageReport:
    """One stage as the report shows it."""
    selection = None
    decided = spec.rounds[-1] if spec.rounds else spec.selection
    if decided is not None:
        figure = selection_figure(decided)
        selection = reports.SelectionFacts(
            strategy=figure.kind,
            pre_threshold=figure.pre_threshold,
            keep_50=figure.units_50,
            keep_99=figure.units_99,
            note=figure.note,
        )
    clipped = dict.fromkeys((q.columns[0], q.low, q.high) for q in spec.quantities if q.kind in _CLIPPED)
    totals = dict.fromkeys((q.columns[0], q.low, q.high) for q in spec.quantities if q.kind == "total")
    return reports.StageReport(
        name=spec.name,
        table=table,
        keys=spec.keys,
        metrics=metric_columns(spec),
        l0=spec.bounds.l0,
        linf=spec.bounds.linf,
        l1=spec.bounds.l1,
        selection=selection,
        clipped=tuple(clipped),
        totals=tuple(totals),
    )


def render(manifest: Manifest, stages: Sequence[StageSpec], tables: dict[str, pa.Table], balance: Balance) -> str:
    """report.html of a release, from its manifest (which lists the files written so far)."""
    amounts = {name: getattr(balance, name).to_json() for name in ("cap", "spent", "held", "left")}
    return reports.render_report(
        release=reports.ReleaseFacts(
            release_id=manifest.release_id,
            release_name=manifest.release_name,
            dataset=manifest.dataset,
            created=manifest.created,
            dpbeam_version=manifest.dpbeam_version,
            policy_digest=manifest.policy_digest,
            input_fingerprint=manifest.input_fingerprint,
        ),
        guarantee=manifest.guarantee,
        certificate=manifest.certificate,
        mechanisms=manifest.mechanisms,
        charge=manifest.charge,
        balance=reports.Balance(
            **{f"{name}_{part}": amount[part] for name, amount in amounts.items() for part in ("epsilon", "delta")}
        ),
        stages=[stage_report(spec, tables[spec.name]) for spec in stages],
        files=manifest.files,
    )


def published_tables(folder: Path, policy: Policy) -> dict[str, pa.Table]:
    """The result tables of a published release, by stage."""
    return {stage.name: pq.read_table(folder / f"{stage.name}.parquet") for stage in policy.stages}
