"""What a person reads of `dpbeam budget what-if`, and how they state an interval."""

from __future__ import annotations

import re
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.table import Table

from dpbeam.accounting.cumulative import VALID_ALWAYS, VALID_IF_FIXED
from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.printing import line
from dpbeam.pipelines.lifecycle.forecast import Forecast
from dpbeam.reporting.numbers import significant

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_INTERVAL = re.compile(r"([1-9][0-9]{0,5})([hdw])")


def interval(text: str) -> timedelta:
    """The time that a text such as 12h, 7d or 2w says.

    Raises:
        UsageError: it says none.
    """
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise UsageError(f"--every must be a whole number of hours, days or weeks, such as 12h, 7d or 2w; got {text!r}")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def what_if(found: Forecast) -> RenderableType:
    """The runs that are left, their schedule, the alternatives, and what was lost so far by each method."""
    balance, so_far = found.budget.balance, found.so_far
    more = f"{found.runs:,} more run{'' if found.runs == 1 else 's'} of this policy"
    lines = [
        f"A run of this policy costs {found.cost}; {balance.left} of {balance.cap} is left: {more}.",
        _when(found),
    ]
    table = Table(title="A whole budget of the stated cap would cover", title_justify="left")
    table.add_column("with")
    table.add_column("runs", justify="right")
    table.add_column("noise", justify="right")
    table.add_column("each costs", justify="right")
    for each in found.alternatives:
        table.add_row(each.what, f"{each.runs:,}", f"× {significant(each.noise)}", str(each.cost))
    lost = Table(title=f"ε of all runs so far, at δ {so_far.delta:g}", title_justify="left")
    lost.add_column("by")
    lost.add_column("ε", justify="right")
    lost.add_column("which")
    lost.add_row(f"the meter {balance.meter}, enforced", significant(so_far.enforced), VALID_ALWAYS)
    if so_far.composed is not None:
        for name, epsilon in so_far.composed.to_json().items():
            lost.add_row(name, significant(epsilon), VALID_IF_FIXED)
    else:
        lines.append("What some runs applied isn't in the journal: no other method is shown.")
    return Group(*map(line, lines), *([table] if found.alternatives else []), lost)


def _when(found: Forecast) -> str:
    schedule = found.schedule
    if schedule is None:
        return "When the budget is used up can't be said before two runs; state a schedule with --every 7d."
    hours = schedule.every / timedelta(hours=1)
    pace = f"a run each {significant(hours / 24 if hours >= 48 else hours)} {'days' if hours >= 48 else 'hours'}"
    by = f"With {pace}" if schedule.stated else f"At the pace so far, {pace},"
    if schedule.last is None:
        return f"{by} the budget is used up: not one more run fits."
    return f"{by} the last one that fits starts on {schedule.last:%Y-%m-%d}; the next is refused."
