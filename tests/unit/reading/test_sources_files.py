"""What formats have in common: compressed files, values in folder names, paths into structs, many small files."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.errors import RunFailed, UsageError
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Column, InputSpec, Rule
from dpbeam.reading.formats import Split, base, gather, inspect_file, portions, read_split, shown
from dpbeam.reading.rows import prepare

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda raw: pa.Codec("zstd").compress(raw, asbytes=True),
}
SUFFIXES = {"gzip": "gz", "bz2": "bz2", "xz": "xz", "zstd": "zst"}
PLAIN = {
    "csv": b"a,b\n" + b"".join(b"%d,x%d\n" % (i, i) for i in range(3000)),
    "jsonl": b"".join(b'{"a":%d,"b":"x%d"}\n' % (i, i) for i in range(3000)),
}
ROWS = [(i, f"x{i}") for i in range(3000)]


def spec(format: Any, *columns: Column, **options: Any) -> InputSpec:
    wanted = columns or (Column(name="a", type="int64"), Column(name="b", type="string"))
    return InputSpec(format=format, paths=(), columns=wanted, **options)


def read(raw: bytes, path: str, wanted: InputSpec) -> list[tuple[Any, ...]]:
    file = io.BytesIO(raw)
    batches = [b for split in inspect_file(file, wanted, path) for b in read_split(file, split, wanted)]
    return [tuple(row.values()) for batch in batches for row in prepare(batch, wanted).to_pylist()]


# --- Compressed files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", PACKED)
@pytest.mark.parametrize(("format", "options"), [("csv", {}), ("csv", {"quoted_newlines": False}), ("jsonl", {})])
def test_a_compressed_file_is_read_by_its_suffix_or_as_declared(format: str, options: Any, codec: str) -> None:
    packed = PACKED[codec](PLAIN[format])
    assert read(packed, f"t.{format}.{SUFFIXES[codec]}", spec(format, **options)) == ROWS
    assert read(packed, "t", spec(format, compression=codec, **options)) == ROWS


@pytest.mark.parametrize("codec", PACKED)
def test_files_put_together_are_read_to_the_last(codec: str) -> None:
    packed = PACKED[codec](b'{"a":1,"b":"x"}\n') + PACKED[codec](b'{"a":2,"b":"y"}\n')
    assert read(packed, "t", spec("jsonl", compression=codec)) == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("codec", PACKED)
@pytest.mark.parametrize("format", PLAIN)
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_member_with_nothing_in_it_may_stand_anywhere(format: str, codec: str, at: int) -> None:
    members = [PACKED[codec](part) for part in (PLAIN[format][:9], PLAIN[format][9:999], PLAIN[format][999:])]
    packed = b"".join([*members[:at], PACKED[codec](b""), PACKED[codec](b""), *members[at:]])
    assert read(packed, "t", spec(format, compression=codec)) == ROWS


@pytest.mark.parametrize("format", PLAIN)
@pytest.mark.parametrize("kind", [0x184D2A50, 0x184D2A5A, 0x184D2A5F])
def test_skippable_frames_of_zstandard_are_passed_by_wherever_they_stand(format: str, kind: int) -> None:
    """RFC 8878, 3.1.2; pzstd writes one before each frame."""
    aside, empty = struct.pack("<II", kind, 4) + b"size", struct.pack("<II", kind, 0)
    frames = [PACKED["zstd"](part) for part in (PLAIN[format][:9], PLAIN[format][9:999], PLAIN[format][999:])]
    packed = aside + frames[0] + aside + empty + frames[1] + frames[2] + aside
    assert read(packed, f"t.{format}.zst", spec(format)) == ROWS
    with pytest.raises((RunFailed, UsageError)):
        read(packed[:-2], "t", spec(format, compression="zstd"))
    with pytest.raises(UsageError, match=r"^t is compressed\. Set source\.compression: zstd"):
        inspect_file(io.BytesIO(packed), spec(format), "t")


@pytest.mark.parametrize("codec", PACKED)
@pytest.mark.parametrize("format", PLAIN)
@pytest.mark.parametrize("spoil", [lambda raw: raw[:-4], lambda raw: raw[: len(raw) // 2], lambda raw: raw + b"rest"])
def test_a_compressed_file_cut_short_or_with_a_rest_fails(format: str, codec: str, spoil: Any) -> None:
    with pytest.raises((RunFailed, UsageError)):
        read(spoil(PACKED[codec](PLAIN[format] * 9)), "t", spec(format, compression=codec))


def test_a_compressed_file_is_one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "RANGE_BYTES", 64)
    assert inspect_file(io.BytesIO(gzip.compress(PLAIN["jsonl"])), spec("jsonl"), "t.gz") == [Split("t.gz")]
    assert len(inspect_file(io.BytesIO(PLAIN["jsonl"]), spec("jsonl"), "t")) > 10


@pytest.mark.parametrize(
    ("raw", "path", "options", "said"),
    [
        (gzip.compress(b"a,b\n"), "t.csv", {}, "t.csv is compressed. Set source.compression: gzip, or name the file so "
         "that it shows."),
        (b"a,b\n1,2\n", "t.csv.gz", {}, "t.csv.gz is not a gzip file, but its name or source.compression says so. "
         "Correct either; source.compression: none reads it as it is."),
        (bz2.compress(b"a,b\n"), "t", {"compression": "gzip"}, "t is not a gzip file, but its name or "
         "source.compression says so. Correct either; source.compression: none reads it as it is."),
        (gzip.compress(b"a,b\n")[:12], "t.gz", {}, "t.gz can't be read: it is damaged, or not compressed as it says."),
    ],
    ids=["compressed", "not compressed", "of another kind", "cut short"],
)  # fmt: skip
def test_a_compression_that_is_not_as_said_is_refused(raw: bytes, path: str, options: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(raw), spec("csv", **options), path)
    assert str(caught.value) == said


def test_a_name_may_lie_if_the_policy_says_so() -> None:
    assert read(PLAIN["csv"], "t.gz", spec("csv", compression="none")) == ROWS


# --- Values in folder names -----------------------------------------------------------------------------------------

YEAR = Column(name="year", type="int64")
PLACE = Column(name="place", type="string", on_null=Rule(action="replace", value="none"))


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_path_columns_are_columns_like_others(format: str) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), sink)
    raw = {"csv": b"a\n1\n2\n", "jsonl": b'{"a":1}\n{"a":2}\n', "parquet": sink.getvalue()}[format]
    wanted = spec(format, PLACE, Column(name="a", type="int64"), YEAR, path_columns=("year", "place"))
    assert read(raw, "d/year=2024/place=S%C3%A3o%20%3D/t", wanted) == [("São =", 1, 2024), ("São =", 2, 2024)]
    assert read(raw, "d/place=__HIVE_DEFAULT_PARTITION__/year=7/t", wanted) == [("none", 1, 7), ("none", 2, 7)]
    assert read(raw, "d/place=x/year=last/t", wanted) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("d/t", "d/t: its path has no folder year=…, and source.path_columns says that the column year stands there. "
         "Correct source.path or source.path_columns."),
        ("d/year=1/year=2/t", "d/year=…/year=…/t: its path has 2 folders year=…, and source.path_columns says that the "
         "column year stands there. Correct source.path or source.path_columns."),
        ("d/year=1", "d/year=1: its path has no folder year=…, and source.path_columns says that the column year "
         "stands there. Correct source.path or source.path_columns."),
    ],
)  # fmt: skip
def test_a_path_without_its_folder_is_refused(path: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        inspect_file(
            io.BytesIO(b"a\n"), spec("csv", Column(name="a", type="int64"), YEAR, path_columns=("year",)), path
        )
    assert str(caught.value) == said


def test_columns_in_paths_alone_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(b"a\n"), spec("csv", YEAR, path_columns=("year",)), "year=1/t")
    assert str(caught.value).startswith("columns must name at least one column that lies in the files")


def test_a_shown_path_has_no_value_of_a_row() -> None:
    assert shown("/d/user=bob/x=1/part-a=b.csv") == "/d/user=…/x=…/part-a=b.csv"


# --- Paths into structs ---------------------------------------------------------------------------------------------

NESTED = [
    {"id": 1, "at": {"city": "x", "geo": {"lat": 0.5}}},
    {"id": 2, "at": {"city": None, "geo": None}},
    {"id": 3, "at": None},
]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_a_path_leads_into_structs_and_a_null_on_the_way_is_null(format: str) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(NESTED), sink)
    raw = sink.getvalue() if format == "parquet" else "\n".join(map(json.dumps, NESTED)).encode()
    none: dict[ColumnType, Rule] = {
        "string": Rule(action="replace", value="none"),
        "float64": Rule(action="replace", value=-1.0),
    }
    columns = [
        Column(name="at.city", type="string", on_null=none["string"]),
        Column(name="latitude", type="float64", field=("at", "geo", "lat"), on_null=none["float64"]),
        Column(name="id", type="int64"),
    ]
    assert read(raw, "t", spec(format, *columns)) == [("x", 0.5, 1), ("none", -1.0, 2), ("none", -1.0, 3)]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("at.town", "t has no field at.town (column c). Fields of at: city, geo."),
        ("at.city.x", "t has no field at.city.x (column c). at.city is not a struct, so nothing lies inside it."),
        ("att.city", "t has no column att.city. Its columns: at, id."),
        ("at", "t: column c must be readable as string, found Parquet type struct<city: string, geo: struct<lat: "
         "double>>. No type of the policy holds it exactly: convert the column in the source."),
    ],
)  # fmt: skip
def test_a_path_to_nothing_is_refused(field: str, said: str) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(NESTED).select(["at", "id"]), sink)
    with pytest.raises(UsageError) as caught:
        inspect_file(sink, spec("parquet", Column(name="c", type="string", field=field)), "t")
    assert str(caught.value) == said


def test_a_column_of_csv_may_have_another_name_in_the_policy() -> None:
    assert read(b"Customer ID,b\n1,x\n", "t", spec("csv", Column(name="id", type="int64", field="Customer ID"))) == [
        (1,)
    ]


# --- Many files -----------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.lists(st.integers(0, 40 << 20), max_size=60))
def test_portions_hold_every_split_once_in_order_and_none_but_big_ones_alone_is_big(sizes: list[int]) -> None:
    splits = [Split(str(i), size=size) for i, size in enumerate(sizes)]
    found = portions(splits)
    assert [split for portion in found for split in portion] == splits
    assert all(len(portion) == 1 or sum(split.size for split in portion) <= 8 << 20 for portion in found)


def test_ten_thousand_small_files_are_some_dozens_of_portions() -> None:
    assert 40 <= len(portions(Split(str(i), size=2000) for i in range(10_000))) <= 100


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 99), min_size=1, max_size=6)), max_size=15),
    st.integers(1, 9),
)
def test_gathering_keeps_every_row_in_order_also_where_schemas_differ(parts: Any, batch_rows: int) -> None:
    batches = [pa.record_batch({"a": pa.array(rows, pa.int32() if wide else pa.int64())}) for wide, rows in parts]
    found = list(gather(batches, batch_rows=batch_rows))
    assert [row for batch in found for row in batch.column("a").to_pylist()] == [
        row for _, rows in parts for row in rows
    ]
    assert all(batch.num_rows <= max(batch_rows, 6) for batch in found)


def test_gathered_dictionaries_keep_their_own_values() -> None:
    batches = [pa.record_batch({"a": pa.array([word]).dictionary_encode()}) for word in ("x", "y", "x")]
    assert [batch.column("a").to_pylist() for batch in gather(batches)] == [["x"], ["y"], ["x"]]


# --- Decimals -------------------------------------------------------------------------------------------------------

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=7)


@settings(max_examples=100, deadline=None)
@given(st.lists(decimals, min_size=1, max_size=20))
def test_a_decimal_is_the_nearest_float_and_a_whole_one_the_same_integer(numbers: Any) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array(numbers, pa.decimal128(38, 7))}), sink)
    assert read(sink.getvalue(), "t", spec("parquet", Column(name="a", type="float64"))) == [
        (float(n),) for n in numbers
    ]
    replaced = Column(name="a", type="int64", on_invalid=Rule(action="replace", value=-1))
    whole = [(int(n) if n == n.to_integral_value() and -(2**63) <= n < 2**63 else -1,) for n in numbers]
    assert read(sink.getvalue(), "t", spec("parquet", replaced)) == whole
