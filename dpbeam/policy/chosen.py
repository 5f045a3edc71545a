"""A policy and the bounds that a run chose come in; the same policy goes out, standing for those bounds."""

from __future__ import annotations

from collections.abc import Mapping

from dpbeam.policy.schema.auto import PARAMETERS, AutoClip, AutoCount
from dpbeam.policy.schema.metrics import MetricChoice
from dpbeam.policy.schema.policy import Policy, Stage

Key = tuple[str, str | None, str]
"""Stage, metric (None for a bound on contributions), parameter."""


def with_chosen(policy: Policy, chosen: Mapping[Key, float]) -> Policy:
    """The policy with each bound that it leaves to the run set to what was chosen; its digest stays.

    Raises:
        KeyError: a bound wasn't chosen.
        ValueError: one can't be chosen.
    """
    return policy.model_copy(update={"stages": tuple(_stage(stage, chosen) for stage in policy.stages)})


def automatic(policy: Policy) -> tuple[Key, ...]:
    """The bounds that a policy leaves to the run, in its order; those of a stage's metrics before its own."""
    found: list[Key] = []
    for stage in policy.stages:
        for metric in stage.metrics:
            sides = [s for s in ("low", "high") if isinstance(getattr(metric.args, s, None), AutoClip)]
            found.extend((stage.name, metric.result_name, side) for side in sides)
        found.extend((stage.name, None, p) for p in PARAMETERS if isinstance(getattr(stage.bounds, p), AutoCount))
    return tuple(found)


def _stage(stage: Stage, chosen: Mapping[Key, float]) -> Stage:
    limits: dict[str, AutoCount] = {
        name: bound.with_chosen(int(chosen[stage.name, None, name]))
        for name in PARAMETERS
        if isinstance(bound := getattr(stage.bounds, name), AutoCount)
    }
    return stage.model_copy(
        update={
            "bounds": stage.bounds.model_copy(update=limits),
            "metrics": tuple(_metric(stage, metric, chosen) for metric in stage.metrics),
        }
    )


def _metric(stage: Stage, metric: MetricChoice, chosen: Mapping[Key, float]) -> MetricChoice:
    clips = {
        side: bound.with_chosen(chosen[stage.name, metric.result_name, side])
        for side in ("low", "high")
        if isinstance(bound := getattr(metric.args, side, None), AutoClip)
    }
    return metric.model_copy(update={metric.kind: metric.args.model_copy(update=clips)}) if clips else metric
