"""The parts of a policy come in; what is wrong between them goes out: names that don't exist or clash, types."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from dpbeam.errors import UsageError
from dpbeam.mechanisms.spec import LEVEL, ColumnType
from dpbeam.mechanisms.weights import MOST_L0
from dpbeam.policy import metrics, pre_aggregated, schema
from dpbeam.policy.auto import AutoClip, AutoCount, ClipSearch
from dpbeam.policy.compile import metric as compile_metric
from dpbeam.policy.compile import text_of
from dpbeam.policy.fields import closest
from dpbeam.policy.parts import Parts, StageParts
from dpbeam.policy.source_checks import source_findings
from dpbeam.policy.values import DESCRIPTIONS, suits
from dpbeam.policy.violations import ABSENT, Finding, Key

_NUMERIC = ("int64", "float64")
_KEYS = ("string", "int64", "bool", "date", "timestamp")
_TEXTS = ("string", "int64", "bool", "date")
_RESERVED = ("count", "privacy_id_count", "partitions")
_STARTS = ("__", "partitions.")
_PART_NAMES = (".sum", ".squares", ".tree")
_LEAST_WIDTH = 1e-15
_RULES = ("on_null", "on_nan", "on_inf", "on_invalid")


def cross_findings(parts: Parts) -> list[Finding]:
    """Every violation that no key shows by itself. Parts that are wrong by themselves are passed over."""
    return [
        *source_findings(parts),
        *_columns(parts),
        *_derived(parts),
        *_unit(parts),
        *pre_aggregated.unit_findings(parts),
        *_where(parts),
        *_budgets(parts),
        *(finding for index, stage in enumerate(parts.stages) for finding in _stage(parts, stage, index)),
        *_unique([stage.name for stage in parts.stages], "stages", "name", "Give every stage a name of its own."),
    ]


def _columns(parts: Parts) -> Iterator[Finding]:
    for name, rules in parts.columns.items():
        key: Key = ("columns", name)
        if not name or name.startswith("__"):
            rule = "must have a name that is not empty and doesn't start with __"
            yield Finding(key=key, rule=rule, remedy="Rename the column in the source.", value=ABSENT)
        if rules is None:
            continue
        for rule_name in _RULES:
            word = getattr(rules, rule_name)
            if rule_name in ("on_nan", "on_inf") and rules.type != "float64" and word != "drop":
                rule = f"applies to float64 columns only, and {name} is {rules.type}"
                yield Finding(key=(*key, rule_name), rule=rule, remedy="Leave the key out.", value=ABSENT)
            elif isinstance(word, schema.Replace) and not suits(word.replace, rules.type):
                yield Finding(
                    key=(*key, rule_name, "replace"),
                    rule=f"must be {DESCRIPTIONS[rules.type]}, for {name} is {rules.type}",
                    remedy="Give a value of the column's type.",
                    value=word.replace,
                )


def _derived(parts: Parts) -> Iterator[Finding]:
    for name, derive in parts.derive.items():
        key: Key = ("derive", name)
        if not name or name.startswith("__"):
            rule = "must have a name that is not empty and doesn't start with __"
            yield Finding(key=key, rule=rule, remedy="Give it another name.", value=ABSENT)
        if name in parts.columns:
            rule = "has the name of a column that is read"
            yield Finding(key=key, rule=rule, remedy="Give the derived column a name of its own.", value=ABSENT)
        match derive:
            case schema.DeriveBin():
                yield from _column(parts, (*key, "bin"), derive.bin, _NUMERIC, derived=False)
                yield from _rising(derive.edges, (*key, "edges"))
            case schema.DeriveTruncate():
                types = ("timestamp",) if derive.to in ("hour", "minute") else ("date", "timestamp")
                yield from _column(parts, (*key, "truncate"), derive.truncate, types, derived=False)
            case schema.DeriveLower():
                yield from _column(parts, (*key, "lower"), derive.lower, ("string",), derived=False)


def _unit(parts: Parts) -> Iterator[Finding]:
    unit = parts.privacy_unit
    if "row" in parts.columns:
        rule = "must not be called row, for privacy_unit: row means that every row is a unit of its own"
        yield Finding(key=("columns", "row"), rule=rule, remedy="Rename the column in the source.", value=ABSENT)
    if unit is None or unit == "row":
        return
    yield from _column(parts, ("privacy_unit",), unit, ("string", "int64"), derived=False)
    rules = parts.columns.get(unit)
    for rule_name in _RULES if rules is not None else ():
        if isinstance(getattr(rules, rule_name), schema.Replace):
            yield Finding(
                key=("columns", unit, rule_name),
                rule="must be drop or fail for the privacy unit: a stand-in would make one unit of many people",
                remedy="Write drop or fail.",
                value=ABSENT,
            )


def _where(parts: Parts) -> Iterator[Finding]:
    for index, condition in enumerate(parts.where):
        if condition is None:
            continue
        key: Key = ("where", index)
        found = list(_column(parts, (*key, "column"), condition.column, tuple(DESCRIPTIONS)))
        yield from found
        kind = parts.type_of(condition.column)
        many = condition.op in ("in", "not_in")
        if many != isinstance(condition.value, tuple):
            rule = f"must be {'a list' if many else 'one value'} for the operator {condition.op}"
            yield Finding(key=(*key, "value"), rule=rule, remedy="Change the value or the operator.", value=ABSENT)
        elif condition.value == ():
            rule, remedy = "must have at least one entry", "List the values, or remove the condition."
            yield Finding(key=(*key, "value"), rule=rule, remedy=remedy, value=[])
        elif kind is not None:
            if kind == "bool" and condition.op in ("<", "<=", ">", ">="):
                rule = "must be ==, !=, in or not_in for a bool column"
                yield Finding(key=(*key, "op"), rule=rule, remedy="Compare with true or false.", value=condition.op)
            values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
            for value in values:
                fits = suits(value, kind) or (kind == "int64" and isinstance(value, float))
                if not fits:
                    rule = f"must be {DESCRIPTIONS[kind]}, for {condition.column} is {kind}"
                    remedy = "Compare with a value of the column's type."
                    yield Finding(key=(*key, "value"), rule=rule, remedy=remedy, value=value)


def _budgets(parts: Parts) -> Iterator[Finding]:
    run, budget, guard = parts.run, parts.budget, parts.guardrails
    if run is None:
        return
    for name in ("epsilon", "delta"):
        asked = getattr(run, name)
        if budget is not None and not asked <= getattr(budget, name):
            rule = f"must be at most budget.{name}, {getattr(budget, name)!r}"
            yield Finding(key=("run", name), rule=rule, remedy="Ask for less in a run.", value=asked)
        limit = None if guard is None else getattr(guard, f"max_{name}_per_run")
        if limit is not None and not asked <= limit:
            rule = f"must be at most guardrails.max_{name}_per_run, {limit!r}"
            yield Finding(key=("run", name), rule=rule, remedy="Ask for less in a run.", value=asked)


def _stage(parts: Parts, stage: StageParts, index: int) -> Iterator[Finding]:
    key: Key = ("stages", index)
    for place, name in enumerate(stage.group_by):
        if name is not None:
            yield from _column(parts, (*key, "group_by", place), name, _KEYS)
            if name == parts.privacy_unit:
                rule = "must not be the privacy unit: each partition would be one person"
                yield Finding(key=(*key, "group_by", place), rule=rule, remedy="Group by other columns.", value=name)
    yield from _unique(list(stage.group_by), (*key, "group_by"), None, "Name each column once.")
    yield from _whole(stage, key)
    bounds = stage.bounds
    if parts.privacy_unit == "row" and bounds is not None and (bounds.l0, bounds.linf, bounds.l1) != (1, 1, None):
        rule = "must be l0: 1 and linf: 1 with privacy_unit: row, for each row is a unit of its own"
        yield Finding(key=(*key, "bounds"), rule=rule, remedy="Write bounds: {l0: 1, linf: 1}.", value=ABSENT)
    private = None if stage.partitions is None else stage.partitions.private
    least = None if parts.guardrails is None else parts.guardrails.min_pre_threshold
    if private is not None and least is not None and private.pre_threshold < least:
        yield Finding(
            key=(*key, "partitions", "private", "pre_threshold"),
            rule=f"must be at least guardrails.min_pre_threshold, {least}",
            remedy=f"Write pre_threshold: {least} or more.",
            value=private.pre_threshold,
        )
    if private is not None:
        yield from _rounds(parts, stage, private, (*key, "partitions", "private"))
        yield from _hierarchy(parts, stage, private, key)
    yield from _selecting(stage, key)
    yield from _metrics(parts, stage, key)
    yield from pre_aggregated.stage_findings(parts, stage, key)


def _selecting(stage: StageParts, key: Key) -> Iterator[Finding]:
    """What doesn't fit a stage without metrics, which releases the partitions that it keeps; or one with metrics."""
    if stage.metrics and not stage.has_noise:
        yield Finding(key=(*key, "noise"), rule="is required", remedy="Write laplace or gaussian.", value=ABSENT)
    if stage.metrics or not stage.has_metrics:
        return
    if (stage.partitions is not None and stage.partitions.private is None) or not stage.group_by:
        rule = "must have at least one entry where the partitions are known beforehand"
        remedy = "List at least one of count, privacy_id_count, {sum: …} and {mean: …}."
        yield Finding(key=(*key, "metrics"), rule=rule, remedy=remedy, value=[])
    elif stage.has_noise:
        rule = "must be left out where there are no metrics to add it to"
        yield Finding(key=(*key, "noise"), rule=rule, remedy="Remove it, or list metrics.", value=ABSENT)


