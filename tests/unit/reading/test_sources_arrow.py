"""Arrow IPC files: what is checked before a run is charged, and which raw rows come out."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest

from dpbeam.errors import RunFailed, UsageError
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Column, InputSpec
from dpbeam.reading.formats import inspect_file, read_split
from dpbeam.reading.rows import prepare

TABLE = pa.table({"id": ["u", "v", "w"], "x": pa.array([1, 2, None], pa.int32()), "other": [b"p", b"q", b"r"]})


def spec(*columns: Column, **kinds: ColumnType) -> InputSpec:
    wanted = kinds or {"id": "string", "x": "int64"}
    named = tuple(Column(name=name, type=kind) for name, kind in wanted.items())
    return InputSpec(format="arrow", paths=("t.arrow",), columns=columns or named)


def written(table: pa.Table = TABLE, *, rows: int | None = None, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def read(raw: bytes, wanted: InputSpec | None = None) -> list[dict[str, Any]]:
    file, asked = io.BytesIO(raw), wanted or spec()
    splits = inspect_file(file, asked, "t.arrow")
    return [row for split in splits for batch in read_split(file, split, asked) for row in batch.to_pylist()]


def refusal(raw: bytes, wanted: InputSpec | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(raw), wanted or spec(), "t.arrow")
    return str(caught.value)


def test_each_record_batch_is_a_split() -> None:
    splits = inspect_file(io.BytesIO(written(rows=2)), spec(), "t.arrow")
    assert [(split.row_group, split.as_hex) for split in splits] == [(0, (False, None)), (1, (False, None))]


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_the_needed_columns_come_in_the_order_of_the_spec(compression: str | None) -> None:
    rows = read(written(rows=2, compression=compression), spec(x="int64", id="string"))
    assert [list(row.items()) for row in rows] == [
        [("x", 1), ("id", "u")],
        [("x", 2), ("id", "v")],
        [("x", None), ("id", "w")],
    ]


def test_a_file_without_rows_is_valid_and_empty() -> None:
    assert read(written(TABLE.slice(0, 0))) == []


def test_a_file_of_no_rows_that_has_some_by_the_time_it_is_read_fails_the_run() -> None:
    (split,) = inspect_file(io.BytesIO(written(TABLE.slice(0, 0))), spec(), "t.arrow")
    with pytest.raises(RunFailed, match=r"^t\.arrow could not be read to its end: a part of it is damaged or missing"):
        list(read_split(io.BytesIO(written()), split, spec()))


def test_a_field_of_a_struct_is_read_and_dictionaries_are_text() -> None:
    inner = pa.array([{"city": "Oslo"}, None, {"city": "Rome"}])
    table = pa.table({"id": pa.array(["u", None, "u"]).dictionary_encode(), "place": inner})
    wanted = spec(Column(name="id", type="string"), Column(name="city", type="string", field="place.city"))
    file = io.BytesIO(written(table))
    (split,) = inspect_file(file, wanted, "t.arrow")
    (batch,) = read_split(file, split, wanted)
    assert prepare(batch, wanted).to_pylist() == [{"id": "u", "city": "Oslo"}, {"id": "u", "city": "Rome"}]


def test_a_file_as_pandas_and_polars_write_feather_is_read(tmp_path) -> None:
    pl = pytest.importorskip("polars")
    path = tmp_path / "t.feather"
    pl.DataFrame({"id": ["u", "v"], "x": [1, 2]}).write_ipc(path, compression="zstd")
    assert read(path.read_bytes()) == [{"id": "u", "x": 1}, {"id": "v", "x": 2}]


def test_the_file_stays_open_for_its_owner() -> None:
    file = io.BytesIO(written())
    (split,) = inspect_file(file, spec(), "t.arrow")
    list(read_split(file, split, spec()))
    assert not file.closed


def test_what_was_read_lies_in_memory_of_arrow_s_own() -> None:
    """A thread of Arrow's or Polars' that lets go of bytes of Python's as Python ends aborts the process."""
    table = pa.table({"id": ["u"] * 100_000, "x": range(100_000)})
    file, asked = io.BytesIO(written(table)), spec()
    (split,) = inspect_file(file, asked, "t.arrow")
    before = pa.total_allocated_bytes()
    (batch,) = read_split(file, split, asked)
    assert pa.total_allocated_bytes() - before >= batch.nbytes


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"") == (
        "t.arrow is empty (0 bytes): not an Arrow file. Write it again, or leave it out of source.path."
    )


@pytest.mark.parametrize("raw", [b"id,x\nu,1\n", written()[:-20], b"ARROW1\0\0" + b"x" * 50])
def test_what_is_no_whole_arrow_file_is_refused(raw: bytes) -> None:
    assert refusal(raw) == (
        "t.arrow is not a whole Arrow IPC file: its footer can't be read. It may be truncated, a stream, a Feather "
        "file of version 1, or of another format; write it again, or correct source.format."
    )


def test_a_column_of_another_type_is_refused_with_the_type_to_declare() -> None:
    assert refusal(written(), spec(id="int64")) == (
        "t.arrow: column id must be readable as int64, found Arrow type string. Declare type: string, or convert the "
        "column in the source."
    )


def test_an_arrow_file_that_is_declared_csv_is_named() -> None:
    asked = InputSpec(format="csv", paths=("t.csv",), columns=(Column(name="id", type="string"),))
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(written()), asked, "t.csv")
    assert str(caught.value) == "t.csv is an Arrow IPC file, but source.format is csv. Set source.format: arrow."


def test_a_flipped_bit_gives_rows_or_one_of_our_errors_that_begins_with_the_file() -> None:
    whole, said = written(), {"rows"}
    for place in range(8 * len(whole)):
        raw = bytearray(whole)
        raw[place // 8] ^= 1 << place % 8
        try:
            read(bytes(raw))
        except (UsageError, RunFailed) as error:
            said.add(str(error).partition(" ")[0].rstrip(":"))
    assert said == {"rows", "t.arrow"}
