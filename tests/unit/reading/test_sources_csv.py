"""CSV files: what is checked before a run is charged, and which raw rows come out."""

from __future__ import annotations

import io
import sys
import traceback
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.errors import DataError, RunFailed, UsageError
from dpbeam.queries.source import Column, InputSpec, Rule
from dpbeam.reading.formats import Split, base, delimited, inspect_file, read_split, widened

SPLIT = Split("t.csv", None)


def spec(*names: str, delimiter: str = ",", **rules: Rule) -> InputSpec:
    columns = tuple(Column(name=name, type="string", **rules) for name in names or ("a", "b"))
    return InputSpec(format="csv", paths=("t.csv",), columns=columns, delimiter=delimiter)


def read(raw: bytes, wanted: InputSpec | None = None, **options: Any) -> list[tuple[Any, ...]]:
    wanted = wanted or spec()
    batches = list(read_split(io.BytesIO(raw), SPLIT, wanted, **options))
    return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]


def refusal(raw: bytes, wanted: InputSpec | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(raw), wanted or spec(), "t.csv")
    return str(caught.value)


def test_a_csv_file_is_one_split() -> None:
    found = inspect_file(io.BytesIO(b"a,b\n1,2\n"), spec(), "t.csv")
    assert found == [SPLIT]


def test_only_the_needed_columns_come_in_the_order_of_the_spec_as_binary() -> None:
    (batch,) = read_split(io.BytesIO(b"a,x,b\n1,9,2\n"), SPLIT, spec("b", "a"))
    assert batch.schema == pa.schema([("b", pa.binary()), ("a", pa.binary())])
    assert batch.to_pylist() == [{"b": b"2", "a": b"1"}]


def test_an_empty_field_is_null_and_a_quoted_empty_field_is_an_empty_text() -> None:
    assert read(b'a,b\n,""\n') == [(None, b"")]


