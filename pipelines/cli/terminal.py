"""What people see in the terminal of plans, releases and balances.

Keys come from the data: they are shown as plain text made visible, on the one line that is theirs, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import pyarrow as pa
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dpbeam.accounting import emptiness
from dpbeam.accounting.outlook import Outlook
from dpbeam.accounting.plan import Plan
from dpbeam.accounting.utility import MetricFigure, SelectionFigure, selection_figure
from dpbeam.engine.stage import StageSpec
from dpbeam.ledger.accounts import Balance
from dpbeam.ledger.amounts import Amount
from dpbeam.mechanisms.events import Laplace, LaplaceThresholding, TruncatedGeometric
from dpbeam.mechanisms.targets import OfQuantity, target
from dpbeam.pipelines.cli.outlook_tables import outlook_tables
from dpbeam.pipelines.cli.printing import line
from dpbeam.reporting import emptied
from dpbeam.reporting.numbers import humane, significant
from dpbeam.reporting.rows import top_rows
from dpbeam.reporting.visible import visible, visible_key

if TYPE_CHECKING:
    from dpbeam.reporting.manifest import ChosenBound, Coverage
    from dpbeam.reporting.tables import MetricColumn

TOP = 10
_COLUMNS = 8
"""Of a metric with more columns, as the sum of vectors, so many are shown."""
_KEY_CHARS = 40
_USED = 0.97
"""The part of a run's ε that a plan uses, unless its noise can't be smaller."""
_SOME_SIGMAS = 1.5
"""Moves below this are within the reach of Gaussian samples but for a δ of 2e-13."""


def results(
    spec: StageSpec, table: pa.Table, width: int | None = None, coverage: Coverage | None = None
) -> RenderableType:
    """The top rows of one stage's results, each value above its 95 % interval; of its metrics as many as fit the width
    (None: all), one at least. Below them what became of the stage's rows, if the run bought to know it, and that all is
    noise, where it is."""
    from dpbeam.pipelines.lifecycle.report_facts import metric_columns  # lazily: no plan needs what makes reports
    from dpbeam.reporting import clearness
    from dpbeam.reporting import coverage as words

    noise = clearness.warning(spec.name, metric_columns(spec), table, has_coverage=coverage is not None)
    said = [*words.said(coverage), *filter(None, [noise])]
    return Group(_rows(spec, table, width), *map(line, said))


def _rows(spec: StageSpec, table: pa.Table, width: int | None) -> RenderableType:
    if not table.num_rows:
        needed = None if spec.selection is None else selection_figure(spec.selection)
        return line(f"{spec.name}: no partition was kept. {emptied.why(needed)}")
    from dpbeam.pipelines.lifecycle.report_facts import metric_columns  # lazily: no plan needs what makes reports

    columns = [column for column in metric_columns(spec) if column.place < _COLUMNS]
    first = columns[0].name if columns else None
    many = "partition" if table.num_rows == 1 else "partitions"
    title = f"{spec.name}: {table.num_rows:,} {many} released" if spec.keys else f"{spec.name}: the whole table"
    if table.num_rows > TOP:
        title += f"; the {TOP} with the largest {first}" if first else f"; the first {TOP}"
    labels = {column.name: column.label for column in columns if column.label is not None}
    keys = len(spec.result_keys)  # of a cached release the stage was never rolled up
    grid = [[*map(line, spec.result_keys), *(line(column.name) for column in columns)]]
    for row in top_rows(
        table, keys=spec.result_keys, metrics=[c.name for c in columns], by=first, limit=TOP, labels=labels
    ):
        cells: list[Text] = [Text(_short(key)) for key in row.keys]
        for column in columns:
            value = row.values[column.name]
            spread = column.one_std if column.one_std is not None else (value.high - value.low) / 4
            interval = f"{humane(value.low, spread)} … {humane(value.high, spread)}"
            label = row.labels.get(column.name)
            named = "" if label is None else f"{_short(label) or '(empty)'}: "
            cells.append(Text.assemble(named, humane(value.value, spread), "\n", (interval, "dim")))
        grid.append(cells)
    fit = len(grid[0]) if width is None else max(keys + 1, _fitting(grid, width))
    shown = Table(
        title=visible(title),
        title_justify="left",
        min_width=60,
        caption=Text(". ".join(_captions(columns, columns[fit - keys :])), style="table.caption") if columns else None,
        caption_justify="left",
    )
    for place, heading in enumerate(grid[0][:fit]):
        shown.add_column(heading, justify="left" if place < keys else "right", overflow="fold")
    for cells in grid[1:]:
        shown.add_row(*cells[:fit])
    return shown


def _fitting(grid: Sequence[Sequence[Text]], width: int) -> int:
    """How many columns a terminal shows without breaking a word; each has three more for its lines."""
    ends = accumulate(
        max(cell_len(part) for cell in cells for part in cell.plain.split("\n")) + 3
        for cells in zip(*grid, strict=True)
    )
    return sum(end + 1 <= width for end in ends)


def _captions(columns: Sequence[MetricColumn], left_out: Sequence[MetricColumn]) -> Iterator[str]:
    if columns:
        yield "Below each value: its 95 % interval"
    for column in columns:
        if column.place == 0 and column.of > _COLUMNS:
            yield f"{visible(column.name)} is the first of {column.of:,} columns, of which {_COLUMNS} are shown"
    if left_out:
        yield f"For {visible(left_out[0].name)} and what follows there is no room: see the report and the files"


def _short(key: str) -> str:
    text = visible_key(key[: _KEY_CHARS + 1])
    return text if len(text) <= _KEY_CHARS else text[: _KEY_CHARS - 1] + "…"


def plan(made: Plan, balance: Balance | None, outlook: Outlook | None = None) -> RenderableType:
    """The plan: the noise of every metric, the counts that selections need, ε by each method, what would be left."""
    noise = Table(title=f"Plan for {made.dataset}: ε {made.epsilon:g}, δ {made.delta:g} a run")
    noise.add_column("stage")
    noise.add_column("metric")
    noise.add_column("noise std", justify="right")
    noise.add_column("95 % half-width", justify="right")
    relative = {(each.stage, each.quantity): each.std for each in made.utility.relative}
    for figure in made.utility.metrics:
        for name, quantity, std, half_width in _noise_of(figure):
            of_one_row = relative.get((figure.stage, quantity))
            scale, unit = (1.0, "") if of_one_row is None else (std / of_one_row, " r")
            shown = (significant(std / scale) + unit, f"± {significant(half_width / scale)}{unit}")
            noise.add_row(figure.stage, line(name), *shown)
    from dpbeam.reporting.coverage import price  # lazily, as above

    lines: list[RenderableType] = [noise, *map(line, _automatic(made)), *map(line, _others(made))]
    for found in made.utility.selections:
        lines.append(
            line(
                f"{found.stage}: {found.kind.replace('_', ' ')} keeps {_kept(found)} of {found.units_50:,} "
                f"privacy units with probability 50 %, of {found.units_99:,} with 99 %, below {found.pre_threshold:,} "
                f"never{': ' + found.note if found.note else ''}."
            )
        )
    for shared in made.utility.sharing:
        names = " and ".join((", ".join(shared.serves[:-1]), shared.serves[-1]))
        of_one_row = relative.get((shared.stage, shared.quantity))
        scale, unit = (1.0, "") if of_one_row is None else (shared.std / of_one_row, " r")
        lines.append(
            line(
                f"{shared.stage}: {names} share one noisy {_part(shared.stage, shared.quantity)}, of std "
                f"{significant(shared.std / scale)}{unit}; each by itself, the best would have "
                f"{significant(shared.std_unshared / scale)}{unit}."
            )
        )
    lines.extend(line(price(figure)) for figure in made.utility.coverage)
    if not made.utility.coverage:
        lines.append(
            line(
                "No coverage is bought: were most rows dropped by a rule or cut by a bound, the release wouldn't say "
                "so (docs/policy.md)."
            )
        )
    lines += [] if outlook is None else outlook_tables(outlook)
    certificate = made.certificate.to_json()
    methods = ", ".join(f"{name} {significant(certificate[name], 4)}" for name in ("pld", "rdp", "naive"))
    lines.append(line(f"ε of everything together at δ {made.delta:g}: {methods}; the least counts. No data was read."))
    lines.extend(map(line, _unused(made)))
    lines.extend(line(f"Note: {text}.") for text in emptiness.warnings(made))
    if balance is not None:
        left = balance.left
        asked = Amount.charge(made.epsilon, made.delta)
        after = f"{left - asked} after this run" if asked.fits(left) else "not enough for this run"
        lines.append(line(f"Left in the ledger: {left} of {balance.cap}; {after}."))
    return Group(*lines)


def _noise_of(figure: MetricFigure) -> Iterator[tuple[str, str, float, float]]:
    """(what is shown, quantity, std, half-width) of a metric; of one whose noise depends on the data, of its parts."""
    for part in figure.parts:
        yield f"{figure.metric}: {_part(part.stage, part.metric)}", part.metric, part.std, part.half_width_95
    if not figure.parts and figure.std is not None and figure.half_width_95 is not None:
        yield figure.metric, figure.metric, figure.std, figure.half_width_95


def _unused(made: Plan) -> Iterator[str]:
    """Gaussian samples end, so that from some ε on more of it makes their noise no smaller: where one unit moves a
    number by some σ. A plan may use less than its ε for other reasons, too."""
    moves = (
        m.l2 / m.sigma for m in made.mechanisms if not isinstance(m, Laplace | LaplaceThresholding | TruncatedGeometric)
    )
    if max(moves, default=0.0) > _SOME_SIGMAS and made.certificate.epsilon < _USED * made.epsilon:
        yield (
            f"A run is charged ε {made.epsilon:g}, but what is above ε {significant(made.certificate.epsilon, 4)} has "
            "no effect: Gaussian noise, that of selections too, can't be smaller (docs/known_limits.md). Lower "
            "run.epsilon, or use laplace noise, and truncated_geometric or laplace_thresholding to select."
        )


def _kept(figure: SelectionFigure) -> str:
    """What a selection keeps: partitions, or values in a partition."""
    return f"a value of {figure.metric}" if figure.keeps_values else "a partition"


def _automatic(made: Plan) -> list[str]:
    """What isn't known before the run, and what that means for the figures shown."""
    found: list[str] = []
    bounds = made.utility.automatic
    for stage in dict.fromkeys(bound.stage for bound in bounds):
        own = [b for b in bounds if b.stage == stage and b.metric is None]
        if own:
            names = " and ".join(f"{b.parameter} (at most {b.most:,.0f})" for b in own)
            found.append(f"{stage}: the run finds {names}. Not known yet: figures are for the most, and will be lower.")
        sides: dict[str, list[str]] = {}
        for bound in bounds:
            if bound.stage == stage and bound.metric is not None:
                sides.setdefault(bound.metric, []).append(bound.parameter)
        if sides:
            names = ", ".join(f"{' and '.join(parameters)} of {metric}" for metric, parameters in sides.items())
            found.append(f"{stage}: the run finds {names}. Not known yet.")
    if made.utility.relative:
        found.append("r is the most that one row may add, by the bounds that the run finds.")
    return found


