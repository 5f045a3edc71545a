"""Rows that are aggregated already: what their metrics are made of, and what can't be had from them.

Each row says of one unit in one partition how many rows it had (the column that `source.pre_aggregated.count` names)
and what their values add up to. PipelineDP's pre-aggregation has the same row: (partition, (count, sum, …)) of a unit.
"""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.policy.checks.valid_parts import ValidParts, ValidStage
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.schema.auto import AutoCount
from dpbeam.policy.violations import ABSENT, Finding, Key
from dpbeam.queries.source import Condition


def conditions(source: schema.Source) -> Iterator[Condition]:
    """A row that stands for no rows is none: it must not make its unit count in the partition."""
    if source.pre_aggregated is not None:
        yield Condition(column=source.pre_aggregated.count, op=">=", value=1)


def unit_findings(parts: ValidParts) -> Iterator[Finding]:
    """That rows are aggregated by unit, so there must be units."""
    if parts.source is not None and parts.source.pre_aggregated is not None and parts.privacy_unit == "row":
        yield Finding(
            key=("privacy_unit",),
            rule="must name a column with source.pre_aggregated, for its rows are those of a unit in a partition",
            remedy="Name the column that tells whose row it is.",
            value="row",
        )


def stage_findings(parts: ValidParts, stage: ValidStage, key: Key) -> Iterator[Finding]:
    """What a stage asks for that rows aggregated already can't give."""
    if parts.source is None or parts.source.pre_aggregated is None:
        return
    if stage.bounds is not None and stage.bounds.l1 is not None:
        yield Finding(
            key=(*key, "bounds", "l1"),
            rule="bounds single rows, and source.pre_aggregated has only their counts",
            remedy="Write bounds: {l0: …, linf: …}; linf is then the most that a unit's rows count for in a partition.",
            value=ABSENT if isinstance(stage.bounds.l1, AutoCount) else stage.bounds.l1,
        )
    if stage.bounds is not None and isinstance(stage.bounds.linf, AutoCount):
        yield Finding(
            key=(*key, "bounds", "linf"),
            rule="must be a number: from rows aggregated already, each of which stands for several, it can't be found",
            remedy="Write the most that a unit's rows may count for in a partition.",
            value=ABSENT,
        )
    for place, choice in enumerate(stage.metrics):
        if choice is None or choice.args.fits_totals(choice.kind):
            continue
        yield Finding(
            key=(*key, "metrics", place, choice.kind),
            rule="needs the values of single rows, and source.pre_aggregated has only their sums",
            remedy="Ask for count, privacy_id_count, or {sum: {column: …, low_total: …, high_total: …}}.",
            value=ABSENT,
        )
