"""Parquet files: what is checked before a run is charged, and which raw rows come out."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.errors import RunFailed, UsageError
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Column, InputSpec
from dpbeam.reading.formats import Split, inspect_file, read_split
from dpbeam.reading.rows import prepare

TABLE = pa.table({"id": ["u", "v", "w"], "x": pa.array([1, 2, None], pa.int32()), "other": [b"p", b"q", b"r"]})


def spec(**kinds: ColumnType) -> InputSpec:
    wanted = kinds or {"id": "string", "x": "int64"}
    columns = tuple(Column(name=name, type=kind) for name, kind in wanted.items())
    return InputSpec(format="parquet", paths=("t.parquet",), columns=columns)


def written(table: pa.Table = TABLE, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def refusal(raw: bytes, wanted: InputSpec | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(raw), wanted or spec(), "t.parquet")
    return str(caught.value)


def read(raw: bytes, row_group: int = 0, wanted: InputSpec | None = None, **options: Any) -> list[pa.RecordBatch]:
    return list(read_split(io.BytesIO(raw), Split("t.parquet", row_group), wanted or spec(), **options))


def test_each_row_group_is_a_split() -> None:
    found = inspect_file(io.BytesIO(written(row_group_size=2)), spec(), "t.parquet")
    assert found == [Split("t.parquet", 0), Split("t.parquet", 1)]


def test_a_split_gives_its_row_group_s_needed_columns_in_the_order_of_the_spec() -> None:
    (batch,) = read(written(row_group_size=2), 1, spec(x="int64", id="string"))
    assert batch.schema.names == ["x", "id"]
    assert batch.to_pylist() == [{"x": None, "id": "w"}]


def test_a_big_row_group_comes_in_pieces() -> None:
    table = pa.table({"id": ["u"] * 10, "x": range(10)})
    assert [batch.num_rows for batch in read(written(table), batch_rows=4)] == [4, 4, 2]


def test_a_file_without_rows_is_valid_and_empty() -> None:
    raw = written(TABLE.slice(0, 0))
    found = inspect_file(io.BytesIO(raw), spec(), "t.parquet")
    assert [batch for split in found for batch in read(raw, split.row_group)] == []


def test_dictionary_encoded_text_is_read_as_text() -> None:
    raw = written(pa.table({"id": pa.array(["u", None, "u"]).dictionary_encode(), "x": [1, 2, 3]}))
    (batch,) = read(raw)
    assert prepare(batch, spec()).column("id").to_pylist() == ["u", "u"]


def test_the_file_stays_open_for_its_owner() -> None:
    file = io.BytesIO(written())
    inspect_file(file, spec(), "t.parquet")
    list(read_split(file, Split("t.parquet", 0), spec()))
    assert not file.closed


def test_a_column_with_a_dot_in_its_name_is_read() -> None:
    wanted = InputSpec(format="parquet", paths=(), columns=(Column(name="a.b", type="int64"),))
    (batch,) = read(written(pa.table({"a.b": [1], "a": [{"b": 5}]})), 0, wanted)
    assert batch.to_pylist() == [{"a.b": 1}]


def test_a_file_of_no_bytes_is_refused() -> None:
    assert refusal(b"") == (
        "t.parquet is empty (0 bytes): not a Parquet file. Write it again, or leave it out of source.path."
    )


@pytest.mark.parametrize("cut", [lambda raw: raw[: len(raw) // 2], lambda raw: raw[:-3], lambda raw: b"a,b\n1,2\n" * 9])
def test_a_file_without_a_whole_footer_is_refused(cut: Any) -> None:
    assert refusal(cut(written())) == (
        "t.parquet is not a whole Parquet file: its footer can't be read. It may be truncated, encrypted or of "
        "another format; write it again, or correct source.format."
    )


def test_a_damaged_footer_is_refused() -> None:
    raw = written()
    assert "its footer can't be read" in refusal(raw[:-40] + b"\xff" * 32 + raw[-8:])


def test_a_file_whose_data_are_cut_out_fails_the_run() -> None:
    raw = written(pa.table({"id": [str(i) for i in range(5000)], "x": range(5000)}))
    footer = int.from_bytes(raw[-8:-4], "little") + 8
    with pytest.raises(RunFailed) as caught:
        read(raw[:4] + b"\x00" * (len(raw) - footer - 4) + raw[-footer:])
    assert str(caught.value) == (
        "t.parquet could not be read to its end: a part of it is damaged or missing. Write the file again."
    )


def test_a_page_that_fails_its_checksum_fails_the_run() -> None:
    table = pa.table({"id": ["u"] * 1000, "x": range(1000)})
    raw = bytearray(written(table, write_page_checksum=True, compression="none", use_dictionary=False))
    raw[2000] ^= 0x40
    with pytest.raises(RunFailed, match=r"^t\.parquet could not be read to its end"):
        read(bytes(raw))


def test_a_row_group_that_is_gone_fails_the_run() -> None:
    with pytest.raises(RunFailed, match=r"^t\.parquet could not be read to its end"):
        read(written(), 7)


def test_a_file_replaced_since_it_was_checked_fails_the_run() -> None:
    with pytest.raises(RunFailed) as caught:
        read(written(pa.table({"id": [1], "x": [1]})))
    assert str(caught.value) == (
        "t.parquet has changed since it was checked at the start of the run. Run again when it is settled; "
        "a file that was written anew is another input, and is charged anew."
    )


def test_a_lacking_column_is_refused_with_the_columns_there_are_and_a_likely_one() -> None:
    assert refusal(written(), spec(idd="string")) == (
        "t.parquet has no column idd. Did you mean id? Its columns: id, x, other."
    )


def test_a_long_list_of_columns_is_cut() -> None:
    table = pa.table({f"c{i}": [1] for i in range(40)})
    assert refusal(written(table), spec(zzz="int64")).endswith("c28, c29 and 10 more.")


def test_a_column_named_twice_is_refused() -> None:
    table = pa.table([pa.array([1]), pa.array([2])], names=["x", "x"])
    assert refusal(written(table), spec(x="int64")) == (
        "t.parquet: column x stands in the file 2 times. Rename all but one."
    )


def test_a_column_of_another_type_is_refused_with_the_type_to_declare() -> None:
    assert refusal(written(), spec(id="int64")) == (
        "t.parquet: column id must be readable as int64, found Parquet type string. "
        "Declare type: string, or convert the column in the source."
    )


def test_a_column_that_no_type_holds_is_refused() -> None:
    table = pa.table({"x": pa.array([["a"]])})
    assert refusal(written(table), spec(x="float64")) == (
        "t.parquet: column x must be readable as float64, found Parquet type list<element: string>. "
        "No type of the policy holds it exactly: convert the column in the source."
    )


@pytest.mark.parametrize(
    ("arrow", "kind"),
    [
        (pa.int64(), "float64"),
        (pa.float32(), "int64"),
        (pa.timestamp("us"), "date"),
        (pa.date32(), "timestamp"),
        (pa.int32(), "bool"),
        (pa.bool_(), "int64"),
        (pa.string(), "float64"),
        (pa.int32(), "string"),
        (pa.list_(pa.string()), "string"),
        (pa.struct([("f", pa.int32())]), "int64"),
    ],
)
def test_types_that_would_need_a_guess_or_a_loss_are_refused(arrow: pa.DataType, kind: ColumnType) -> None:
    raw = written(pa.table({"x": pa.array([], arrow)}))
    assert f"column x must be readable as {kind}, found Parquet type" in refusal(raw, spec(x=kind))
