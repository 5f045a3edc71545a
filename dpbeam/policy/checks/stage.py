"""What is wrong between a stage's keys, partitions, bounds, selection and metrics."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.engine.rounds.weights import MOST_L0, MOST_L0_OF_SHARES
from dpbeam.engine.stage import LEVEL
from dpbeam.policy.checks import hierarchy, pre_aggregated
from dpbeam.policy.checks.common import KEYS, declared, guarded, unique
from dpbeam.policy.checks.metrics import metric_findings
from dpbeam.policy.checks.valid_parts import ValidParts, ValidStage
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.schema.auto import AutoCount
from dpbeam.policy.violations import ABSENT, Finding, Key


def stage_findings(parts: ValidParts, stage: ValidStage, index: int) -> Iterator[Finding]:
    """What is wrong with the stage in place `index`, its metrics included."""
    key: Key = ("stages", index)
    for place, name in enumerate(stage.group_by):
        if name is not None:
            yield from declared(parts, (*key, "group_by", place), name, KEYS)
            if name == parts.privacy_unit:
                rule = "must not be the privacy unit: each partition would be one person"
                yield Finding(key=(*key, "group_by", place), rule=rule, remedy="Group by other columns.", value=name)
    yield from unique(stage.group_by, (*key, "group_by"), None, "Name each column once.")
    yield from _whole(stage, key)
    bounds = stage.bounds
    if parts.privacy_unit == "row" and bounds is not None and (bounds.l0, bounds.linf, bounds.l1) != (1, 1, None):
        rule = "must be l0: 1 and linf: 1 with privacy_unit: row, for each row is a unit of its own"
        yield Finding(key=(*key, "bounds"), rule=rule, remedy="Write bounds: {l0: 1, linf: 1}.", value=ABSENT)
    private = None if stage.partitions is None else stage.partitions.private
    if private is not None:
        at: Key = (*key, "partitions", "private")
        yield from guarded(parts, at, private.pre_threshold)
        yield from _rounds(parts, stage, private, at)
        yield from _hierarchy(parts, stage, private, key)
    yield from _selecting(stage, key)
    yield from metric_findings(parts, stage, key)
    yield from pre_aggregated.stage_findings(parts, stage, key)


def _selecting(stage: ValidStage, key: Key) -> Iterator[Finding]:
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


def _rounds(parts: ValidParts, stage: ValidStage, private: schema.Private, key: Key) -> Iterator[Finding]:
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
    elif most is not None and most > MOST_L0_OF_SHARES:
        rule = f"must be one that counts units, where one unit may be in more than {MOST_L0_OF_SHARES} partitions"
        remedy = f"Lower l0 or l1 to {MOST_L0_OF_SHARES}, or write gaussian_thresholding."
        yield Finding(key=(*key, "strategy"), rule=rule, remedy=remedy, value=private.strategy)


def _hierarchy(parts: ValidParts, stage: ValidStage, private: schema.Private, key: Key) -> Iterator[Finding]:
    """What doesn't fit hierarchical keys."""
    yield from hierarchy.other_findings(stage.bounds, private, (*key, "partitions", "private", "other_l0"))
    if not private.has_others:
        return
    at: Key = (*key, "partitions", "private", "hierarchical" if private.hierarchical else "other")
    unasked = stage.has_metrics and not stage.metrics
    if private.hierarchical and (len(stage.group_by) < 2 or unasked):
        rule = "needs at least two columns in group_by, from coarse to fine, and a metric"
        yield Finding(key=at, rule=rule, remedy="Leave the key out, or list them.", value=ABSENT)
    if private.other and (len(stage.group_by) != 1 or unasked):
        rule = "needs one column in group_by, and a metric"
        remedy = "Leave the key out; several columns may be hierarchical: true."
        yield Finding(key=(*at[:-1], "other"), rule=rule, remedy=remedy, value=ABSENT)
    names = [m.args.name or m.result_name for m in stage.metrics if m is not None]
    if LEVEL in (*parts.columns, *parts.derive, *names):
        rule = f"adds a result column {LEVEL!r}, so no column and no metric of the stage may be called that"
        yield Finding(key=at, rule=rule, remedy="Rename it.", value=ABSENT)


def _whole(stage: ValidStage, key: Key) -> Iterator[Finding]:
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
