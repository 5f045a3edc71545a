"""A CSV row says the same whatever stands before it: NUL bytes, carriage returns, the edges of blocks and members."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.queries.source import Column, InputSpec
from dpbeam.reading.formats import base, delimited, inspect_file, read_split
from dpbeam.reading.formats.delimited import all_as_text
from dpbeam.reading.formats.widened import LentText

Row = tuple[bytes | None, ...]

MEMBER = {
    "t.csv.gz": gzip.compress,
    "t.csv.bz2": bz2.compress,
    "t.csv.xz": lzma.compress,
    "t.csv.zst": lambda raw: pa.Codec("zstd").compress(raw, asbytes=True),
}


def reference(text: bytes) -> Iterator[list[bytes | None]]:
    """The rows of a CSV text byte by byte, as docs/input.md says. An empty field without quotes is None."""
    at, end = 0, len(text)
    while at < end:
        if text[at : at + 1] in (b"\r", b"\n"):
            at += 1  # a blank line, or the second half of \r\n
            continue
        row: list[bytes | None] = []
        while True:
            value, quoted = bytearray(), text[at : at + 1] == b'"'
            at += quoted
            while quoted and at < end:
                if text[at : at + 2] == b'""':
                    at += 1
                elif text[at : at + 1] == b'"':
                    break
                value += text[at : at + 1]
                at += 1
            at += quoted
            while at < end and text[at : at + 1] not in (b",", b"\r", b"\n"):
                value += text[at : at + 1]
                at += 1
            row.append(bytes(value) if value or quoted else None)
            if text[at : at + 1] != b",":
                break
            at += 1
        yield row


def expected(text: bytes, width: int = 2) -> list[Row]:
    _, *rows = reference(text)
    return [tuple(row) for row in rows if len(row) == width]


def spec(*, lines: bool = False, columns: tuple[str, ...] = ("a", "b")) -> InputSpec:
    kinds = tuple(Column(name=name, type="string") for name in columns)
    return InputSpec(format="csv", paths=(), columns=kinds, quoted_newlines=not lines)


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    old, base.BLOCK_BYTES = base.BLOCK_BYTES, size
    try:
        yield
    finally:
        base.BLOCK_BYTES = old


def read(raw: bytes, path: str = "t.csv", wanted: InputSpec | None = None, block: int = 8 << 20) -> list[Row]:
    wanted = wanted or spec()
    with blocks_of(block):
        splits = inspect_file(io.BytesIO(raw), wanted, path)
        batches = [batch for split in splits for batch in read_split(io.BytesIO(raw), split, wanted)]
    return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]


PIECES = [b"\0", b"\r", b"\n", b"\r\n", b'"', b'""', b",", b"a", b"123456789", b"\xc3\xa9", b"\xff", b"\xef\xbb\xbf"]
scraps = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)
whole = st.lists(st.sampled_from(PIECES), max_size=8).map(
    lambda made: b'"' + b"".join(made).replace(b'"', b'""') + b'"'
)
bare = st.lists(st.sampled_from([p for p in PIECES if not set(p) & set(b'\r\n,"')]), max_size=8).map(b"".join)
good = st.tuples(whole | bare, whole | bare).map(b",".join).filter(bool)
sizes = st.sampled_from([8, 9, 13, 16, 31, 64, 8 << 20])
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@settings(deadline=None, max_examples=300)
@given(st.lists(good | scraps, max_size=12), sizes, ends)
def test_any_text_has_the_rows_that_its_bytes_spell(parts: list[bytes], block: int, end: bytes) -> None:
    raw = end.join([b"a,b", *parts])
    assert read(raw, block=block) == expected(raw + b"\n")


@settings(deadline=None, max_examples=150)
@given(st.lists(good, max_size=12), st.data(), sizes, ends)
def test_one_row_more_changes_no_other(rows: list[bytes], data: st.DataObject, block: int, end: bytes) -> None:
    more, at = data.draw(good), data.draw(st.integers(0, len(rows)))
    alone = [read(b"a,b\n" + row + b"\n") for row in [*rows[:at], more, *rows[at:]]]
    raw = end.join([b"a,b", *rows, b""])
    with_more = end.join([b"a,b", *rows[:at], more, *rows[at:], b""])
    assert read(raw, block=block) == [row for each in alone[:at] + alone[at + 1 :] for row in each]
    assert read(with_more, block=block) == [row for each in alone for row in each]


@settings(deadline=None, max_examples=150)
@given(st.lists(good | scraps, min_size=1, max_size=9), st.sampled_from(list(MEMBER)), sizes, st.booleans())
def test_members_of_a_compressed_file_may_end_anywhere(parts: list[bytes], name: str, block: int, lines: bool) -> None:
    wanted = spec(lines=lines)
    raw = b"a,b\n" + b"".join(parts)
    packed = MEMBER[name](b"a,") + b"".join(MEMBER[name](part) for part in [b"b\n", *parts])
    assert read(packed, name, wanted, block) == read(raw, "t.csv", wanted)


@settings(deadline=None, max_examples=150)
@given(st.lists(good, max_size=25), st.integers(150, 220), ends)
def test_keys_of_a_file_are_those_that_rows_hold(rows: list[bytes], block: int, end: bytes) -> None:
    raw = end.join([b"a,b", *rows, b""]).replace(b"\xff", b"y")
    with blocks_of(block):  # of the longest row at least
        found = all_as_text(io.BytesIO(raw))
    values = [tuple((value or b"").decode() for value in row) for row in read(raw)]
    assert list(zip(*(column.to_pylist() for column in found.columns), strict=True)) == values


def test_no_list_of_keys_is_read_by_two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow reads ahead on a thread of its own, so what it no longer needs is taken back first."""
    made: list[LentText] = []

    class Noted(LentText):
        def __init__(self, *args: Any, **options: Any) -> None:
            assert all(each._beneath is None for each in made)
            made.append(self)
            super().__init__(*args, **options)

    monkeypatch.setattr(delimited, "LentText", Noted)
    assert all_as_text(io.BytesIO(b"a\n1\n")).to_pydict() == {"a": ["1"]}
    assert len(made) == 2
    assert all(each._beneath is None for each in made)


