"""A row's fate depends on that row alone: the property that the sensitivity of every release rests on."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.queries.source import Bin, Column, Condition, InputSpec, Lower, Rule, Truncate
from dpbeam.reading.formats import Split, base, read_split
from dpbeam.reading.rows import output_schema, prepare


def replace(value: Any) -> Rule:
    return Rule(action="replace", value=value)


SPEC = InputSpec(
    format="csv",
    paths=(),
    columns=(
        Column(name="id", type="string", on_invalid=replace("?"), on_null=replace("none"), trim=True),
        Column(name="n", type="int64", on_invalid=replace(-1), on_null=replace(0), trim=True),
        Column(
            name="x", type="float64", on_nan=replace(0), on_inf=replace(1), on_invalid=replace(2), on_null=replace(3)
        ),
        Column(name="ok", type="bool", on_invalid=replace(False)),
        Column(name="day", type="date", on_invalid=replace("2000-01-01"), on_null=replace("2000-01-02")),
        Column(name="at", type="timestamp", on_invalid=replace("2000-01-01"), on_null=replace("2000-01-02")),
    ),
    derived=(
        Bin(name="band", column="n", edges=(0, 10, 100)),
        Truncate(name="week", column="day", unit="week"),
        Truncate(name="hour", column="at", unit="hour"),
        Lower(name="low", column="id"),
    ),
    where=(Condition(column="x", op="<", value=50), Condition(column="band", op="!=", value="≥ 100")),
)
NAMES = [column.name for column in SPEC.columns]

blanks = st.sampled_from([b" ", b"\t7", b" 5 ", "\u00a0a\u2003".encode(), b" \xff "])
anything = blanks | st.none() | st.binary(max_size=4) | st.text(max_size=4).map(lambda text: text.encode("utf-8"))
moments = st.datetimes().map(lambda t: t.isoformat()) | st.datetimes().map(lambda t: t.isoformat(" ", "minutes") + "Z")
others = st.sampled_from(["01/05/2024", "2024-5-1", "2024-02-30", "2024-05-01T10:00:00.1234567+05:30", "20240501", "x"])


def like(*strategies: st.SearchStrategy[str]) -> st.SearchStrategy[bytes | None]:
    return st.one_of(*(strategy.map(str.encode) for strategy in strategies), anything)


row = st.tuples(
    anything,
    like(st.integers(-200, 200).map(str), st.integers(-(2**70), 2**70).map(str)),
    like(st.floats().map(repr), st.integers(0, 60).map(str)),
    like(st.sampled_from(["true", "FALSE", "1", "0", "yes"])),
    like(st.dates().map(str), others),
    like(moments, others),
)
rows_of_any_kind = st.lists(row, max_size=12)


def raw(rows: list[tuple[bytes | None, ...]]) -> pa.RecordBatch:
    schema = pa.schema([(name, pa.binary()) for name in NAMES])
    return pa.RecordBatch.from_pydict({name: [r[i] for r in rows] for i, name in enumerate(NAMES)}, schema=schema)


def fates(rows: list[tuple[bytes | None, ...]]) -> list[str]:
    return [repr(row) for row in prepare(raw(rows), SPEC).to_pylist()]


@settings(deadline=None, max_examples=150)
@given(st.lists(rows_of_any_kind, max_size=3))
def test_preparing_parts_gives_what_preparing_the_whole_gives(parts: list[list[tuple[bytes | None, ...]]]) -> None:
    whole = [row for part in parts for row in part]
    assert fates(whole) == [fate for part in parts for fate in fates(part)]


@settings(deadline=None, max_examples=60)
@given(rows_of_any_kind)
def test_each_row_alone_has_the_fate_it_has_among_others(rows: list[tuple[bytes | None, ...]]) -> None:
    assert fates(rows) == [fate for row in rows for fate in fates([row])]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_another_order_of_rows_gives_the_same_rows_in_that_order(data: st.DataObject) -> None:
    rows = data.draw(rows_of_any_kind)
    order = data.draw(st.permutations(range(len(rows))))
    alone = [fates([row]) for row in rows]
    assert fates([rows[i] for i in order]) == [fate for i in order for fate in alone[i]]


@pytest.mark.parametrize("first", [b"01/05/2024", b"2024-05-01T10:00Z", b"2024-05-01", b"20240501", b"", b"\xff", None])
@pytest.mark.parametrize("at", [b"2024-05-01T10:30:00", b"2024-05-01 10:30Z", b"2024-05-01T12:30+02:00"])
def test_no_format_is_inferred_from_the_first_row(first: bytes | None, at: bytes) -> None:
    day = b"2024-05-01"
    rows = [(b"a", b"1", b"1", b"1", first, first), (b"b", b"2", b"2", b"1", day, at)]
    assert fates(rows)[1:] == fates(rows[1:])


@settings(deadline=None, max_examples=60)
@given(st.lists(row, min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 5))
def test_parquet_rows_have_the_same_fate_in_any_row_group_and_batch(
    rows: list[tuple[bytes | None, ...]], group_rows: int, batch_rows: int
) -> None:
    spec = InputSpec(format="parquet", paths=(), columns=(SPEC.columns[0],), derived=(SPEC.derived[3],))
    sink = io.BytesIO()
    pq.write_table(pa.table([raw(rows).column("id")], names=["id"]), sink, row_group_size=group_rows)
    found = []
    for group in range(-(-len(rows) // group_rows)):
        for batch in read_split(sink, Split("t", group), spec, batch_rows=batch_rows):
            found += prepare(batch, spec).to_pylist()
    assert found == prepare(raw(rows).select(["id"]), spec).to_pylist()


# Every value is quoted and none is null or empty: what this can't say is told in test_sources_csv.py.
field = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('\0\r\n",'), min_size=1, max_size=6)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(field, field), max_size=25), st.integers(1, 7), st.sampled_from([64, 8 << 20]))
def test_csv_rows_of_any_text_come_back_whole_whatever_the_block_and_batch(
    rows: list[tuple[str, str]], batch_rows: int, block_bytes: int
) -> None:
    text = "".join('"{}","{}"\r\n'.format(*(v.replace('"', '""') for v in row)) for row in [("a", "b"), *rows])
    spec = InputSpec(format="csv", paths=(), columns=(Column(name="a", type="string"), Column(name="b", type="string")))
    old, base.BLOCK_BYTES = base.BLOCK_BYTES, block_bytes
    try:
        file = io.BytesIO(text.encode("utf-8"))
        batches = [prepare(batch, spec) for batch in read_split(file, Split("t", None), spec, batch_rows=batch_rows)]
    finally:
        base.BLOCK_BYTES = old
    assert [tuple(row.values()) for batch in batches for row in batch.to_pylist()] == rows
    assert all(batch.schema == output_schema(spec) for batch in batches)
