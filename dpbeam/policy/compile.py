"""A policy as a question: made once, after it was checked.

Guarantee: the `Query` asks what the policy says, within the policy's bounds: every stage, metric and search of it, and
no more. The plan, its check and the engine read the `Query` alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc

from dpbeam.policy.checks import pre_aggregated
from dpbeam.policy.derived import rule_of
from dpbeam.policy.schema import auto
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.values import canonical
from dpbeam.queries import selections, source
from dpbeam.queries.automatic import CountSearch, Parameter
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.column_types import ColumnType, Scalar
from dpbeam.queries.query import Partitions, Public, Query, Stage
from dpbeam.reading.casting import literal

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
        "Leave such columns out of the policy, or use them"
    )


def input_spec(policy: schema.Policy) -> source.InputSpec:
    """The source, the columns with their rules, the derived columns and the conditions, used or not."""
    columns = tuple(_column(name, rules) for name, rules in policy.columns.items())
    derived = schema.derived_of(policy)
    if {item.name for item in derived} != set(policy.derive):
        raise ValueError("a policy's derived columns are resolved when it is loaded, by load_policy or policy_of")
    types = _types(policy)
    where = tuple(_condition(each, types[each.column]) for each in policy.where)
    return source.InputSpec(
        format=policy.source.format,
        paths=policy.source.path,
        delimiter=policy.source.delimiter,
        quoted_newlines=policy.source.quoted_newlines,
        compression=policy.source.compression,
        path_columns=policy.source.path_columns,
        fingerprint=policy.source.fingerprint,
        columns=columns,
        derived=(*derived, *_placements(policy)),
        where=(*where, *pre_aggregated.conditions(policy.source)),
    )


def _stage(policy: schema.Policy, stage: schema.Stage) -> Stage:
    limits = stage.bounds
    searches: list[tuple[Parameter, CountSearch]] = []
    stated: tuple[tuple[Parameter, object], ...] = (("l0", limits.l0), ("linf", limits.linf), ("l1", limits.l1))
    for name, bound in stated:
        if isinstance(bound, auto.AutoCount):
            found = bound.auto
            searches.append((name, CountSearch(max=found.max, weight=found.weight, otherwise=found.otherwise)))
    linf = _most(limits.linf)
    metrics = tuple(choice.metric(policy.vector_lengths) for choice in stage.metrics)
    if policy.counted_by is not None:
        metrics = tuple(metric.over_aggregated_rows(policy.counted_by, linf) for metric in metrics)
    return Stage(
        name=stage.name,
        keys=stage.group_by,
        key_types=tuple(_types(policy)[key] for key in stage.group_by),
        partitions=_partitions(policy, stage),
        # Of rows aggregated already, linf clips the counts.
        bounds=Bounds(l0=_most(limits.l0), linf=None if policy.counted_by else linf, l1=_most(limits.l1)),
        metrics=metrics,
        noise=stage.noise,
        weight=stage.weight,
        searches=tuple(searches),
        counted_by=policy.counted_by,
        coverage=None if policy.coverage is None else policy.coverage.share,
    )


def _types(policy: schema.Policy) -> dict[str, ColumnType]:
    """The type of each column that is read and of each derived one; of a vector that of its numbers."""
    read = {name: rules.value_type for name, rules in policy.columns.items()}
    return read | {item.name: item.type for item in schema.derived_of(policy)}


def _label(stage: schema.Stage) -> Scalar | None:
    """The partition that takes all rows which aren't in any other; None if there is none."""
    public = None if stage.partitions is None else stage.partitions.public
    return None if public is None else public.other


def _placed(stage: schema.Stage) -> str:
    """The column that has each row's partition: no column of a policy may be called so."""
    return f"__partition.{stage.name}"


def _placements(policy: schema.Policy) -> Iterator[source.Placed]:
    """The columns that have each row's partition, of the stages where one takes all rows that aren't in any other."""
    for stage in policy.stages:
        label, table = _label(stage), schema.public_table_of(policy, stage.name)
        if label is not None and table is not None:
            (key,) = stage.group_by
            kind = _types(policy)[key]
            scalar = literal(canonical(label, kind), kind)
            partitions = table.column(key).combine_chunks()
            listed = partitions.filter(pc.not_equal(partitions, scalar))
            yield source.Placed(name=_placed(stage), column=key, type=kind, listed=listed, label=scalar)


def _most(bound: int | auto.AutoCount | None) -> int | None:
    """A bound's value; the most that it may be where the run finds it."""
    return bound.auto.max if isinstance(bound, auto.AutoCount) else bound


def _partitions(policy: schema.Policy, stage: schema.Stage) -> Partitions:
    private = stage.private
    if private is None:
        table = schema.public_table_of(policy, stage.name)
        if table is None:
            return None
        return Public(table=table, placed=None if _label(stage) is None else _placed(stage))
    hierarchy = selections.Hierarchy(other_l0=private.other_l0) if private.has_others else None
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
        trim=rules.trim,
        on_null=rule_of(rules.on_null, rules.value_type),
        on_nan=rule_of(rules.on_nan, rules.value_type),
        on_inf=rule_of(rules.on_inf, rules.value_type),
        on_invalid=rule_of(rules.on_invalid, rules.value_type),
    )


def _condition(where: schema.Where, kind: ColumnType) -> source.Condition:
    def plain(value: Scalar) -> Scalar:
        return value if kind == "int64" else canonical(value, kind)

    value = tuple(map(plain, where.value)) if isinstance(where.value, tuple) else plain(where.value)
    return source.Condition(column=where.column, op=where.op, value=value)
