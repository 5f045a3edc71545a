"""What a top_k shows to people: the value beside its noisy count, control characters made visible, never as markup."""

from __future__ import annotations

import dataclasses
import re

import pyarrow as pa
import pytest
from rich.console import Console

from dpbeam.engine.release import results
from dpbeam.mechanisms.events import GaussianThresholding
from dpbeam.pipelines.cli import terminal
from dpbeam.pipelines.lifecycle import report_facts
from dpbeam.queries.metrics.counts import Count
from dpbeam.queries.metrics.vectors import VectorSum
from tests.helpers import kernel_reference as reference


def test_the_screen_shows_each_value_before_its_count(exact) -> None:
    spec = reference.stage(metrics=reference.WORD_METRICS, scale=0.01)
    texts = ["[red]a\n", "b", "b"]
    rows = pa.table({"u": [0, 1, 2], "p": [0, 0, 0], "t": texts, "n": [5, 6, 6]}).to_batches()
    (row,) = reference.released(reference.accumulators(rows, spec), spec).values()
    table = pa.Table.from_pylist([{"p": 0} | row])
    console = Console(width=400, record=True, force_terminal=False)
    with console.capture() as shown:
        console.print(terminal.results(spec, table))
    text = shown.get()
    assert "b: 2.00" in text
    assert "[red]a␊: 1.0" in text
    (third,) = (line for line in text.split("\n") if "b: 2.00" in line)
    assert "│ – │" in " ".join(third.split())  # the third of two values; no key of a hierarchy is missing
    assert "(other)" not in text


def test_an_empty_value_is_told_from_none(exact) -> None:
    spec = reference.stage(metrics=reference.WORD_METRICS, scale=0.01)
    rows = pa.table({"u": [0], "p": [0], "t": [""], "n": [5]}).to_batches()
    (row,) = reference.released(reference.accumulators(rows, spec), spec).values()
    console = Console(width=400, record=True, force_terminal=False)
    with console.capture() as shown:
        console.print(terminal.results(spec, pa.Table.from_pylist([{"p": 0} | row])))
    assert "(empty): 1.0" in shown.get()


@pytest.mark.parametrize("width", [10, 60, 76, 77, 110])
def test_a_narrow_terminal_cuts_no_name_and_no_number(width: int) -> None:
    names = [f"metric_{i}" for i in range(9)]
    spec = reference.stage(metrics=tuple(Count(name=name) for name in names))
    values = {column: 123456.0 for name in names for column in results.interval_columns(name)}
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as shown:
        console.print(terminal.results(spec, pa.Table.from_pylist([{"p": 0} | values]), width))
    drawn = [line for line in shown.get().split("\n") if line.startswith(("┃", "│"))]
    if width < 30:  # what has no room even by itself is broken, and not cut
        assert "…" not in drawn[0]
        return
    room = (width - 5) // len(" 123,456.0 … 123,456.0 │")
    assert re.findall(r"metric_\d", drawn[0]) == names[:room]
    assert drawn[2].count("123,456.0 … 123,456.0") == room
    assert (f"metric_{room} and what" in " ".join(shown.get().split())) == (room < len(names))


def test_counts_that_passed_a_threshold_say_that_they_are_biased() -> None:
    columns = {
        column.name: column for column in report_facts.metric_columns(reference.stage(metrics=reference.WORD_METRICS))
    }
    assert (columns["top_1_count"].label, columns["top_1_count"].biased) == ("top_1", True)
    assert (columns["listed_1_count"].label, columns["listed_1_count"].biased) == ("listed_1", False)
    assert (columns["kinds"].label, columns["kinds"].biased) == (None, False)


def test_of_a_metric_with_many_columns_the_screen_shows_the_first(exact) -> None:
    columns = tuple(f"c{i}" for i in range(9))
    vector = VectorSum(name="[b]e", columns=columns, norm="l2", max_norm=1.0)
    spec = reference.stage(metrics=(vector, Count(name="count")), scale=0.01)
    found = report_facts.metric_columns(spec)
    assert [(column.place, column.of) for column in found] == [*((i, 9) for i in range(9)), (0, 1)]
    names = [name for column in found for name in results.interval_columns(column.name)]
    table = pa.Table.from_pylist([{"p": 0} | dict.fromkeys(names, 1.0)])
    console = Console(width=400, record=True, force_terminal=False)
    with console.capture() as shown:
        console.print(terminal.results(spec, table))
    text = shown.get()
    assert "[b]e_7" in text
    assert "[b]e_8" not in text
    assert "count" in text
    assert "Below each value: its 95 % interval. [b]e_0 is the first of 9 columns, of which 8 are shown" in text


@pytest.mark.parametrize(
    ("is_private", "hint"),
    [
        (True, "A partition of 10 privacy units is kept with probability 50 %, of "),
        (False, "`dpbeam plan` shows how many"),
    ],
)
def test_an_empty_table_says_what_it_takes_to_be_kept(exact, is_private, hint) -> None:
    strategy = GaussianThresholding(stage="s", sigma=1.0, l2=1.0, threshold=10.0, delta=1e-6, l0=1)
    spec = reference.stage(metrics=reference.WORD_METRICS, scale=0.01)
    spec = dataclasses.replace(spec, selection=strategy if is_private else None)
    console = Console(width=400, record=True, force_terminal=False)
    with console.capture() as shown:
        console.print(terminal.results(spec, pa.table({"p": pa.array([], pa.int64())})))
    assert shown.get().startswith(f"{spec.name}: no partition was kept. {hint}")