def _others(made: Plan) -> list[str]:
    """What one privacy unit adds to one `other` of hierarchical keys, and the noise there."""
    found: list[str] = []
    for stage in dict.fromkeys(figure.stage for figure in made.utility.others):
        own = [figure for figure in made.utility.others if figure.stage == stage]
        rows = "" if own[0].rows is None else f"{own[0].rows:,} rows, of "
        moves = ", ".join(f"{_part(stage, figure.quantity)} by {significant(figure.most)}" for figure in own)
        stds = ", ".join(f"{_part(stage, figure.quantity)} {significant(figure.std)}" for figure in own)
        found.append(
            f"{stage}: to one (other) a privacy unit adds at most {rows}{own[0].leaves:,} leaves. "
            f"That moves its {moves} at most. Noise std there: {stds}."
        )
    return found


def chosen(bounds: Sequence[ChosenBound]) -> RenderableType:
    """The bounds that a run found, a line each, and what they leave out."""
    lines = []
    for bound in bounds:
        what = bound.parameter if bound.metric is None else f"{bound.parameter} of {bound.metric}"
        how = "from a noisy histogram" if bound.keeps is None else f"from a noisy histogram; {bound.keeps}"
        how = "nothing stood out from the noise, so this is the fallback" if bound.fallback else how
        lines.append(line(f"{bound.stage}: found {what} = {bound.value:g} ({how})"))
    if any(bound.kept is not None and bound.kept < 1 for bound in bounds):
        lines.append(line("What isn't kept makes counts and sums lower than without bounds; intervals don't cover it."))
    return Group(*lines)


def _part(stage: str, quantity: str) -> str:
    """What a part of a metric is, in words; of a quantity that is none, its name."""
    match target(stage, quantity):
        case OfQuantity(part="sum"):
            return "centred sum"
        case OfQuantity(part="squares"):
            return "centred squares"
        case OfQuantity(part="tree"):
            return "each count of its tree"
        case _:
            return quantity
