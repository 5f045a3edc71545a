"""What is wrong with a policy's coverage: it can't be counted, has no noise, or isn't there for a floor to look at."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.policy.checks.valid_parts import ValidParts
from dpbeam.policy.violations import ABSENT, Finding


def coverage_findings(parts: ValidParts) -> Iterator[Finding]:
    """What coverage asks for that can't be had."""
    guard, source = parts.guardrails, parts.source
    if parts.coverage is None:
        if guard is not None and guard.min_coverage is not None and not parts.has_coverage:
            yield Finding(
                key=("guardrails", "min_coverage"),
                rule="needs coverage, the noisy figure that it is compared with",
                remedy="Write coverage: {share: 0.02}, or leave the key out.",
                value=guard.min_coverage,
            )
        return
    if source is not None and source.pre_aggregated is not None:
        yield Finding(
            key=("coverage",),
            rule="must be left out with source.pre_aggregated, whose rows each stand for several",
            remedy="Leave the key out.",
            value=ABSENT,
        )
    for index, stage in enumerate(parts.stages):
        if stage.has_metrics and not stage.metrics and not stage.has_noise:
            yield Finding(
                key=("stages", index, "metrics"),
                rule="must have at least one entry with coverage, which gets the noise of the stage's metrics",
                remedy="List a metric, such as privacy_id_count, and noise; or leave coverage out.",
                value=[],
            )
