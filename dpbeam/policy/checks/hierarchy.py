"""What is wrong between a stage's bounds and the leaves that an `other` of its hierarchical keys takes."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.policy.schema import policy as schema
from dpbeam.policy.schema.auto import AutoCount
from dpbeam.policy.violations import Finding, Key


def other_findings(bounds: schema.Bounds | None, private: schema.Private, key: Key) -> Iterator[Finding]:
    """`other_l0` bounds leaves of hierarchical keys that `bounds.l0` lets in; it can't let in more."""
    stated = private.other_l0
    if stated is None:
        return
    if not private.has_others:
        rule, remedy = "applies to hierarchical keys only", "Leave the key out, or write hierarchical: true."
        yield Finding(key=key, rule=rule, remedy=remedy, value=stated)
        return
    if bounds is None:
        return
    if bounds.l0 is None:
        rule = "must be left out with bounds.l1, which lets all rows of a unit into one other at no more noise"
        yield Finding(key=key, rule=rule, remedy="Remove it, or bound by l0 and linf.", value=stated)
        return
    most = bounds.l0.auto.max if isinstance(bounds.l0, AutoCount) else bounds.l0
    if not stated <= most:
        rule = f"must be at most bounds.l0, {most}: a unit counts in no more leaves"
        yield Finding(key=key, rule=rule, remedy="Lower it, or leave it out to lose nothing.", value=stated)
