"""The page of `dpbeam tune`: what each choice costs and keeps, as charts. It holds raw figures, and says so first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpbeam.reporting.charts import Chart, Row, chart
from dpbeam.reporting.page import environment
from dpbeam.reporting.rows import Interval


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A value that was tried, by its `label`, with shares: of `error`, of `rows` kept, of `partitions` shown (None
    where there are none to select)."""

    label: str
    error: float
    rows: float | None
    partitions: float | None


def render_tuning(
    dataset: str, *, about: Sequence[str], recommended: Sequence[str], choices: Mapping[str, Sequence[Choice]]
) -> str:
    """The page, as UTF-8 text: `about` first, then what is recommended, then a chart for each name of `choices`."""
    drawn = [(name, _chart(tried)) for name, tried in choices.items()]
    return (
        environment()
        .get_template("tune.html.j2")
        .render(
            dataset=dataset,
            about=about,
            recommended=recommended,
            charts=[(name, figure) for name, figure in drawn if figure is not None],
        )
    )


def _chart(tried: Sequence[Choice]) -> Chart | None:
    groups = []
    for each in tried:
        shares = (("error", each.error), ("rows kept", each.rows), ("partitions shown", each.partitions))
        groups.append((each.label, [_row(name, share) for name, share in shares if share is not None]))
    return chart(groups)


def _row(label: str, share: float) -> Row:
    percent = 100 * share
    value = Interval(value=min(percent, 100.0), low=math.nan, high=math.nan)
    return Row(label=label, shown=f"{percent:,.3g} %" if percent < 1000 else "≥ 1,000 %", interval="", value=value)