def _rounds(parts: Parts, stage: StageParts, private: schema.Private, key: Key) -> Iterator[Finding]:
    """What doesn't fit a strategy that selects in rounds, by weights; or one that doesn't."""
    if private.rounds is not None and private.strategy != "dp_sips":
        rule, remedy = "applies to the strategy dp_sips only", "Leave the key out."
        yield Finding(key=(*key, "rounds"), rule=rule, remedy=remedy, value=private.rounds)
    if private.strategy not in ("dp_sips", "mad", "mad2r"):
        return
    if parts.privacy_unit == "row":
        rule = "must select by unit counts with privacy_unit: row, where no unit has several partitions to weigh"
        remedy = "Write truncated_geometric, laplace_thresholding or gaussian_thresholding."
        yield Finding(key=(*key, "strategy"), rule=rule, remedy=remedy, value=private.strategy)
    stated = None if stage.bounds is None else stage.bounds.l0 or stage.bounds.l1
    most = stated.auto.max if isinstance(stated, AutoCount) else stated
    if private.strategy != "dp_sips" and most is not None and most > MOST_L0:
        rule = f"must be dp_sips, or one that counts units, where one unit may be in more than {MOST_L0} partitions"
        remedy = f"Write dp_sips, or lower l0 or l1 to {MOST_L0}."
        yield Finding(key=(*key, "strategy"), rule=rule, remedy=remedy, value=private.strategy)


