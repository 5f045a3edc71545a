"""A plan's outlook in words and cells, the same on the screen, in `explain()` and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dpbeam.accounting.outlook import SIZES, Outlook, SizeFigure
from dpbeam.reporting.numbers import about
from dpbeam.reporting.visible import visible

PEOPLE = ("stage", "strategy", "kept with 50 %", "with 99 %")
PEOPLE_TITLE = "People a partition needs, by strategy (* is the policy's)"
SIZE_TITLE = "95 % interval of a result, in a partition of so many rows (privacy_id_count, totals: people)"
SIZE_HEADINGS = ("stage", "metric", *(f"{size:,}" for size in SIZES))
EMPTY = "says nothing"


def people_rows(found: Outlook) -> Iterator[tuple[str, ...]]:
    """The cells of the table of strategies."""
    for figure in found.strategies:
        name = f"{figure.strategy}{' *' if figure.is_stated else ''}"
        yield visible(figure.stage), name, _people(figure.units_50), _people(figure.units_99)


def refusals(found: Outlook) -> Iterator[str]:
    """Why a strategy has no figures, each said once."""
    said = dict.fromkeys((each.strategy, each.refusal) for each in found.strategies if each.refusal is not None)
    for strategy, refusal in said:
        yield f"{strategy} can't be planned: {visible(refusal or '')}"


def size_rows(found: Outlook) -> Iterator[tuple[str, ...]]:
    """The cells of the table of intervals."""
    by_metric: dict[tuple[str, str], list[SizeFigure]] = {}
    for each in found.sizes:
        by_metric.setdefault((each.stage, each.metric), []).append(each)
    for (stage, metric), own in by_metric.items():
        yield visible(stage), visible(metric), *map(interval, own)


def interval(figure: SizeFigure) -> str:
    """Half the interval as people read it: ± 1.2 %, ± 0.2, ± 0.2 … 0.3 by the values."""
    if figure.is_empty:
        return EMPTY
    if figure.kind in ("count", "privacy_id_count"):
        return f"± {about(100 * figure.most / figure.size)} %"
    least, most = about(figure.least), about(figure.most)
    return f"± {most}" if least == most else f"± {least} … {most}"


def same_lines(found: Outlook) -> Iterator[str]:
    """What is one figure under several names."""
    for each in found.same:
        names = " and ".join((", ".join(each.metrics[:-1]), each.metrics[-1]))
        yield f"{visible(each.stage)}: {visible(names)} {each.why}."


def hopeless_lines(found: Outlook) -> Iterator[str]:
    """The metrics that this budget is too small for."""
    for stage, metric in found.hopeless:
        yield (
            f"{visible(stage)}: the noise of {visible(metric)} is as large as all it could be, in a partition of "
            f"{max(SIZES):,} too: the budget isn't enough for it. Raise epsilon, lower l0, or ask for less."
        )


def remarks(found: Outlook) -> Iterator[str]:
    """All that the tables don't hold."""
    yield from refusals(found)
    yield from same_lines(found)
    yield from hopeless_lines(found)


def stage_lines(found: Outlook, stage: str) -> Iterator[str]:
    """One stage's tables as lines of text."""
    named = [(f.strategy, _people(f.units_50), _people(f.units_99)) for f in found.strategies if f.stage == stage]
    if named:
        yield "  people that a partition needs by strategy, to be kept with 50 % and with 99 %:"
        yield "    " + "; ".join(f"{strategy} {few} and {many}" for strategy, few, many in named)
    rows = list(size_rows(replace(found, sizes=tuple(figure for figure in found.sizes if figure.stage == stage))))
    if rows:
        yield f"  95 % intervals in partitions of {', '.join(SIZE_HEADINGS[2:])}:"
        yield from (f"    {row[1]}: {', '.join(row[2:])}" for row in rows)


def _people(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
