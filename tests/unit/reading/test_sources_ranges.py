"""CSV whose lines are rows, cut anywhere: each row comes once, and a line's fate is its own."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.errors import DataError, UsageError
from dpbeam.queries.source import Column, InputSpec, Rule
from dpbeam.reading.formats import Split, base, delimited, inspect_file, read_split
from dpbeam.reading.rows import prepare

KEPT = Rule(action="replace", value="none")


def spec(action: str = "drop", **options: Any) -> InputSpec:
    columns = tuple(
        Column(name=name, type="string", on_null=KEPT, on_invalid=Rule(action=action))  # type: ignore[arg-type]
        for name in ("a", "b")
    )
    return InputSpec(format="csv", paths=(), columns=columns, **({"quoted_newlines": False} | options))


def rows(raw: bytes, wanted: InputSpec | None = None, start: int = 0, end: int | None = None) -> list[tuple[str, str]]:
    wanted = wanted or spec()
    batches = [
        prepare(batch, wanted) for batch in read_split(io.BytesIO(raw), Split("t", start=start, end=end), wanted)
    ]
    return [(row["a"], row["b"]) for batch in batches for row in batch.to_pylist()]


def in_ranges(raw: bytes, cut: int, block: int) -> list[tuple[str, str]]:
    old = base.RANGE_BYTES, base.BLOCK_BYTES
    base.RANGE_BYTES, base.BLOCK_BYTES = cut, block
    try:
        found = inspect_file(io.BytesIO(raw), spec(), "t")
        return [row for each in found for row in rows(raw, None, each.start, each.end)]
    finally:
        base.RANGE_BYTES, base.BLOCK_BYTES = old


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='",\r\n'), max_size=5)
quoted = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=5).map(
    lambda text: '"' + text.replace('"', '""') + '"'
)
scraps = st.text(st.sampled_from('a1,"" \t\0'), max_size=8)
good = st.tuples(plain | quoted, plain | quoted).map(",".join)
line = good | good | scraps | st.tuples(good, scraps).map("".join)
ends = st.sampled_from(["\n", "\r\n"])


@settings(deadline=None, max_examples=200)
@given(st.lists(line, max_size=15), st.integers(1, 40), st.sampled_from([1, 5, 64, 1 << 20]), ends, st.booleans())
def test_ranges_of_any_size_give_each_row_once(lines: list[str], cut: int, block: int, end: str, ended: bool) -> None:
    raw = (end.join(["x,a,b".replace("x,", ""), *lines]) + end * ended).encode()
    assert in_ranges(raw, cut, block) == rows(raw)


@settings(deadline=None, max_examples=200)
@given(st.lists(line, max_size=12))
def test_each_line_alone_has_the_fate_it_has_among_others(lines: list[str]) -> None:
    alone = [row for each in lines for row in rows(f"a,b\n{each}\n".encode())]
    assert rows("\n".join(["a,b", *lines]).encode()) == alone


@settings(deadline=None, max_examples=100)
@given(st.lists(good, max_size=12))
def test_well_formed_rows_are_those_that_the_other_mode_reads(lines: list[str]) -> None:
    raw = "\n".join(["a,b", *lines]).encode()
    assert rows(raw) == rows(raw, spec(quoted_newlines=True))


def test_an_open_quote_is_its_own_line_s_matter() -> None:
    raw = b'a,b\n1,2\n"3,4\n5,6\nx"y,"7\n8,9\n'
    assert rows(raw) == [("1", "2"), ("5", "6"), ("8", "9")]
    with pytest.raises(DataError) as caught:
        rows(raw, spec("fail"))
    assert str(caught.value) == (
        "t has a row of the wrong width (more or fewer fields than the header), and column a says on_invalid: fail. "
        "Correct the file, or declare on_invalid: drop for the column."
    )


def test_without_the_check_of_quotes_an_open_one_takes_the_next_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check is for: pyarrow carries an open quote over the end of the line."""
    import numpy as np

    monkeypatch.setattr(delimited, "_whole_lines", lambda lines, block, pattern: np.ones(len(lines), dtype=bool))
    assert rows(b'a,b\n1,"2\n3,4"\n5,6\n') != [("5", "6")]


def test_a_quoted_line_break_makes_two_bad_lines() -> None:
    assert rows(b'a,b\n1,"x\ny"\n3,4\n') == [("3", "4")]


def test_a_stray_carriage_return_is_its_own_line_s_matter() -> None:
    assert rows(b"a,b\n1,2\r3,4\n5,6\r\n") == [("5", "6")]


def test_lines_that_end_with_a_carriage_return_alone_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(b"a,b\r1,2\r"), spec(), "t")
    assert str(caught.value) == (
        "t: its lines end with a carriage return alone. With source.quoted_newlines: false they must end with a line "
        "feed; convert the file, or leave the key out."
    )


def test_a_big_file_is_cut_only_if_lines_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "RANGE_BYTES", 10)
    raw = b"a,b\n" + b"1,2\n" * 9
    found = inspect_file(io.BytesIO(raw), spec(), "t")
    assert [(each.start, each.end, each.size) for each in found] == [
        (0, 10, 10), (10, 20, 10), (20, 30, 10), (30, None, 10)
    ]  # fmt: skip
    assert inspect_file(io.BytesIO(raw), spec(quoted_newlines=True), "t") == [Split("t")]


def test_a_header_longer_than_a_range_is_read_once() -> None:
    raw = b"a,b\n" + b"1,2\n" * 3
    assert in_ranges(raw, 1, 1) == [("1", "2")] * 3