def _hierarchy(parts: Parts, stage: StageParts, private: schema.Private, key: Key) -> Iterator[Finding]:
    """What doesn't fit hierarchical keys."""
    if not private.hierarchical:
        return
    at: Key = (*key, "partitions", "private", "hierarchical")
    if len(stage.group_by) < 2 or (stage.has_metrics and not stage.metrics):
        rule = "needs at least two columns in group_by, from coarse to fine, and a metric"
        yield Finding(key=at, rule=rule, remedy="Leave the key out, or list them.", value=ABSENT)
    names = [m.args.name or m.result_name for m in stage.metrics if m is not None]
    if LEVEL in (*parts.columns, *parts.derive, *names):
        rule = f"adds a result column {LEVEL!r}, so no column and no metric of the stage may be called that"
        yield Finding(key=at, rule=rule, remedy="Rename it.", value=ABSENT)


def _whole(stage: StageParts, key: Key) -> Iterator[Finding]:
    """What doesn't fit a stage whose one partition is the whole table, or a stage that has several."""
    if stage.group_by and not stage.has_partitions:
        rule = "is required where group_by names columns"
        remedy = "Write partitions: {private: {strategy: truncated_geometric}} or {public: {values: [a, b]}}."
        yield Finding(key=(*key, "partitions"), rule=rule, remedy=remedy, value=ABSENT)
    if stage.group_by or not stage.has_group_by:
        return
    if stage.has_partitions:
        rule = "must be left out where group_by is empty: the whole table is the one partition, and it is public"
        yield Finding(key=(*key, "partitions"), rule=rule, remedy="Remove it, or group by a column.", value=ABSENT)
    if stage.bounds is not None and (stage.bounds.l0 or 1) != 1:
        rule = "must be 1 where group_by is empty: there is one partition"
        remedy = "Write l0: 1; a larger one would only add noise."
        value = ABSENT if isinstance(stage.bounds.l0, AutoCount) else stage.bounds.l0
        yield Finding(key=(*key, "bounds", "l0"), rule=rule, remedy=remedy, value=value)


