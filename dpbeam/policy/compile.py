"""A policy as a question: made once, after it was checked.

Guarantee: the `Query` asks what the policy says, within the policy's bounds: every stage, metric and search of it, and
no more. The plan, its check and the engine read the `Query` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dpbeam.engine.release.quantile_tree import LEAST_RANK, MOST_RANK
from dpbeam.policy.checks import pre_aggregated
from dpbeam.policy.schema import auto
from dpbeam.policy.schema import metrics as stated
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.values import canonical
from dpbeam.queries import selections, source
from dpbeam.queries.automatic import ClipSearch, CountSearch, Parameter, Side
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metric import Metric
from dpbeam.queries.query import Partitions, Public, Query, Stage

_RANKS = {"median": (0.5,), "min": (LEAST_RANK,), "max": (MOST_RANK,)}


def query(policy: schema.Policy) -> Query:
    """What the policy asks. Public partitions that lie in a file must have been read (`load_policy` does).

    Raises:
        ValueError: the policy didn't come through `load_policy`, and its parts don't fit together.
        UsageError: a custom metric that can't be built.
    """
    return Query(
        dataset=policy.dataset,
        source=input_spec(policy),
        unit=None if policy.privacy_unit == "row" else policy.privacy_unit,
        stages=tuple(_stage(policy, stage) for stage in policy.stages),
        epsilon=policy.run.epsilon,
        delta=policy.run.delta,
        digest=policy.digest,
    )


def input_spec(policy: schema.Policy) -> source.InputSpec:
    """The source, the columns with their rules, the derived columns and the conditions."""
    columns = tuple(_column(name, rules) for name, rules in policy.columns.items())
    types = {name: rules.value_type for name, rules in policy.columns.items()}
    where = tuple(_condition(each, types.get(each.column, "string")) for each in policy.where)
    return source.InputSpec(
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


def text_of(value: source.Scalar) -> str:
    """A candidate as the engine writes values of its column's type."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _stage(policy: schema.Policy, stage: schema.Stage) -> Stage:
    limits = stage.bounds
    searches: list[tuple[Parameter, CountSearch]] = []
    for name, bound in (("l0", limits.l0), ("linf", limits.linf), ("l1", limits.l1)):
        if isinstance(bound, auto.AutoCount):
            searches.append((name, CountSearch(max=bound.auto.max, weight=bound.auto.weight)))  # type: ignore[arg-type]
    linf = _most(limits.linf)
    found = tuple(metric(choice, policy.vector_lengths) for choice in stage.metrics)
    if policy.counted_by is not None:
        found = tuple(pre_aggregated.metric(each, policy.counted_by, linf) for each in found)
    return Stage(
        name=stage.name,
        keys=stage.group_by,
        key_types=tuple("string" if key in policy.derive else policy.columns[key].value_type for key in stage.group_by),
        partitions=_partitions(policy, stage),
        # Of rows aggregated already, linf clips the counts.
        bounds=Bounds(l0=_most(limits.l0), linf=None if policy.counted_by else linf, l1=_most(limits.l1)),
        metrics=found,
        noise=stage.noise,
        weight=stage.weight,
        searches=tuple(searches),
        counted_by=policy.counted_by,
    )


def _most(bound: int | auto.AutoCount | None) -> int | None:
    """A bound's value; the most that it may be where the run finds it."""
    return bound.auto.max if isinstance(bound, auto.AutoCount) else bound


def _partitions(policy: schema.Policy, stage: schema.Stage) -> Partitions:
    private = stage.private
    if private is None:
        table = schema.public_table_of(policy, stage.name)
        return None if table is None else Public(table=table)
    hierarchy = selections.Hierarchy(other_l0=private.other_l0) if private.hierarchical else None
    (kind,) = (kind for kind in selections.SELECTIONS if kind.strategy == private.strategy)
    if kind is selections.DpSips:
        return selections.DpSips(
            pre_threshold=private.pre_threshold,
            weight=private.weight,
            hierarchy=hierarchy,
            rounds=private.rounds,
        )
    return kind(pre_threshold=private.pre_threshold, weight=private.weight, hierarchy=hierarchy)


def _clipped(made: Metric, column: str, low: float | auto.AutoClip, high: float | auto.AutoClip) -> Metric:
    ends: dict[Side, float] = {}
    searches: list[tuple[Side, ClipSearch]] = []
    for side, bound in (("low", low), ("high", high)):
        if isinstance(bound, auto.AutoClip):
            search = ClipSearch(least=bound.auto.least, most=bound.auto.most, weight=bound.auto.weight)
            searches.append((side, search))  # type: ignore[arg-type]
            bound = search.farthest(side)  # type: ignore[arg-type]
        ends[side] = float(bound)  # type: ignore[index]
    return replace(made, column=column, low=ends["low"], high=ends["high"], searches=tuple(searches))


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _column(name: str, rules: schema.ColumnRules) -> source.Column:
    return source.Column(
        name=name,
        type=rules.type,
        field=rules.field,
        length=rules.length,
        on_null=_rule(rules.on_null, rules.value_type),
        on_nan=_rule(rules.on_nan, rules.value_type),
        on_inf=_rule(rules.on_inf, rules.value_type),
        on_invalid=_rule(rules.on_invalid, rules.value_type),
    )


def _rule(word: str | schema.Replace, kind: source.ColumnType) -> source.Rule:
    if isinstance(word, schema.Replace):
        return source.Rule(action="replace", value=canonical(word.replace, kind))
    return source.Rule(action="fail" if word == "fail" else "drop")


def _derived(name: str, derive: schema.DeriveBin | schema.DeriveTruncate | schema.DeriveLower) -> source.Derived:
    match derive:
        case schema.DeriveBin():
            return source.Bin(name=name, column=derive.bin, edges=tuple(map(float, derive.edges)))
        case schema.DeriveTruncate():
            return source.Truncate(name=name, column=derive.truncate, unit=derive.to)
        case schema.DeriveLower():
            return source.Lower(name=name, column=derive.lower)


def _condition(where: schema.Where, kind: source.ColumnType) -> source.Condition:
    def plain(value: source.Scalar) -> source.Scalar:
        return value if kind == "int64" else canonical(value, kind)

    value = tuple(map(plain, where.value)) if isinstance(where.value, tuple) else plain(where.value)
    return source.Condition(column=where.column, op=where.op, value=value)
