"""The page over a dataset's releases: what of the budget they have spent, over time, and one row a release, newest
first, with a link to its report.

It is a table of contents and no statement: nothing reads it, and what counts is each release's own manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from dpbeam.reporting.budget_chart import Point, budget_chart
from dpbeam.reporting.manifest import Charge, Guarantee, Manifest
from dpbeam.reporting.page import environment

MAX_RELEASES = 1000
GENERATOR = '<meta name="generator" content="dpbeam">'
"""By which a page of ours is known, so that nobody else's is written over."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """An amount of the ledger, as it prints it: `epsilon` is what its meter adds up, which has a `symbol`."""

    epsilon: float
    delta: float
    symbol: str = "ε"


@dataclass(frozen=True, kw_only=True)
class ListedRelease:
    """What the page shows of a release, as its manifest has it; `release_id` is its folder's name too. `spent` is what
    the dataset's budget had paid by the time it began, itself included."""

    release_id: str
    release_name: str
    period: str | None
    created: str
    guarantee: Guarantee
    charge: Charge
    spent: Cost

    @classmethod
    def of(cls, manifest: Manifest, spent: Cost) -> ListedRelease:
        return cls(
            release_id=manifest.release_id,
            release_name=manifest.release_name,
            period=manifest.period,
            created=manifest.created,
            guarantee=manifest.guarantee,
            charge=manifest.charge,
            spent=spent,
        )


def render_index(dataset: str, releases: Sequence[ListedRelease], cap: Cost) -> str:
    """The page, as UTF-8 text: the same releases, in whatever order, give the same page. `cap` is the budget's.

    Guarantee: it shows what published manifests say, the cap, and what was spent by each of them, which their reports
    show too; so it costs nothing.

    Raises:
        ValueError: there is no release.
    """
    newest = sorted(releases, key=lambda each: (each.created, each.release_id), reverse=True)
    if not newest:
        raise ValueError("a page over a dataset's releases needs one at least")
    points = [Point(at=_time(each.created), epsilon=each.spent.epsilon) for each in newest]
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            dataset=dataset,
            generator=GENERATOR,
            releases=newest[:MAX_RELEASES],
            total=len(newest),
            has_periods=any(each.period is not None for each in newest),
            epsilon=_sum([each.charge.epsilon for each in newest]),
            delta=_sum([each.charge.delta for each in newest]),
            cap=cap,
            chart=budget_chart(points, cap.epsilon),
            more=_more(newest[0], cap),
        )
    )


def _time(created: str) -> datetime:
    return datetime.fromisoformat(created.replace("Z", "+00:00"))


def _more(newest: ListedRelease, cap: Cost) -> int:
    """How many more releases that cost as much as the newest the budget had room for, once that was paid."""
    rooms = [
        (_exact(cap.epsilon) - _exact(newest.spent.epsilon)) / _exact(newest.charge.epsilon),
        (_exact(cap.delta) - _exact(newest.spent.delta)) / _exact(newest.charge.delta),
    ]
    return max(0, int(min(rooms)))


def _sum(amounts: Sequence[float]) -> float:
    """Of amounts as the ledger prints them: exact before it is rounded once."""
    return float(sum(map(_exact, amounts), Fraction(0)))


def _exact(amount: float) -> Fraction:
    return Fraction(repr(amount))