def _metrics(parts: Parts, stage: StageParts, key: Key) -> Iterator[Finding]:
    yield from _one_search(stage, key)
    taken = {name: "a column of group_by" for name in stage.group_by if name is not None}
    for place, metric in enumerate(stage.metrics):
        if metric is None:
            continue
        at: Key = (*key, "metrics", place, metric.kind)
        yield from _arguments(parts, metric.args, at)
        yield from _least_units(parts, metric.args, at)
        if isinstance(metric.args, metrics.CustomArgs):
            broken = list(_custom(metric.args, at))
            yield from broken
            if broken:
                continue
        if stage.bounds is not None and stage.bounds.l0 is not None and stage.bounds.linf is None:
            total = isinstance(metric.args, metrics.SumArgs) and metric.args.low_total is not None
            if metric.kind not in ("privacy_id_count", "top_k") and not total:
                yield Finding(
                    key=at,
                    rule="adds up rows, and bounds.l0 alone doesn't say how many one unit may have in a partition",
                    remedy="Give bounds.linf too, or sum totals: low_total and high_total.",
                    value=ABSENT,
                )
        reserved = metric.result_name in _RESERVED and type(metric.args) is not metrics.CountArgs
        if metric.result_name.startswith(_STARTS) or reserved or metric.result_name.endswith(_PART_NAMES):
            rule = (
                f"must not start with {' or '.join(_STARTS)} or end with {' or '.join(_PART_NAMES)}; "
                f"only a count may be called {' or '.join(_RESERVED)}"
            )
            yield Finding(key=(*at, "name"), rule=rule, remedy="Give another name.", value=metric.result_name)
        made = compile_metric(metric)
        names = [name for column in made.released for name in (column, f"{column}_low", f"{column}_high")]
        names.extend(made.labels)
        if metric.kind in ("privacy_id_count", "top_k"):
            names.extend(f"{column}_bias" for column in made.released)
        own: dict[str, str] = {}
        for name in names:
            if name in taken or name in own:
                yield Finding(
                    key=at,
                    rule=f"would make a result column {name!r}, which is already {taken.get(name) or own[name]}",
                    remedy="Give the metric another name: {column: …, name: …}."
                    if name in taken
                    else "Give ranks that are further apart.",
                    value=ABSENT,
                )
                break
            own[name] = f"a result column of metrics[{place}]"
        for name in names:
            taken.setdefault(name, f"a result column of metrics[{place}]")


def _arguments(parts: Parts, args: metrics.MetricArgs, at: Key) -> Iterator[Finding]:
    """What is wrong with one metric's columns, bounds and lists."""
    if isinstance(args, metrics.SumArgs | metrics.ValueArgs | metrics.HistogramArgs):
        yield from _column(parts, (*at, "column"), args.column, _NUMERIC, derived=False)
    if isinstance(args, metrics.SumArgs | metrics.ValueArgs):
        yield from _apart(args.low, args.high, at, "low", "high")
    if isinstance(args, metrics.SumArgs):
        yield from _apart(args.low_total, args.high_total, at, "low_total", "high_total")
    if isinstance(args, metrics.QuantilesArgs):
        yield from _rising(args.ranks, (*at, "ranks"))
    if isinstance(args, metrics.HistogramArgs):
        yield from _rising(args.edges, (*at, "edges"))
    if isinstance(args, metrics.ColumnArgs):
        yield from _column(parts, (*at, "column"), args.column, _KEYS)
    if isinstance(args, metrics.TopKArgs):
        yield from _column(parts, (*at, "column"), args.column, _TEXTS)
        yield from _candidates(parts, args, at)
    if isinstance(args, metrics.VectorSumArgs | metrics.CustomArgs):
        for place, name in enumerate(args.columns):
            yield from _column(parts, (*at, "columns", place), name, _NUMERIC, derived=False)
        yield from _unique(list(args.columns), (*at, "columns"), None, "Name each column once.")


def _custom(args: metrics.CustomArgs, at: Key) -> Iterator[Finding]:
    try:
        args.build()
    except UsageError as error:
        rule, remedy = f"must name a custom metric that can be built: {error}", "See docs/custom_metrics.md."
        yield Finding(key=(*at, "metric"), rule=rule, remedy=remedy, value=args.metric)


def _least_units(parts: Parts, args: metrics.MetricArgs, at: Key) -> Iterator[Finding]:
    """Values come from the data as private partitions do: the same guardrail holds."""
    least = None if parts.guardrails is None else parts.guardrails.min_pre_threshold
    if not isinstance(args, metrics.TopKArgs) or args.candidates is not None or least is None:
        return
    if not args.pre_threshold >= least:
        rule = f"must be at least guardrails.min_pre_threshold, {least}"
        remedy = f"Write pre_threshold: {least} or more."
        yield Finding(key=(*at, "pre_threshold"), rule=rule, remedy=remedy, value=args.pre_threshold)


