"""A policy comes in; the plain values that the plan and the engine work with go out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from dpbeam.engine.release.quantile_tree import LEAST_RANK, MOST_RANK
from dpbeam.mechanisms.events import (
    Additive,
    Gaussian,
    Laplace,
    Mechanism,
    Selection,
    Thresholding,
    TruncatedGeometric,
    WeightedThresholding,
)
from dpbeam.policy.checks import pre_aggregated
from dpbeam.policy.schema import auto
from dpbeam.policy.schema import metrics as stated
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.values import canonical
from dpbeam.query import spec
from dpbeam.query.bounds import Bounds
from dpbeam.query.metric import Metric
from dpbeam.query.quantities import noisy_by_themselves

_RANKS = {"median": (0.5,), "min": (LEAST_RANK,), "max": (MOST_RANK,)}


def input_spec(policy: schema.Policy) -> spec.InputSpec:
    """The source, the columns with their rules, the derived columns and the conditions."""
    columns = tuple(_column(name, rules) for name, rules in policy.columns.items())
    types = {name: rules.value_type for name, rules in policy.columns.items()}
    where = tuple(_condition(each, types.get(each.column, "string")) for each in policy.where)
    return spec.InputSpec(
        format=policy.source.format,
        paths=policy.source.path,
        delimiter=policy.source.delimiter,
        quoted_newlines=policy.source.quoted_newlines,
        compression=policy.source.compression,
        path_columns=policy.source.path_columns,
        columns=columns,
        derived=tuple(_derived(name, derive) for name, derive in policy.derive.items()),
        where=(*where, *pre_aggregated.conditions(policy.source)),
    )


def metrics(stage: schema.Stage) -> tuple[Metric, ...]:
    """The stage's metrics, in order."""
    found = tuple(metric(choice, stage.vector_lengths) for choice in stage.metrics)
    if stage.counted_by is not None:
        return tuple(pre_aggregated.metric(each, stage.counted_by, auto.count(stage.bounds.linf)) for each in found)
    return found


def metric(choice: stated.MetricChoice, lengths: Mapping[str, int]) -> Metric:
    """One metric, with the ranks of those that are quantiles by another name; `lengths` are those of the columns that
    hold vectors."""
    args = choice.args
    made = Metric(kind=choice.kind, name=choice.result_name, weight=args.weight)
    match args:
        case stated.VectorSumArgs():
            made = replace(made, columns=args.columns, norm=args.norm, max_norm=float(args.max_norm))
            several = any(name in lengths for name in args.columns)
            return replace(made, length=sum(lengths.get(name, 1) for name in args.columns)) if several else made
        case stated.HistogramArgs():
            return replace(made, column=args.column, edges=tuple(map(float, args.edges)))
        case stated.CustomArgs():
            return replace(made, columns=args.columns, custom=args.build())
        case stated.TopKArgs():
            return replace(
                made,
                column=args.column,
                k=args.k,
                max_values=args.max_values,
                pre_threshold=args.pre_threshold,
                candidates=tuple(map(text_of, args.candidates or ())),
            )
        case stated.ColumnArgs():
            return replace(made, column=args.column)
        case stated.SumArgs():
            if args.low is None or args.high is None:
                low_total, high_total = _float(args.low_total), _float(args.high_total)
                return replace(made, column=args.column, low_total=low_total, high_total=high_total)
            return _clipped(made, args.column, args.low, args.high)
        case stated.ValueArgs():
            made = _clipped(made, args.column, args.low, args.high)
            if isinstance(args, stated.QuantilesArgs):
                return replace(made, ranks=tuple(map(float, args.ranks)))
            return replace(made, ranks=_RANKS.get(choice.kind, ()))
    return made


def text_of(value: spec.Scalar) -> str:
    """A candidate as the engine writes values of its column's type."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def bounds(stage: schema.Stage) -> Bounds:
    """What one privacy unit may contribute to the stage; the most that it may where the run hasn't chosen yet.

    Of rows aggregated already, `linf` clips the counts.
    """
    limits = stage.bounds
    if stage.counted_by is not None:
        return Bounds(l0=auto.count(limits.l0))
    return Bounds(l0=auto.count(limits.l0), linf=auto.count(limits.linf), l1=auto.count(limits.l1))


def key_types(policy: schema.Policy, stage: schema.Stage) -> tuple[spec.ColumnType, ...]:
    """The types of the stage's keys; derived columns are text."""
    return tuple("string" if key in policy.derive else policy.columns[key].value_type for key in stage.group_by)


