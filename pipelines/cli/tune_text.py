"""What `dpbeam tune` shows, in lines: raw figures, for the operator's screen or a file that nobody else may read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dpbeam.pipelines.tuning.expected_error import StageError, is_judged
from dpbeam.pipelines.tuning.knobs import in_rounds, scaled
from dpbeam.pipelines.tuning.reasons import changes
from dpbeam.pipelines.tuning.rewriting import written
from dpbeam.pipelines.tuning.search import Setting, Sweep, Tuned
from dpbeam.queries.metrics.base import Clipped
from dpbeam.reporting.numbers import significant
from dpbeam.reporting.tuning_page import Choice, render_tuning
from dpbeam.reporting.visible import visible

RAW = (
    "This holds raw figures of the data that it was tuned on, made without noise: it is no release, and nothing "
    "protects the people behind it. Keep it where those data are, unless they are public or made up."
)
ABOUT = (
    "Tuning reads data, makes no release and charges nothing. The policy that it recommends follows those data, and a "
    "release shows its policy: tune on public, made-up or older data, never on what is to be released."
)
_BAR = 30


def lines(found: Tuned) -> list[str]:
    """The figures as lines of text, each `visible`; no value in them can write a line of its own."""
    return [visible(line) for line in _lines(found)]


def _lines(found: Tuned) -> Iterator[str]:
    yield RAW
    yield ABOUT
    yield ""
    stated = found.stated
    if found.without_rows:
        yield _without_rows(found)
        return
    yield (
        f"{stated.dataset}: expected error {_error(found.stated_error)} by the policy as it is, "
        f"{_error(found.chosen_error)} as recommended, at the same ε {stated.epsilon:g}, δ {stated.delta:g}"
    )
    yield "An error of 10 %: all figures together are off by a tenth of what is true, lost partitions included."
    for before, after in zip(found.stated_stages, found.chosen_stages, strict=True):
        yield ""
        yield f"{before.stage}: {before.partitions_of:,} partitions with rows"
        yield from table(("", "error", "rows kept", "partitions shown"), [
            ("as it is", *_figures(before)), ("recommended", *_figures(after)),
        ])  # fmt: skip
        for metric, error in before.metrics.items():
            yield f"  {metric}: error {_error(error)}, then {_error(after.metrics[metric])}"
    left = [m.name for stage in found.stated.stages for m in stage.metrics if not is_judged(m)]
    if left:
        yield f"Not looked at, though they share the budget: {', '.join(left)}"
    if in_rounds(found.stated):
        yield "Of selection in rounds at least so many partitions are shown as stand here: later rounds find more."
    yield ""
    yield from _recommended(found)
    for sweep in found.sweeps:
        yield ""
        yield from _sweep(found, sweep)
    yield ""
    yield "ε of a run, all else the same:"
    yield from table(
        ("ε", "error as it is", "recommended", ""),
        [(f"{each.epsilon:g}", _error(each.stated), _error(each.chosen), _bar(each.chosen, found.epsilons[0].chosen))
         for each in found.epsilons],
    )  # fmt: skip


def page(found: Tuned) -> str:
    """The figures as a page with charts."""
    if found.without_rows:
        about = (RAW, ABOUT, _without_rows(found))
        return render_tuning(found.stated.dataset, about=about, recommended=(), choices={})
    charts = {}
    for sweep in found.sweeps:
        stage = found.stated.stages[sweep.knob.stage]
        charts[f"{stage.name}: {_name(found, sweep)}"] = [
            Choice(
                label=_value(found, sweep, setting) + _marked(sweep, setting),
                error=setting.error,
                rows=setting.stage.rows,
                partitions=setting.stage.partitions if stage.selection is not None else None,
            )
            for setting in sweep.settings
            if setting.stage is not None and setting.error is not None
        ]
    charts["ε of a run"] = [
        Choice(label=f"{each.epsilon:g}", error=each.chosen, rows=None, partitions=None) for each in found.epsilons
    ]
    lede = (
        f"Expected error {_error(found.stated_error)} by the policy as it is, {_error(found.chosen_error)} as "
        f"recommended, at the same ε {found.stated.epsilon:g}, δ {found.stated.delta:g}."
    )
    return render_tuning(
        found.stated.dataset,
        about=(RAW, ABOUT, lede),
        recommended=_listed(found) or ["Nothing that would bring the error down by more than 1 %."],
        choices=charts,
    )


def _without_rows(found: Tuned) -> str:
    stages = ", ".join(found.without_rows)
    return f"{stages}: no row of these data is left, so there is nothing to say; `dpbeam check --source` shows why"


def _marked(sweep: Sweep, setting: Setting) -> str:
    said = [
        word
        for word, value in (("the policy's", sweep.stated), ("recommended", sweep.chosen))
        if value == setting.value
    ]
    return f" ({', '.join(said)})" if said else ""


def _recommended(found: Tuned) -> Iterator[str]:
    listed = _listed(found)
    yield "Recommended:" if listed else "Recommended: nothing that would bring the error down by more than 1 %."
    yield from (f"  {line}" for line in listed)


def _listed(found: Tuned) -> list[str]:
    return [
        f"{found.stated.stages[sweep.knob.stage].name}, {_name(found, sweep, key=change.key)}: "
        f"{written(change.old)} → {written(change.new)}; {change.why}"
        for sweep in found.changes
        for change in changes(found.stated, sweep)
    ]


def _sweep(found: Tuned, sweep: Sweep) -> Iterator[str]:
    stage = found.stated.stages[sweep.knob.stage].name
    yield f"{stage}, {_name(found, sweep)}, all else as recommended (* the policy's, → recommended):"
    worst = max((each.error for each in sweep.settings if each.error is not None), default=1.0)
    yield from table(
        ("", "error", "rows kept", "partitions shown", ""),
        [_row(found, sweep, setting, min(worst, 1.0)) for setting in sweep.settings],
    )


def _row(found: Tuned, sweep: Sweep, setting: Setting, worst: float) -> tuple[str, ...]:
    marks = f"{'→' if setting.value == sweep.chosen else ' '}{'*' if setting.value == sweep.stated else ' '}"
    name = f"{marks} {_value(found, sweep, setting)}"
    if setting.stage is None or setting.error is None:
        return name, "–", "–", "–", "can't be planned"
    rows, partitions = _figures(setting.stage)[1:]
    return name, _error(setting.error), rows, partitions, _bar(setting.error, worst)


def _value(found: Tuned, sweep: Sweep, setting: Setting) -> str:
    if sweep.knob.what != "values":
        return written(setting.value)
    metric = found.stated.stages[sweep.knob.stage].metrics[sweep.knob.metric or 0]
    if not isinstance(metric, Clipped):
        raise TypeError(f"{metric.kind} has no bounds on values")
    low, high = scaled(metric.low, metric.high, float(setting.value))
    return f"[{low:g}, {high:g}]"


def _name(found: Tuned, sweep: Sweep, *, key: str | None = None) -> str:
    knob = sweep.knob
    if knob.metric is None:
        return knob.what
    metric = found.stated.stages[knob.stage].metrics[knob.metric].name
    what = "weight" if knob.what == "metric weight" else key or "low and high"
    return f"{what} of {metric}"


def _figures(found: StageError) -> tuple[str, str, str]:
    return _error(found.error), f"{100 * found.rows:.1f} %", f"{100 * found.partitions:.1f} %"


def _error(value: float) -> str:
    return f"{significant(100 * value)} %"


def _bar(value: float, of: float) -> str:
    """A bar of the chart; what is beyond the scale ends in an arrow."""
    length = round(_BAR * min(value, of) / of) if of > 0 else 0
    return "█" * length + ("▸" if value > of else "")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in lines; numbers stand to the right, names and bars to the left."""
    widths = [max(len(row[place]) for row in (headings, *rows)) for place in range(len(headings))]
    for row in (headings, *rows):
        cells = [
            cell.ljust(width) if place == 0 or headings[place] == "" else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
