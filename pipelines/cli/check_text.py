"""What `dpbeam check` shows, in lines: raw figures, for the operator's screen or a file that nobody else may read."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.pipelines.checking.figures import Clips, Figures, Kept, StageFigures
from dpbeam.reporting.visible import visible

RAW = (
    "This holds raw figures of the data, made without noise: it is no release, and nothing protects the people behind "
    "it. Keep it where the data are."
)
ABOUT = (
    "A check reads the data, makes no release and charges nothing. It shows what a release would lose, to whoever may "
    "see the data. Choose bounds by what is known of such data, where you can: bounds that follow these figures tell "
    "of them, and no budget counts that."
)
_MEANS = {"on_invalid": "not of the type", "on_null": "missing", "on_nan": "NaN", "on_inf": "infinite"}
_DOES = {"drop": "dropped", "fail": "would end the run; dropped here", "replace": "replaced"}


def lines(found: Figures) -> list[str]:
    """The figures as lines of text, each `visible`; no value in them can write a line of its own."""
    return [visible(line) for line in _lines(found)]


def _lines(found: Figures) -> Iterator[str]:
    yield RAW
    yield ABOUT
    yield ""
    yield f"{found.dataset}: {found.rows:,} rows read"
    if found.malformed:
        yield "  some lines of the files are no rows (wrong width, or no JSON object): left out, and not counted here"
    for each in found.broken:
        share = _share(each.rows, found.rows)
        yield f"  {each.column}, {each.rule} ({_MEANS[each.rule]}): {each.rows:,} rows, {share}, {_DOES[each.action]}"
    yield f"  dropped by these rules: {found.dropped:,} rows, {_share(found.dropped, found.rows)}"
    whole = found.rows - found.dropped
    for condition in found.filtered:
        yield f"  where {condition.condition}: leaves out {condition.rows:,} rows, {_share(condition.rows, whole)}"
    units = ""
    if found.unit is not None:
        few, of = found.units_left * found.units_in, found.units * found.units_in
        about = "about " if found.units_in > 1 else ""
        units = f", and {about}{few:,} of {of:,} values of {found.unit}"
    yield f"  left for the stages: {found.left:,} of {found.rows:,} rows, {_share(found.left, found.rows)}{units}"
    if found.unit_spellings:
        yield (
            f"  {found.unit}: groups of values that look like spellings of one: {found.unit_spellings:,} (case, "
            "blanks, hyphens, Unicode's forms). Each value is a unit of its own, with all that a unit may contribute: "
            "mend them"
        )
    if found.unused:
        yield f"  never used, so not read: {', '.join(found.unused)}"
    for stage in found.stages:
        yield ""
        yield from _stage(stage)


def _stage(found: StageFigures) -> Iterator[str]:
    yield f"{found.name}: {found.rows:,} rows"
    if found.listed is not None:
        of = found.rows + found.outside
        yield f"  in no public partition: {found.outside:,} rows, {_share(found.outside, of)}, left out"
    if found.units_in > 1:
        yield f"  too many pairs of units and partitions: figures of units are of one in {found.units_in:,}"
    for kept in found.kept:
        yield from _kept(kept)
    if found.together is not None:
        yield f"  l0 and linf together keep {_percent(found.together)} of rows"
    for clips in found.clips:
        yield f"  {clips.metric} ({clips.what}): {_clips(clips)}"
    if not found.has_keys:
        return
    about = f"about {found.partitions:,}" if found.partitions_in > 1 else f"{found.partitions:,}"
    if found.listed is None:
        yield f"  partitions: {about}"
    else:
        yield f"  public partitions with rows: {about} of {found.listed:,}"
    for words, number in found.few:
        yield f"    {number:,} with {words}"
    for keys, people in found.smallest:
        yield f"    among the smallest: {', '.join(map(repr, keys))}, of {people:,}"
    for spelling in found.spellings:
        yield f"  {spelling.column}: groups of keys that look like spellings of one: {spelling.groups:,}"
        for group in spelling.shown:
            yield "    " + ", ".join(f"{value!r} ({rows:,} rows)" for value, rows in group)


def _kept(kept: Kept) -> Iterator[str]:
    has = {"l0": "partitions a unit", "linf": "rows a unit and partition", "l1": "rows a unit"}[kept.bound]
    low, high, far, most = kept.quantiles
    at_most = "at most " if kept.is_searched else ""
    yield (
        f"  {kept.bound} = {at_most}{kept.limit:,} keeps {_percent(kept.rows)} of rows; {_percent(kept.units)} of "
        f"units lose none. There are {low:,} {has} at the median, {high:,} at 90 %, {far:,} at 99 %, {most:,} at most"
    )


def _clips(clips: Clips) -> str:
    sides = ((clips.below, "below"), (clips.above, "above"))
    said = [f"{number:,} {side} ({_share(number, clips.of)})" for number, side in sides if number is not None]
    return f"{', '.join(said)} of {clips.of:,}" if said else "not known before the run"


def _share(part: int, of: int) -> str:
    return _percent(part / of if of else 0.0)


def _percent(share: float) -> str:
    """A share, rounded so that neither nothing nor all is said of what is a little off them."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1 - 1e-12:
        return ">99.9 %"
    return f"{100 * share:.1f} %"
