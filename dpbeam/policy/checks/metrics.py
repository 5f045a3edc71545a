"""The metrics of a stage come in; what is wrong with one or between several goes out: columns, bounds, names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dpbeam.errors import UsageError
from dpbeam.policy.checks import vector_columns
from dpbeam.policy.checks.common import KEYS, NUMERIC, declared, guarded, rising, unique
from dpbeam.policy.checks.parts import Parts, StageParts
from dpbeam.policy.compile import metric as compile_metric
from dpbeam.policy.compile import text_of
from dpbeam.policy.schema import metrics
from dpbeam.policy.schema.auto import AutoClip, ClipSearch
from dpbeam.policy.values import DESCRIPTIONS, suits
from dpbeam.policy.violations import ABSENT, Finding, Key
from dpbeam.queries.metric import Metric
from dpbeam.queries.quantities import Quantity
from dpbeam.queries.quantities import parts as parts_of

_TEXTS = ("string", "int64", "bool", "date")
_RESERVED = ("count", "privacy_id_count", "partitions")
_STARTS = ("__", "partitions.")
_PART_NAMES = (".sum", ".squares", ".tree")
_LEAST_WIDTH = 1e-15


def metric_findings(parts: Parts, stage: StageParts, key: Key) -> Iterator[Finding]:
    """What is wrong with the metrics of the stage at `key`, each by itself and beside the others."""
    yield from _one_search(stage, key)
    yield from _one_name(parts, stage, key)
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
        made = compile_metric(metric, parts.vector_lengths)
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


def _one_name(parts: Parts, stage: StageParts, key: Key) -> Iterator[Finding]:
    """Mechanisms are known by their metric's name, so two metrics may share one only where they share the mechanism."""
    known: dict[str, tuple[int, Metric, Quantity]] = {}
    for place, choice in enumerate(stage.metrics):
        for made, quantity in () if choice is None else _made_from(choice, parts.vector_lengths):
            before, other, first = known.setdefault(quantity.name, (place, made, quantity))
            # Where their columns have one name too, that is said elsewhere.
            if first.definition != quantity.definition and set(made.released).isdisjoint(other.released):
                yield Finding(
                    key=(*key, "metrics", place, made.kind),
                    rule=f"has the name of metrics[{before}], which isn't made from the same noisy quantity",
                    remedy="Give the metric another name: {column: …, name: …}.",
                    value=ABSENT,
                )


def _made_from(choice: metrics.MetricChoice, lengths: Mapping[str, int]) -> list[tuple[Metric, Quantity]]:
    """The metric with each of its quantities; none where it is wrong by itself, which is said elsewhere."""
    try:
        made = compile_metric(choice, lengths)
        return [(made, quantity) for quantity in parts_of(made)]
    except (UsageError, ValueError):
        return []


def _arguments(parts: Parts, args: metrics.MetricArgs, at: Key) -> Iterator[Finding]:
    """What is wrong with one metric's columns, bounds and lists."""
    if isinstance(args, metrics.SumArgs | metrics.ValueArgs | metrics.HistogramArgs):
        yield from declared(parts, (*at, "column"), args.column, NUMERIC, derived=False)
    if isinstance(args, metrics.SumArgs | metrics.ValueArgs):
        yield from _apart(args.low, args.high, at, "low", "high")
    if isinstance(args, metrics.SumArgs):
        yield from _apart(args.low_total, args.high_total, at, "low_total", "high_total")
    if isinstance(args, metrics.QuantilesArgs):
        yield from rising(args.ranks, (*at, "ranks"))
    if isinstance(args, metrics.HistogramArgs):
        yield from rising(args.edges, (*at, "edges"))
    if isinstance(args, metrics.ColumnArgs):
        yield from declared(parts, (*at, "column"), args.column, KEYS)
    if isinstance(args, metrics.TopKArgs):
        yield from declared(parts, (*at, "column"), args.column, _TEXTS)
        yield from _candidates(parts, args, at)
    if isinstance(args, metrics.VectorSumArgs | metrics.CustomArgs):
        kinds = vector_columns.SUMMED if isinstance(args, metrics.VectorSumArgs) else NUMERIC
        for place, name in enumerate(args.columns):
            yield from declared(parts, (*at, "columns", place), name, kinds, derived=False)
        yield from unique(args.columns, (*at, "columns"), None, "Name each column once.")
    if isinstance(args, metrics.VectorSumArgs):
        yield from vector_columns.sum_findings(parts, args.columns, (*at, "columns"))


def _custom(args: metrics.CustomArgs, at: Key) -> Iterator[Finding]:
    try:
        args.build()
    except UsageError as error:
        rule, remedy = f"must name a custom metric that can be built: {error}", "See docs/custom_metrics.md."
        yield Finding(key=(*at, "metric"), rule=rule, remedy=remedy, value=args.metric)


def _least_units(parts: Parts, args: metrics.MetricArgs, at: Key) -> Iterator[Finding]:
    """Values come from the data as private partitions do: the same guardrail holds."""
    if isinstance(args, metrics.TopKArgs) and args.candidates is None:
        yield from guarded(parts, at, args.pre_threshold)


def _candidates(parts: Parts, args: metrics.TopKArgs, at: Key) -> Iterator[Finding]:
    kind = parts.type_of(args.column)
    for place, value in enumerate(args.candidates or ()):
        if kind in _TEXTS and not suits(value, kind):
            rule = f"must be {DESCRIPTIONS[kind]}, for {args.column} is {kind}"
            remedy = "Give a value of the column's type."
            yield Finding(key=(*at, "candidates", place), rule=rule, remedy=remedy, value=value)
    texts = [text_of(value) for value in args.candidates or ()]
    yield from unique(texts, (*at, "candidates"), None, "Name each candidate once.")


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
