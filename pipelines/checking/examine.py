"""The pass over the data behind `dpbeam check`: as a run reads, validates and filters rows, without releasing any.

Guarantee: makes no release, so it charges nothing, takes no ledger and writes no file; what it returns are raw figures
for the operator alone. No message of it, and no exception that leaves it, holds a figure or a value.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.accounting.plan import plan as make_plan
from dpbeam.errors import DataError
from dpbeam.pipelines.checking.figures import Broken, Figures, Filtered
from dpbeam.pipelines.checking.leniency import lenient
from dpbeam.pipelines.checking.merged import MOST_ROWS, Merged, hashes, plain
from dpbeam.pipelines.checking.stage import StageTally
from dpbeam.pipelines.lifecycle import inputs
from dpbeam.policy.compile import query as compile_query
from dpbeam.policy.schema.policy import Policy
from dpbeam.policy.schema.policy import Stage as StatedStage
from dpbeam.queries.query import Query, Stage
from dpbeam.queries.source import FORMATS, InputSpec, Rule
from dpbeam.reading import rows
from dpbeam.reading.formats import Portion
from dpbeam.transforms.steps.read import raw_blocks

Share = Callable[[int, int], None]
"""Is told how many portions of how many are read."""


def examine(policy: Policy, share: Share = lambda done, of: None, *, most: int = MOST_ROWS) -> Figures:
    """Reads all rows of a policy's source and says what a release of it would lose.

    Tables of more than `most` rows are sampled by units or partitions, which the figures say.

    Raises:
        UsageError: the input can't be used, as for a run.
        Refused: no plan can be made, as for a run.
        RunFailed: a file is damaged, or changed while it was read.
    """
    query = compile_query(policy)
    least = _least(query)
    found = inputs.resolve(query.source)
    tally = _Counts(query, policy, most)
    for done, portion in enumerate(found.splits):
        share(done, len(found.splits))
        for raw in raw_blocks(portion, tally.lenient):
            tally.add(raw)
    malformed = _malformed(query.source, found.splits)
    inputs.check_unchanged(found)
    return tally.figures(malformed=malformed, least=least)


class _Counts:
    """Everything but what is one stage's own."""

    def __init__(self, query: Query, policy: Policy, most: int) -> None:
        self._query, self._source, seed = query, query.source, secrets.randbits(63)
        self.lenient = lenient(query.source)
        self._typed = replace(self.lenient, where=())
        self._seed = seed
        self._stages = [
            StageTally(stage, query.unit, _linf(stage, stated), seed, most)
            for stage, stated in zip(query.stages, policy.stages, strict=True)
        ]
        self._units = Merged(["plain", "unit"], "plain", most)
        self._ids_are_text = False
        self._broken: Counter[tuple[str, str]] = Counter()
        self._filtered = [0] * len(query.source.where)
        self._rows = self._dropped = self._left = 0

    def add(self, raw: pa.RecordBatch) -> None:
        """Adds a batch of raw rows."""
        if not raw.num_rows:
            return
        typed = rows.prepare(raw, self._typed, self._watch)
        self._rows += raw.num_rows
        self._dropped += raw.num_rows - typed.num_rows
        kept = pa.repeat(pa.scalar(True), typed.num_rows)
        columns = {name: typed.column(name) for name in typed.schema.names}
        for place, true in enumerate(rows.conditions(columns, self._source)):
            self._filtered[place] += pc.sum(pc.invert(true)).as_py() or 0
            kept = pc.and_(kept, true)
        self._add_units(typed, kept)
        left = typed.filter(kept)
        self._left += left.num_rows
        for stage in self._stages:
            stage.add(left)

    def _watch(self, column: str, rule: str, mask: pa.Array) -> None:
        self._broken[column, rule] += pc.sum(mask).as_py() or 0

    def _add_units(self, typed: pa.RecordBatch, kept: pa.Array) -> None:
        if self._query.unit is None or not typed.num_rows:
            return
        ids = pl.DataFrame({"id": pl.Series(typed.column(self._query.unit)), "left": pl.Series(kept)})
        once = ids.group_by("id").agg(pl.col("left").sum().cast(pl.Int64))
        unit = hashes(once["id"].to_arrow(), self._seed)
        self._ids_are_text = once["id"].dtype == pl.String
        alike = hashes(plain(once["id"]).to_arrow(), self._seed) if self._ids_are_text else unit
        self._units.add(pl.DataFrame({"plain": alike, "unit": unit, "left": once["left"]}))

    def figures(self, *, malformed: bool, least: Mapping[str, Sequence[tuple[str, int]]]) -> Figures:
        """All that was found."""
        query, units, spellings = self._query, self._units.table(), None
        if units is not None and self._ids_are_text:
            spellings = int((units.group_by("plain").len()["len"] > 1).sum())
        rules = {column.name: column for column in (*self._source.columns, *self._source.derived)}
        return Figures(
            dataset=query.dataset,
            unit=query.unit,
            rows=self._rows,
            malformed=malformed,
            broken=tuple(
                Broken(column=column, rule=rule, action=getattr(rules[column], rule).action, rows=count)
                for (column, rule), count in sorted(self._broken.items())
            ),
            dropped=self._dropped,
            filtered=tuple(
                Filtered(condition=f"{each.column} {each.op} {each.value!r}", rows=out)
                for each, out in zip(self._source.where, self._filtered, strict=True)
            ),
            left=self._left,
            units=0 if units is None else len(units),
            units_left=0 if units is None else int((units["left"] > 0).sum()),
            units_in=self._units.one_in,
            unit_spellings=spellings,
            unused=self._source.unused,
            stages=tuple(tally.figures(least.get(tally.name, ())) for tally in self._stages),
        )


def _linf(stage: Stage, stated: StatedStage) -> int | None:
    """The most rows that count of a unit in a partition. Of rows that are aggregated already the stage itself has none:
    there the counts are clipped."""
    if stage.counted_by is None:
        return stage.bounds.linf
    return stated.bounds.linf if isinstance(stated.bounds.linf, int) else None


def _malformed(spec: InputSpec, portions: Sequence[Portion]) -> bool:
    """Whether some row is no row at all. Readers leave such rows out without a count, so the text is read again, up to
    the first that they refuse."""
    if not FORMATS[spec.format].packed_whole:
        return False
    first, *others = spec.columns
    strict = replace(lenient(spec), columns=(replace(first, on_invalid=Rule(action="fail")), *others))
    try:
        for portion in portions:
            for _ in raw_blocks(portion, strict):
                pass
    except DataError:
        return True
    return False


def _least(query: Query) -> dict[str, list[tuple[str, int]]]:
    """By stage, what a partition needs how many units for, as the plan says."""
    least: dict[str, list[tuple[str, int]]] = {}
    for figure in make_plan(query).utility.selections:
        if not figure.keeps_values:
            words = [
                (f"fewer than {figure.units_50:,} units, so kept with probability below 50 %", figure.units_50),
                (f"fewer than {figure.units_99:,}, so below 99 %", figure.units_99),
            ]
            if figure.pre_threshold > 1:
                words.insert(0, (f"fewer than {figure.pre_threshold:,} units, so never kept", figure.pre_threshold))
            least[figure.stage] = words
    return least