def _candidates(parts: Parts, args: metrics.TopKArgs, at: Key) -> Iterator[Finding]:
    kind = parts.type_of(args.column)
    for place, value in enumerate(args.candidates or ()):
        if kind in _TEXTS and not suits(value, kind):
            rule = f"must be {DESCRIPTIONS[kind]}, for {args.column} is {kind}"
            remedy = "Give a value of the column's type."
            yield Finding(key=(*at, "candidates", place), rule=rule, remedy=remedy, value=value)
    texts: list[str | None] = [text_of(value) for value in args.candidates or ()]
    yield from _unique(texts, (*at, "candidates"), None, "Name each candidate once.")


def _one_search(stage: StageParts, key: Key) -> Iterator[Finding]:
    """One histogram of a column finds all its bounds, so they can't ask for different ones."""
    first: dict[str, ClipSearch] = {}
    for place, metric in enumerate(stage.metrics):
        args = None if metric is None else metric.args
        if metric is None or not isinstance(args, metrics.SumArgs | metrics.ValueArgs):
            continue
        for side in ("low", "high"):
            bound = getattr(args, side)
            if not isinstance(bound, AutoClip):
                continue
            known = first.setdefault(args.column, bound.auto)
            if (known.least, known.most) != (bound.auto.least, bound.auto.most):
                yield Finding(
                    key=(*key, "metrics", place, metric.kind, side, "auto"),
                    rule=f"must have the same least and most as the other automatic bounds of {args.column} here",
                    remedy=f"Write {{least: {known.least!r}, most: {known.most!r}}}, or change the others.",
                    value=ABSENT,
                )


def _apart(
    low: float | AutoClip | None, high: float | AutoClip | None, at: Key, low_key: str, high_key: str
) -> Iterator[Finding]:
    if isinstance(high, AutoClip) and not isinstance(low, AutoClip) and low is not None:
        if not low <= high.auto.reach / 2:
            rule, remedy = f"must be at most half of what {high_key} may become, {high.auto.reach!r}", "Raise its most."
            yield Finding(key=(*at, low_key), rule=rule, remedy=remedy, value=low)
        return
    if isinstance(low, AutoClip) and not isinstance(high, AutoClip) and high is not None:
        if not high >= -low.auto.reach / 2:
            rule, remedy = f"must be at least half of what {low_key} may become, {-low.auto.reach!r}", "Raise its most."
            yield Finding(key=(*at, high_key), rule=rule, remedy=remedy, value=high)
        return
    if low is None or high is None or isinstance(low, AutoClip) or isinstance(high, AutoClip):
        return
    if not low < high:
        rule, remedy = f"must be below {high_key}, {high!r}", "Give the bounds in rising order."
        yield Finding(key=(*at, low_key), rule=rule, remedy=remedy, value=low)
    elif high - low < _LEAST_WIDTH:
        rule, remedy = f"must lie at least {_LEAST_WIDTH} below {high_key}, {high!r}", "Use another unit."
        yield Finding(key=(*at, low_key), rule=rule, remedy=remedy, value=low)


def _rising(numbers: tuple[float, ...], key: Key) -> Iterator[Finding]:
    if any(not low < high for low, high in itertools.pairwise(numbers)):
        rule, remedy = "must rise strictly", "Sort the list and remove repeated numbers."
        yield Finding(key=key, rule=rule, remedy=remedy, value=list(numbers))


def _column(parts: Parts, key: Key, name: str, types: Iterable[str], *, derived: bool = True) -> Iterator[Finding]:
    """The finding that `name` isn't a declared column of one of the types, if so."""
    known = [*parts.columns, *(parts.derive if derived else ())]
    if name not in known:
        rule = "must name a column that stands under columns" + (" or derive" if derived else "")
        remedy = f"Declared: {', '.join(known[:20])}.{closest(name, known)}"
        yield Finding(key=key, rule=rule, remedy=remedy, value=name)
        return
    kind: ColumnType | None = parts.type_of(name)
    allowed = tuple(types)
    if kind is not None and kind not in allowed:
        rule = f"must name a column of type {' or '.join(allowed)}, and {name} is {kind}"
        yield Finding(key=key, rule=rule, remedy="Name another column, or declare another type for it.", value=name)


def _unique(names: list[str | None], at: str | Key, field: str | None, remedy: str) -> Iterator[Finding]:
    seen: set[str] = set()
    prefix: Key = (at,) if isinstance(at, str) else at
    for index, name in enumerate(names):
        if name is None:
            continue
        if name in seen:
            key = (*prefix, index) if field is None else (*prefix, index, field)
            yield Finding(key=key, rule="must not stand twice", remedy=remedy, value=name)
        seen.add(name)


def product_rows(product: dict[str, tuple[object, ...]]) -> int:
    """How many partitions a product lists."""
    return math.prod(len(values) for values in product.values())
