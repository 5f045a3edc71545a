"""Raw figures stay apart: what reads them, and what is shown of them, is known by name."""

from __future__ import annotations

import ast
import re

import pytest

from dpbeam.pipelines.checking.figures import Broken, Clips, Figures, Filtered, Kept, Spellings, StageFigures
from dpbeam.pipelines.cli.check_text import ABOUT, RAW, lines
from tests.helpers.imports import ROOT, imported, module_paths, name_of

RAW_ROOMS = ("dpbeam.pipelines.checking", "dpbeam.pipelines.tuning")
SHOWN_BY = {
    f"dpbeam.pipelines.cli.{name}"
    for name in ("check", "check_text", "tune", "tune_private", "tune_text", "tuned_policy")
}


def test_only_the_commands_and_their_texts_see_raw_figures() -> None:
    importers = {
        name_of(path)
        for path in module_paths()
        if any(name == room or name.startswith(room + ".") for name in imported(path) for room in RAW_ROOMS)
    }
    assert {name for name in importers if not name.startswith(RAW_ROOMS)} == SHOWN_BY


@pytest.mark.parametrize("room", ["checking", "tuning"])
def test_what_makes_figures_neither_logs_nor_warns_nor_writes(room) -> None:
    for path in (ROOT / "pipelines" / room).glob("*.py"):
        assert imported(path).isdisjoint({"logging", "warnings", "os", "sys", "json", "pickle", "tempfile", "pathlib"})
        calls = {node.func.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
                 and isinstance(node.func, ast.Name)}  # fmt: skip
        assert calls.isdisjoint({"open", "print"})


def test_no_other_step_watches_which_rows_break_a_rule() -> None:
    watching = {
        name_of(path)
        for path in module_paths()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("prepare")
        and (len(node.args) > 2 or any(word.arg == "watch" for word in node.keywords))
    }
    assert watching == {"dpbeam.pipelines.checking.examine"}


STAGE = StageFigures(
    name="s", rows=990, outside=10, kept=(
        Kept(bound="l0", limit=4, is_searched=True, rows=0.9996, units=0.5, quantiles=(1, 2, 3, 9)),
    ), together=0.25, clips=(
        Clips(metric="m", of=990, what="v in [0, 1]", below=None, above=1),
        Clips(metric="n", of=990, what="v, whose low and high the run finds", below=None, above=None),
    ), has_keys=True, partitions=2, listed=3, smallest=((("a\x1b[31m", "2"), 1),), few=(("fewer than 9 units", 2),),
    spellings=(Spellings(column="k", groups=1, shown=((("A", 5), ("a ", 1)),)),), units_in=4, partitions_in=1,
)  # fmt: skip
FOUND = Figures(
    dataset="d", unit="u", rows=1200, malformed=True, broken=(
        Broken(column="c", rule="on_null", action="fail", rows=12),
    ), dropped=12, filtered=(Filtered(condition="c > 1", rows=188),), left=1000, units=7, units_left=6, units_in=2,
    unit_spellings=3, unused=("x", "y"), stages=(STAGE,),
)  # fmt: skip


def test_the_text_says_first_what_it_holds_and_then_what_was_lost() -> None:
    assert lines(FOUND) == [
        RAW,
        ABOUT,
        "",
        "d: 1,200 rows read",
        "  some lines of the files are no rows (wrong width, or no JSON object): left out, and not counted here",
        "  c, on_null (missing): 12 rows, 1.0 %, would end the run; dropped here",
        "  dropped by these rules: 12 rows, 1.0 %",
        "  where c > 1: leaves out 188 rows, 15.8 %",
        "  left for the stages: 1,000 of 1,200 rows, 83.3 %, and about 12 of 14 values of u",
        "  u: groups of values that look like spellings of one: 3 (case, blanks, hyphens, Unicode's forms). Each value "
        "is a unit of its own, with all that a unit may contribute: mend them",
        "  never used, so not read: x, y",
        "",
        "s: 990 rows",
        "  in no public partition: 10 rows, 1.0 %, left out",
        "  too many pairs of units and partitions: figures of units are of one in 4",
        "  l0 = at most 4 keeps >99.9 % of rows; 50.0 % of units lose none. There are 1 partitions a unit at the "
        "median, 2 at 90 %, 3 at 99 %, 9 at most",
        "  l0 and linf together keep 25.0 % of rows",
        "  m (v in [0, 1]): 1 above (0.1 %) of 990",
        "  n (v, whose low and high the run finds): not known before the run",
        "  public partitions with rows: 2 of 3",
        "    2 with fewer than 9 units",
        "    among the smallest: 'a\\x1b[31m', '2', of 1",
        "  k: groups of keys that look like spellings of one: 1",
        "    'A' (5 rows), 'a ' (1 rows)",
    ]


def test_the_first_sentence_says_that_the_figures_are_raw() -> None:
    assert re.match(r"This holds raw figures of the data", RAW)
