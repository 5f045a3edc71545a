"""The page over a dataset's releases: one row a release, newest first, with a link to its report.

It is a table of contents and no statement: nothing reads it, and what counts is each release's own manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from dpbeam.reporting.manifest import Charge, Guarantee
from dpbeam.reporting.page import environment

MAX_RELEASES = 1000
GENERATOR = '<meta name="generator" content="dpbeam">'
"""By which a page of ours is known, so that nobody else's is written over."""


@dataclass(frozen=True, kw_only=True)
class ListedRelease:
    """What the page shows of a release, as its manifest has it; `release_id` is its folder's name too."""

    release_id: str
    release_name: str
    created: str
    guarantee: Guarantee
    charge: Charge


def render_index(dataset: str, releases: Sequence[ListedRelease]) -> str:
    """The page, as UTF-8 text: the same releases, in whatever order, give the same page.

    Guarantee: it shows what published manifests say and nothing else, so it costs nothing.
    """
    newest = sorted(releases, key=lambda each: (each.created, each.release_id), reverse=True)
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            dataset=dataset,
            generator=GENERATOR,
            releases=newest[:MAX_RELEASES],
            total=len(newest),
            epsilon=_sum([each.charge.epsilon for each in newest]),
            delta=_sum([each.charge.delta for each in newest]),
        )
    )


def _sum(amounts: Sequence[float]) -> float:
    """Of amounts as the ledger prints them: exact before it is rounded once."""
    return float(sum((Fraction(repr(amount)) for amount in amounts), Fraction(0)))
