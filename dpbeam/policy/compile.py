"""A policy as a question: made once, after it was checked.

Guarantee: the `Query` asks what the policy says, within the policy's bounds: every stage, metric and search of it, and
no more. The plan, its check and the engine read the `Query` alone.
"""

from __future__ import annotations

from dpbeam.policy.checks import pre_aggregated
from dpbeam.policy.schema import auto
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.values import canonical
from dpbeam.queries import selections, source
from dpbeam.queries.automatic import CountSearch, Parameter
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.query import Partitions, Public, Query, Stage

_SHOWN = 10


def query(policy: schema.Policy) -> Query:
    """What the policy asks. Public partitions that lie in a file must have been read (`load_policy` does).

    Raises:
        ValueError: the policy didn't come through `load_policy`, and its parts don't fit together.
        UsageError: a custom metric that can't be built.
    """
    unit = None if policy.privacy_unit == "row" else policy.privacy_unit
    stages = tuple(_stage(policy, stage) for stage in policy.stages)
    needed = {column for stage in stages for column in stage.columns}
    return Query(
        dataset=policy.dataset,
        source=source.reduced(input_spec(policy), needed if unit is None else needed | {unit}),
        unit=unit,
        stages=stages,
        epsilon=policy.run.epsilon,
        delta=policy.run.delta,
        digest=policy.digest,
    )


def warning(asked: Query) -> str | None:
    """What is worth knowing of a question before it is asked: the columns that it declares and never uses."""
    unused = asked.source.unused
    if not unused:
        return None
    few, more = ", ".join(unused[:_SHOWN]), f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
    return (
        f"no stage, condition or derived column in use needs {few}{more}: rules there drop no rows and fail no run. "
        "Leave it out of the policy, or use it"
    )


def input_spec(policy: schema.Policy) -> source.InputSpec:
    """The source, the columns with their rules, the derived columns and the conditions, used or not."""
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


def _stage(policy: schema.Policy, stage: schema.Stage) -> Stage:
    limits = stage.bounds
    searches: list[tuple[Parameter, CountSearch]] = []
    for name, bound in (("l0", limits.l0), ("linf", limits.linf), ("l1", limits.l1)):
        if isinstance(bound, auto.AutoCount):
            searches.append((name, CountSearch(max=bound.auto.max, weight=bound.auto.weight)))  # type: ignore[arg-type]
    linf = _most(limits.linf)
    metrics = tuple(choice.metric(policy.vector_lengths) for choice in stage.metrics)
    if policy.counted_by is not None:
        metrics = tuple(metric.over_aggregated_rows(policy.counted_by, linf) for metric in metrics)
    return Stage(
        name=stage.name,
        keys=stage.group_by,
        key_types=tuple("string" if key in policy.derive else policy.columns[key].value_type for key in stage.group_by),
        partitions=_partitions(policy, stage),
        # Of rows aggregated already, linf clips the counts.
        bounds=Bounds(l0=_most(limits.l0), linf=None if policy.counted_by else linf, l1=_most(limits.l1)),
        metrics=metrics,
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
