"""What is wrong with the metrics of a stage, each by itself and beside the others: columns, bounds, names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dpbeam.errors import UsageError
from dpbeam.policy.checks.valid_parts import ValidParts, ValidStage
from dpbeam.policy.schema.auto import ClipSearch
from dpbeam.policy.schema.metrics import MetricChoice
from dpbeam.policy.violations import ABSENT, Finding, Key
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity

_RESERVED = ("count", "privacy_id_count", "partitions")
_STARTS = ("__", "partitions.")
_PART_NAMES = (".sum", ".squares", ".tree")


def metric_findings(parts: ValidParts, stage: ValidStage, key: Key) -> Iterator[Finding]:
    """What is wrong with the metrics of the stage at `key`, each by itself and beside the others."""
    yield from _one_search(stage, key)
    yield from _one_name(parts, stage, key)
    taken = {name: "a column of group_by" for name in stage.group_by if name is not None}
    for place, metric in enumerate(stage.metrics):
        if metric is None:
            continue
        at: Key = (*key, "metrics", place, metric.kind)
        yield from metric.args.findings(parts, at)
        made: Metric | None = None
        try:
            made = metric.metric(parts.vector_lengths)
        except UsageError:
            continue
        except ValueError:  # its arguments don't fit together, which was said
            pass
        only_l0 = stage.bounds is not None and stage.bounds.l0 is not None and stage.bounds.linf is None
        if only_l0 and metric.args.needs_rows(metric.kind):
            yield Finding(
                key=at,
                rule="adds up rows, and bounds.l0 alone doesn't say how many one unit may have in a partition",
                remedy="Give bounds.linf too, or sum totals: low_total and high_total.",
                value=ABSENT,
            )
        reserved = metric.result_name in _RESERVED and not metric.args.is_count
        if metric.result_name.startswith(_STARTS) or reserved or metric.result_name.endswith(_PART_NAMES):
            rule = (
                f"must not start with {' or '.join(_STARTS)} or end with {' or '.join(_PART_NAMES)}; "
                f"only a count may be called {' or '.join(_RESERVED)}"
            )
            yield Finding(key=(*at, "name"), rule=rule, remedy="Give another name.", value=metric.result_name)
        names = [] if made is None else _result_columns(made)
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


def _result_columns(made: Metric) -> list[str]:
    names = [name for column in made.released for name in (column, f"{column}_low", f"{column}_high")]
    names.extend(made.labels)
    if made.may_pass_threshold:
        names.extend(f"{column}_bias" for column in made.released)
    return names


def _one_name(parts: ValidParts, stage: ValidStage, key: Key) -> Iterator[Finding]:
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


def _made_from(choice: MetricChoice, lengths: Mapping[str, int]) -> list[tuple[Metric, Quantity]]:
    """The metric with each of its quantities; none where it is wrong by itself, which is said elsewhere."""
    try:
        made = choice.metric(lengths)
        return [(made, quantity) for quantity in made.quantities]
    except (UsageError, ValueError):
        return []


def _one_search(stage: ValidStage, key: Key) -> Iterator[Finding]:
    """One histogram of a column finds all its bounds, so they can't ask for different ones."""
    first: dict[str, ClipSearch] = {}
    for place, metric in enumerate(stage.metrics):
        for side, column, search in () if metric is None else metric.args.searches:
            known = first.setdefault(column, search)
            if metric is not None and (known.least, known.most) != (search.least, search.most):
                yield Finding(
                    key=(*key, "metrics", place, metric.kind, side, "auto"),
                    rule=f"must have the same least and most as the other automatic bounds of {column} here",
                    remedy=f"Write {{least: {known.least!r}, most: {known.most!r}}}, or change the others.",
                    value=ABSENT,
                )