def test_words_that_other_readers_take_for_null_are_text() -> None:
    assert read(b"a,b\nNA,null\n") == [(b"NA", b"null")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_ending_is_understood(end: bytes) -> None:
    assert read(end.join([b"a,b", b"1,2", b"3,4", b""])) == [(b"1", b"2"), (b"3", b"4")]


def test_the_last_line_needs_no_line_end() -> None:
    assert read(b"a,b\n1,2\n3,4") == [(b"1", b"2"), (b"3", b"4")]


def test_a_byte_order_mark_is_no_part_of_the_first_name() -> None:
    raw = b"\xef\xbb\xbfa,b\n1,2\n"
    assert len(inspect_file(io.BytesIO(raw), spec(), "t.csv")) == 1
    assert read(raw) == [(b"1", b"2")]


def test_quoted_values_hold_delimiters_quotes_and_line_breaks() -> None:
    assert read(b'a,b\n"1,""x""\r\ny",2\n') == [(b'1,"x"\r\ny', b"2")]


def test_another_delimiter_may_be_declared() -> None:
    assert read(b"a;b\n1,5;2\n", spec(delimiter=";")) == [(b"1,5", b"2")]


def test_blank_lines_are_passed_by_before_the_header_and_after() -> None:
    raw = b"\r\n\na,b\n\n1,2\n\n\n3,4\n"
    assert len(inspect_file(io.BytesIO(raw), spec(), "t.csv")) == 1
    assert read(raw) == [(b"1", b"2"), (b"3", b"4")]


@pytest.mark.parametrize("raw", [b"a,b", b"a,b\n", b"a,b\r\n", b"a,b\n\n\n", b"\xef\xbb\xbfa,b"])
def test_a_file_with_nothing_but_a_header_is_valid_and_empty(raw: bytes) -> None:
    assert len(inspect_file(io.BytesIO(raw), spec(), "t.csv")) == 1
    assert read(raw) == []


def test_bytes_that_are_not_utf8_pass_through_raw() -> None:
    assert read(b"a,b\n\xff\xfe,\x00\n") == [(b"\xff\xfe", b"\x00")]


def test_the_file_stays_open_for_its_owner() -> None:
    file = io.BytesIO(b"a,b\n1,2\n")
    inspect_file(file, spec(), "t.csv")
    list(read_split(file, SPLIT, spec()))
    assert not file.closed


def test_batches_hold_at_most_the_rows_asked_for() -> None:
    raw = b"a,b\n" + b"".join(b"%d,x\n" % i for i in range(10))
    batches = list(read_split(io.BytesIO(raw), SPLIT, spec(), batch_rows=4))
    assert [batch.num_rows for batch in batches] == [4, 4, 2]


def test_rows_of_the_wrong_width_are_left_out() -> None:
    assert read(b"a,b\n1\n1,2,3\n4,5\n") == [(b"4", b"5")]


def test_a_row_of_the_wrong_width_fails_a_run_that_says_so() -> None:
    with pytest.raises(DataError) as caught:
        read(b"a,b\n4,5\n1,2,3\n", spec(on_invalid=Rule(action="fail")))
    assert str(caught.value) == (
        "t.csv has a row of the wrong width (more or fewer fields than the header), and column a says "
        "on_invalid: fail. Correct the file, or declare on_invalid: drop for the column."
    )


UMLAUT, EURO, MARK = b"\xc3\xbc", b"\xe2\x82\xac", b"\xef\xbb\xbf"
BROKEN = [
    (b"a,b\n1,2\n\xff\n3,4\n", [(b"1", b"2"), (b"3", b"4")]),
    (
        b"a,b\n" + UMLAUT + b",\xff\n1,2,\xc3\n" + EURO + b',\n,""\n',
        [(UMLAUT, b"\xff"), (EURO, None), (None, b"")],
    ),
    (MARK + b"a,b\n" + MARK + b",2\n1,2,\xfe", [(MARK, b"2")]),
    (UMLAUT + b",a,b\n\xff,\x80,\xc2\x80\n\xff\xff,\n,\xc3,\xbc\n", [(b"\x80", b"\xc2\x80"), (b"\xc3", b"\xbc")]),
]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the interpreter would print of errors that nobody can catch."""
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    return found


@pytest.mark.parametrize("quoted_newlines", [True, False])
@pytest.mark.parametrize(("raw", "rows"), BROKEN)
def test_a_row_of_the_wrong_width_that_is_not_utf8_is_left_out(raw, rows, quoted_newlines, printed) -> None:
    assert read(raw, replace(spec(), quoted_newlines=quoted_newlines)) == rows
    assert printed == []


@pytest.mark.parametrize("quoted_newlines", [True, False])
def test_a_row_of_the_wrong_width_that_is_not_utf8_fails_a_run_that_says_so(quoted_newlines, printed) -> None:
    strict = replace(spec(on_invalid=Rule(action="fail")), quoted_newlines=quoted_newlines)
    with pytest.raises(DataError, match="has a row of the wrong width"):
        read(b"a,b\n4,5\n1,2,\xff\n", strict)
    assert printed == []


@pytest.mark.parametrize("quoted_newlines", [True, False])
def test_a_value_keeps_a_byte_order_mark_wherever_its_row_stands(quoted_newlines: bool) -> None:
    raw = b"a,b\n" + MARK + b"1,2\n" + MARK + b"1,2\n"
    assert read(raw, replace(spec(), quoted_newlines=quoted_newlines)) == 2 * [(MARK + b"1", b"2")]


def test_errors_that_nobody_can_catch_are_reported_as_ever_but_for_rows(printed) -> None:
    widened.contain()
    of_others, of_rows = SimpleNamespace(object=len), SimpleNamespace(object=widened.OnWrongWidth("skip"))
    sys.unraisablehook(of_others)
    sys.unraisablehook(of_rows)
    assert printed == [of_others]


@given(st.lists(st.none() | st.binary(max_size=6), max_size=20), st.integers(0, 5))
def test_values_come_back_as_they_were(values: list[bytes | None], start: int) -> None:
    column = pa.array([None if v is None else widened.widen(v) for v in values], pa.binary()).slice(start)
    assert widened.narrowed(column).to_pylist() == values[start:]


def test_a_row_longer_than_a_block_is_read_with_a_bigger_one_and_no_row_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "BLOCK_BYTES", 64)
    numbers = [b"%d" % i for i in range(60)]
    numbers[40] = b"z" * 300
    raw = b"a,b\n" + b"".join(number + b",x\n" for number in numbers)
    assert [row[0] for row in read(raw)] == numbers


def test_a_row_longer_than_the_biggest_block_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(base, "MAX_BLOCK_BYTES", 1 << 20)
    with pytest.raises(RunFailed) as caught:
        read(b'a,b\n1,"2\n' + b"3,4\n" * (1 << 20))
    assert str(caught.value) == (
        "t.csv has a row longer than 1 MiB, the most that a row of csv may have. Is a quote left open? Correct the "
        "file, or write it as Parquet."
    )


def test_storage_that_breaks_off_fails_the_run() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 1 << 16:
                raise OSError("storage went away")
            return super().read(min(size or -1, 1 << 16))

    with pytest.raises(
        RunFailed, match=r"^t\.csv could not be read to its end \(.*\)\. Check the file and its storage\.$"
    ):
        list(read_split(Broken(b"a,b\n" + b"1,2\n" * (1 << 16)), SPLIT, spec()))


def test_an_error_of_the_storage_holds_no_reader() -> None:
    """pyarrow's reading thread may be the last to let go of the error; a reader in it would wait for it."""
    error = OSError()

    class Broken(io.BytesIO):
        def read(self, size=-1, /):
            if self.tell() > 100:
                raise error
            return super().read(min(size, 200))

    with pytest.raises(RunFailed):
        list(read_split(Broken(b"a,b\n" + b"1,2\n" * 100), SPLIT, spec()))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert not [frame for frame in frames if isinstance(frame.f_locals.get("self"), delimited._Reading)]


def test_a_file_that_lost_a_column_since_it_was_checked_fails_the_run() -> None:
    with pytest.raises(RunFailed) as caught:
        read(b"a,c\n1,2\n")
    assert str(caught.value) == (
        "t.csv has changed since it was checked at the start of the run. Run again when it is settled; "
        "a file that was written anew is another input, and is charged anew."
    )


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(raw: bytes) -> None:
    assert refusal(raw) == "t.csv has no header: it is empty. A CSV file starts with a line of column names."


def test_a_lacking_column_is_refused_with_the_one_that_differs_in_case_alone() -> None:
    assert refusal(b"Author_ID,b\n", spec("author_id", "b")) == (
        "t.csv has no column author_id. Did you mean Author_ID? Its first line must be a header (it is not shown here, "
        "since it may be data); check that, and source.delimiter."
    )


@pytest.mark.parametrize("raw", [b"jane@example.org,41\n", b"b,ajane@example.org,41\n"], ids=["none", "no end"])
def test_a_first_line_that_may_be_data_is_not_shown(raw: bytes) -> None:
    assert refusal(raw) == (
        "t.csv has no column a. Its first line must be a header (it is not shown here, since it may be data); check "
        "that, and source.delimiter."
    )


def test_a_needed_column_named_twice_is_refused() -> None:
    assert refusal(b"a,b,a\n") == "t.csv: column a stands in the file 2 times. Rename all but one."


def test_a_column_named_twice_that_nobody_needs_does_no_harm() -> None:
    assert read(b"a,x,b,x\n1,8,2,9\n") == [(b"1", b"2")]


@pytest.mark.parametrize("raw", [b"\xff,a,b\n", b'"a,b\n1,2\n', "a,b\n".encode("utf-16")])
def test_a_first_line_that_is_no_utf8_header_is_refused(raw: bytes) -> None:
    assert refusal(raw) == (
        "t.csv: its first line is not a header: it is not UTF-8 text, or a quote in it is left open. Convert "
        "the file to plain UTF-8, or correct source.format."
    )


def test_a_first_line_without_end_is_refused() -> None:
    assert refusal(b"a," * (1 << 19)) == ("t.csv has no header: its first line is longer than 1 MiB. Is it a CSV file?")


def test_a_parquet_file_declared_as_csv_is_refused_by_name() -> None:
    assert refusal(b"PAR1\x15\x04") == (
        "t.csv is a Parquet file, but source.format is csv. Set source.format: parquet."
    )


def test_storage_that_cannot_be_read_is_refused_before_the_run() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("storage went away")

    with pytest.raises(UsageError) as caught:
        inspect_file(Broken(b"a,b\n"), spec(), "t.csv")
    assert str(caught.value) == "t.csv can't be read (OSError). Check the file and its storage."


def test_a_spec_without_columns_is_refused_rather_than_read_whole() -> None:
    with pytest.raises(UsageError, match=r"^columns must name at least one column"):
        inspect_file(io.BytesIO(b"a\n"), InputSpec(format="csv", paths=(), columns=()), "t.csv")


def test_the_check_reads_no_further_than_the_header() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            part = super().read(size)
            self.taken += len(part)
            return part

    file = Counting(b"a,b\n" + b"1,2\n" * (1 << 20))
    inspect_file(file, spec(), "t.csv")
    assert file.taken <= (1 << 16) + 8


def test_an_empty_field_at_the_very_end_is_null_also_after_a_quoted_one() -> None:
    assert read(b'a,b\n"",') == read(b'a,b\n"",\n') == [(b"", None)]