def public_partitions(policy: schema.Policy, stage: schema.Stage) -> pa.Table | None:
    """The stage's public partitions, distinct, one column a key; None where it selects partitions privately."""
    return schema.public_table_of(policy, stage.name)


def stage_specs(policy: schema.Policy, mechanisms: Sequence[Mechanism]) -> tuple[spec.StageSpec, ...]:
    """Every stage with the mechanisms that the plan gave it."""
    return tuple(stage_spec(policy, stage, mechanisms) for stage in policy.stages)


def stage_spec(policy: schema.Policy, stage: schema.Stage, mechanisms: Sequence[Mechanism]) -> spec.StageSpec:
    """The stage with the mechanisms that the plan gave it.

    Raises:
        ValueError: the plan lacks a mechanism that the stage needs, or has one too many.
    """
    noise: dict[str, Additive] = {}
    thresholds: dict[str, Thresholding] = {}
    selection: Selection | None = None
    rounds: list[WeightedThresholding] = []
    for mechanism in mechanisms:
        if mechanism.stage != stage.name:
            continue
        if isinstance(mechanism, Laplace | Gaussian):
            noise[mechanism.metric] = mechanism
        elif isinstance(mechanism, WeightedThresholding):
            rounds.append(mechanism)
        elif mechanism.metric == "partitions" or isinstance(mechanism, TruncatedGeometric):
            selection = mechanism
        else:
            thresholds[mechanism.metric] = mechanism
    made = spec.StageSpec(
        name=stage.name,
        unit=None if policy.privacy_unit == "row" else policy.privacy_unit,
        keys=stage.group_by,
        key_types=key_types(policy, stage),
        bounds=bounds(stage),
        metrics=metrics(stage),
        noise=noise,
        selection=selection,
        thresholds=thresholds,
        rounds=tuple(rounds),
        hierarchical=stage.private is not None and stage.private.hierarchical,
        other_l0=None if stage.private is None else stage.private.other_l0,
    )
    needed = noisy_by_themselves(made.quantities, stage.counting)
    by_threshold = {quantity.name for quantity in needed if quantity.kind == "values"}
    if set(thresholds) != by_threshold or set(noise) != {quantity.name for quantity in needed} - by_threshold:
        raise ValueError(f"stage {stage.name}: the plan's noise doesn't match the stage's quantities")
    if (selection is None and not rounds) != (stage.private is None):
        raise ValueError(f"stage {stage.name}: the plan's selection doesn't match the stage's partitions")
    return made


def _clipped(made: Metric, column: str, low: float | auto.AutoClip, high: float | auto.AutoClip) -> Metric:
    found = tuple(side for side, bound in (("low", low), ("high", high)) if isinstance(bound, auto.AutoClip))
    return replace(made, column=column, low=auto.number(low, "low"), high=auto.number(high, "high"), auto=found)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _column(name: str, rules: schema.ColumnRules) -> spec.Column:
    return spec.Column(
        name=name,
        type=rules.type,
        field=rules.field,
        length=rules.length,
        on_null=_rule(rules.on_null, rules.value_type),
        on_nan=_rule(rules.on_nan, rules.value_type),
        on_inf=_rule(rules.on_inf, rules.value_type),
        on_invalid=_rule(rules.on_invalid, rules.value_type),
    )


def _rule(word: str | schema.Replace, kind: spec.ColumnType) -> spec.Rule:
    if isinstance(word, schema.Replace):
        return spec.Rule(action="replace", value=canonical(word.replace, kind))
    return spec.Rule(action="fail" if word == "fail" else "drop")


def _derived(name: str, derive: schema.DeriveBin | schema.DeriveTruncate | schema.DeriveLower) -> spec.Derived:
    match derive:
        case schema.DeriveBin():
            return spec.Bin(name=name, column=derive.bin, edges=tuple(map(float, derive.edges)))
        case schema.DeriveTruncate():
            return spec.Truncate(name=name, column=derive.truncate, unit=derive.to)
        case schema.DeriveLower():
            return spec.Lower(name=name, column=derive.lower)


def _condition(where: schema.Where, kind: spec.ColumnType) -> spec.Condition:
    def plain(value: spec.Scalar) -> spec.Scalar:
        return value if kind == "int64" else canonical(value, kind)

    value = tuple(map(plain, where.value)) if isinstance(where.value, tuple) else plain(where.value)
    return spec.Condition(column=where.column, op=where.op, value=value)
