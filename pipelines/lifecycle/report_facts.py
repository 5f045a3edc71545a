"""What the report says of a run's plan and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from dpbeam.accounting.utility import noise_figure, selection_figure
from dpbeam.engine.stage import StageSpec
from dpbeam.ledger.accounts import Balance
from dpbeam.mechanisms.events import (
    Additive,
    Gaussian,
    Laplace,
    Mechanism,
    Selection,
    Thresholding,
    WeightedThresholding,
    others_of,
)
from dpbeam.mechanisms.targets import OfPartitions, OfRound, target_of
from dpbeam.phases.phase import Parameters
from dpbeam.pipelines.lifecycle import shown_order
from dpbeam.pipelines.lifecycle.metered import as_epsilon
from dpbeam.queries.quantities import NormClipped, Squares, Sum, Total, Tree, UnitsByValue, Values
from dpbeam.queries.source import Derived
from dpbeam.reporting import facts
from dpbeam.reporting.coverage import of_stage
from dpbeam.reporting.manifest import ChosenBound, Coverage, Manifest, by_stage
from dpbeam.reporting.report import render_report
from dpbeam.reporting.tables import MetricColumn


def metric_columns(spec: StageSpec) -> tuple[MetricColumn, ...]:
    """The stage's released columns with their noise, which for some metrics differs from partition to partition."""
    columns: list[MetricColumn] = []
    for metric in spec.metrics:
        quantity = spec.made_from(metric)[0].name
        biased = spec.passed_threshold(metric)
        passed = (spec.thresholds.get(quantity) or spec.thresholding) if biased else None
        noise: Additive | Thresholding = passed or spec.noise[quantity]
        std = noise_figure(noise).std if metric.note is None else None
        others = others_of(noise)
        other_std = None if std is None or others is None or others.noise == 1 else std * others.noise
        law: Literal["laplace", "gaussian"] = "laplace" if noise.kind.startswith("laplace") else "gaussian"
        labels = metric.labels or (None,) * len(metric.released)
        columns.extend(
            MetricColumn(
                name=name,
                kind=metric.kind,
                noise=law,
                std=std,
                other_std=other_std,
                biased=biased,
                label=label,
                place=place,
                of=len(labels),
            )
            for place, (name, label) in enumerate(zip(metric.released, labels, strict=True))
        )
    return tuple(columns)


def stage_report(
    spec: StageSpec,
    table: pa.Table,
    mechanisms: Sequence[Mechanism],
    chosen: Sequence[ChosenBound] = (),
    derived: Sequence[Derived] = (),
    public: pa.Table | None = None,
    coverage: Coverage | None = None,
) -> facts.StageReport:
    """One stage as the report shows it; `mechanisms` are those of the run, `chosen` the bounds that it found, `derived`
    the columns that the policy derives, `public` the stage's partitions where it lists them, and `coverage` what became
    of its rows."""
    table, order = shown_order.ordered(spec, table, derived, public)
    decided = _deciding(spec.name, mechanisms)
    values = tuple(
        facts.ValueFacts(
            name=metric.name,
            column=quantity.columns[0],
            max_values=quantity.max_values,
            selection=_selection(spec.thresholds[quantity.name]) if isinstance(quantity, Values) else None,
        )
        for metric in spec.metrics
        for quantity in spec.made_from(metric)
        if isinstance(quantity, UnitsByValue)
    )
    by_itself = (q for q in spec.quantities if isinstance(q, Sum | Squares | Tree))
    clipped = dict.fromkeys((q.columns[0], q.low, q.high) for q in by_itself)
    totals = dict.fromkeys((q.columns[0], q.low, q.high) for q in spec.quantities if isinstance(q, Total))
    return facts.StageReport(
        name=spec.name,
        table=table,
        keys=spec.result_keys,
        metrics=metric_columns(spec),
        l0=spec.bounds.l0,
        linf=spec.bounds.linf,
        l1=spec.bounds.l1,
        selection=None if decided is None else _selection(decided),
        other_leaves=spec.other_leaves if spec.hierarchical else None,
        clipped=tuple(clipped),
        totals=tuple(totals),
        values=values,
        shortened=tuple((q.name, q.norm, q.max_norm) for q in spec.quantities if isinstance(q, NormClipped)),
        chosen=tuple(chosen),
        coverage=coverage,
        order=order,
    )


def _deciding(stage: str, mechanisms: Sequence[Mechanism]) -> Selection | WeightedThresholding | None:
    """The mechanism that decides on the stage's partitions: of rounds, the last; None where they are public."""
    deciding = None
    for mechanism in mechanisms:
        match target_of(mechanism):
            case OfPartitions(stage=of) | OfRound(stage=of) if of == stage:
                if isinstance(mechanism, Laplace | Gaussian):
                    raise ValueError(f"stage {stage}: partitions must be selected by a selection, got {mechanism.kind}")
                deciding = mechanism
    return deciding


def _selection(mechanism: Selection | WeightedThresholding) -> facts.SelectionFacts:
    figure = selection_figure(mechanism)
    return facts.SelectionFacts(
        strategy=figure.kind,
        pre_threshold=figure.pre_threshold,
        keep_50=figure.units_50,
        keep_99=figure.units_99,
        note=figure.note,
    )


def render(manifest: Manifest, known: Parameters, tables: Mapping[str, pa.Table], balance: Balance) -> str:
    """report.html of a release, from its manifest (which lists the files written so far) and what its run knew."""
    chosen = by_stage(manifest.chosen_bounds)
    listed = {stage.name: stage.public for stage in known.query.stages}  # what rounds of selection found isn't listed
    amounts = {name: getattr(balance, name).to_json() for name in ("cap", "spent", "held", "left")}
    loss = balance.meter.field
    return render_report(
        release=facts.ReleaseFacts(
            release_id=manifest.release_id,
            release_name=manifest.release_name,
            dataset=manifest.dataset,
            created=manifest.created,
            dpbeam_version=manifest.dpbeam_version,
            policy_digest=manifest.policy_digest,
            input_fingerprint=manifest.input_fingerprint,
            engine=manifest.engine,
            about=manifest.about,
            period=manifest.period,
        ),
        guarantee=manifest.guarantee,
        certificate=manifest.certificate,
        mechanisms=manifest.mechanisms,
        charge=manifest.charge,
        balance=facts.Balance(
            **{f"{name}_epsilon": amount[loss] for name, amount in amounts.items()},
            **{f"{name}_delta": amount["delta"] for name, amount in amounts.items()},
            spent_as_epsilon=as_epsilon(balance.spent, amounts["cap"]["delta"]),
        ),
        stages=[
            stage_report(
                spec,
                tables[spec.name],
                manifest.mechanisms,
                chosen.get(spec.name, ()),
                known.query.source.derived,
                listed[spec.name],
                of_stage(manifest.coverage, spec.name),
            )
            for spec in known.stages
        ],
        files=manifest.files,
    )


def published_tables(folder: Path, stages: Sequence[StageSpec]) -> dict[str, pa.Table]:
    """The result tables of a published release, by stage."""
    return {stage.name: pq.ParquetFile(folder / f"{stage.name}.parquet").read() for stage in stages}