@settings(deadline=None, max_examples=200)
@given(st.lists(scraps.map(lambda made: made.replace(b"\n", b"")), max_size=12), st.sampled_from([1, 9, 64, 8 << 20]))
def test_where_a_line_is_a_row_its_bytes_alone_say_what_it_holds(lines: list[bytes], block: int) -> None:
    wanted = spec(lines=True)
    alone = [row for line in lines for row in read(b"a,b\n" + line + b"\n", wanted=wanted)]
    assert read(b"\n".join([b"a,b", *lines]), wanted=wanted, block=block) == alone
    assert [row for line in lines for row in read(b"a,b\n" + line + b"\n") if read(b"a,b\n" + line, wanted=wanted)] == (
        alone
    )


COLUMNS = tuple(f"column {i}" for i in range(64))
"""So many that the parser, after 512 rows, looks at eight bytes at a time: values are longer than ten on average."""


@pytest.mark.parametrize("lines", [False, True], ids=["quoted line breaks", "lines"])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_a_nul_far_into_a_block_stays_in_its_value(data: st.DataObject, lines: bool) -> None:
    rows = [[b"value %05d-%02d" % (i, k) for k in range(64)] for i in range(700)]
    places = st.tuples(st.integers(500, 699), st.integers(0, 63), st.binary(max_size=9).map(lambda odd: odd + b"\0"))
    quoted = set()
    for row, column, odd in data.draw(st.lists(places, min_size=1, max_size=5)):
        rows[row][column] = odd if not lines else odd.replace(b"\n", b" ").replace(b"\r", b" ")
        quoted.add((row, column))
    raw = b",".join(name.encode() for name in COLUMNS) + b"\n"
    for i, row in enumerate(rows):
        spelled = [b'"' + v.replace(b'"', b'""') + b'"' if (i, k) in quoted else v for k, v in enumerate(row)]
        raw += b",".join(spelled) + b"\n"
    assert read(raw, wanted=spec(lines=lines, columns=COLUMNS)) == [tuple(row) for row in rows]


def test_names_may_hold_a_nul_too() -> None:
    for header in (b"a\0,b\n", b'"a\0",b\n'):
        assert read(header + b"1,2\n", wanted=spec(columns=("a\0", "b"))) == [(b"1", b"2")]
        assert read(header + b"1,2\n", wanted=spec(columns=("a\0", "b"), lines=True)) == [(b"1", b"2")]
        assert all_as_text(io.BytesIO(header + b"1,2\n")).column_names == ["a\0", "b"]
