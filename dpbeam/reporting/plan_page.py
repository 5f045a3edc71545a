"""A plan for people: as lines of text, and as a piece of HTML that notebooks show."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import Environment, PackageLoader, StrictUndefined

from dpbeam.accounting.outlook import Outlook
from dpbeam.accounting.plan import Plan
from dpbeam.accounting.utility import AutomaticFigure, MetricFigure, SelectionFigure
from dpbeam.reporting import outlook_words
from dpbeam.reporting.coverage import price
from dpbeam.reporting.numbers import exact, significant
from dpbeam.reporting.visible import visible


def text(plan: Plan, outlook: Outlook) -> str:
    """The plan in lines: cost, then by stage the metrics' noise and the people that a partition needs."""
    return "\n".join(_lines(plan, outlook))


def html(plan: Plan, outlook: Outlook) -> str:
    """The plan as tables, without scripts or styles of its own but for some inline ones; everything is escaped."""
    loaded = Environment(
        loader=PackageLoader("dpbeam.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = loaded.get_template("plan.html.j2")
    return page.render(
        dataset=visible(plan.dataset),
        cost=_cost(plan),
        methods=[(name, _number(value)) for name, value in plan.certificate.to_json().items()],
        metrics=[(visible(f.stage), visible(f.metric), *_noise(f)) for f in plan.utility.metrics],
        selections=[_selection(figure) for figure in plan.utility.selections],
        automatic=[_automatic(figure) for figure in plan.utility.automatic],
        coverage=[visible(price(figure)) for figure in plan.utility.coverage],
        people_title=outlook_words.PEOPLE_TITLE,
        people=list(outlook_words.people_rows(outlook)),
        size_title=outlook_words.SIZE_TITLE,
        size_headings=outlook_words.SIZE_HEADINGS,
        sizes=list(outlook_words.size_rows(outlook)),
        remarks=list(outlook_words.remarks(outlook)),
    )


def _lines(plan: Plan, outlook: Outlook) -> Iterator[str]:
    yield f"A release of {visible(plan.dataset)} would cost {_cost(plan)}, over everything in it."
    methods = ", ".join(f"{name} {_number(value)}" for name, value in plan.certificate.to_json().items())
    yield f"ε by method of composition: {methods}; the least counts."
    stages = [figure.stage for figure in plan.utility.metrics] + [figure.stage for figure in plan.utility.selections]
    for stage in dict.fromkeys(stages):
        yield ""
        yield f"{visible(stage)}:"
        for metric in (figure for figure in plan.utility.metrics if figure.stage == stage):
            std, margin = _noise(metric)
            yield f"  {visible(metric.metric)}: noise of standard deviation {std}; 95 % lie within {margin}"
            if metric.note is not None:
                yield f"    ({metric.note})"
        for selection in (figure for figure in plan.utility.selections if figure.stage == stage):
            what, few, many = _selection(selection)[1:]
            yield f"  {what} is kept with probability 50 % from {few} people on, and with 99 % from {many}"
        yield from outlook_words.stage_lines(outlook, stage)
    yield from (visible(price(figure)) for figure in plan.utility.coverage)
    for stage, what, most in map(_automatic, plan.utility.automatic):
        yield f"{stage}: the run finds {what}; the figures above are for the most that it may become, {most}."
    yield from outlook_words.remarks(outlook)


def _cost(plan: Plan) -> str:
    return f"ε {exact(plan.epsilon)}, δ {exact(plan.delta)}"


def _noise(figure: MetricFigure) -> tuple[str, str]:
    """Standard deviation and half-width; of a metric that is made from several noisy numbers, those of each."""
    if figure.std is not None and figure.half_width_95 is not None:
        return _number(figure.std), f"±{_number(figure.half_width_95)}"
    stds = (f"{_number(part.std)} on {visible(part.metric)}" for part in figure.parts)
    margins = (f"±{_number(part.half_width_95)}" for part in figure.parts)
    return ", ".join(stds), ", ".join(margins)


def _selection(figure: SelectionFigure) -> tuple[str, str, str, str]:
    what = f"a value of {visible(figure.metric)}" if figure.keeps_values else "a partition"
    return visible(figure.stage), what, f"{figure.units_50:,}", f"{figure.units_99:,}"


def _automatic(figure: AutomaticFigure) -> tuple[str, str, str]:
    of = "" if figure.metric is None else f" of {visible(figure.metric)}"
    return visible(figure.stage), f"{figure.parameter}{of}", _number(figure.most)


def _number(value: float | None) -> str:
    return significant(value)
