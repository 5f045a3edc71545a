"""JSON Lines: which raw rows come out, and that a line's fate is its own, whatever stands in the lines around it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.errors import DataError, RunFailed, UsageError
from dpbeam.queries.source import Column, InputSpec, Rule
from dpbeam.reading.formats import Split, base, inspect_file, jsonl, read_split
from dpbeam.reading.rows import prepare


def keep(value: Any) -> Rule:
    return Rule(action="replace", value=value)


COLUMNS = (
    Column(name="id", type="string", on_invalid=keep("?"), on_null=keep("none")),
    Column(name="n", type="int64", on_invalid=keep(-1), on_null=keep(-2)),
    Column(name="x", type="float64", on_invalid=keep(-1.0), on_null=keep(-2.0), on_nan=keep(-3.0), on_inf=keep(-4.0)),
    Column(name="ok", type="bool", on_invalid=keep(False), on_null=keep(True)),
    Column(name="city", type="string", field="address.city", on_invalid=keep("?"), on_null=keep("none")),
    Column(name="day", type="date", on_invalid=keep("2000-01-01"), on_null=keep("2000-01-02")),
)


def spec(*columns: Column) -> InputSpec:
    return InputSpec(format="jsonl", paths=(), columns=columns or COLUMNS)


def fates(raw: bytes, wanted: InputSpec | None = None, start: int = 0, end: int | None = None) -> list[str]:
    wanted = wanted or spec()
    batches = read_split(io.BytesIO(raw), Split("t", start=start, end=end), wanted)
    return [repr(row) for batch in batches for row in prepare(batch, wanted).to_pylist()]


def values(line: str | bytes, column: Column) -> list[Any]:
    raw = line if isinstance(line, bytes) else line.encode()
    wanted = spec(column)
    return [
        row[column.name]
        for b in read_split(io.BytesIO(raw), Split("t"), wanted)
        for row in prepare(b, wanted).to_pylist()
    ]


INT = Column(name="a", type="int64", on_invalid=keep(-1), on_null=keep(-2))
FLOAT = Column(
    name="a", type="float64", on_invalid=keep(-1.0), on_null=keep(-2.0), on_nan=keep(-3.0), on_inf=keep(-4.0)
)
TEXT = Column(name="a", type="string", on_invalid=keep("?"), on_null=keep("none"))
BOOL = Column(name="a", type="bool", on_invalid=keep(False))
NESTED = Column(name="a", type="int64", field="b.c", on_invalid=keep(-1), on_null=keep(-2))


@pytest.mark.parametrize(
    ("line", "column", "expected"),
    [
        ('{"a": 12}', INT, [12]),
        ('{"a": -9223372036854775808}', INT, [-(2**63)]),
        ('{"a": 9223372036854775808}', INT, [-1]),
        ('{"a": 1.0}', INT, [-1]),
        ('{"a": "12"}', INT, [-1]),
        ('{"a": true}', INT, [-1]),
        ('{"a": null}', INT, [-2]),
        ("{}", INT, [-2]),
        ('{"a": 1, "a": 2}', INT, [-1]),
        ('{"z": 1, "z": 2, "a": 3}', INT, [3]),
        ('{"a": [1]}', INT, [-1]),
        ('{"\\u0061": 7}', INT, [7]),
        ('{"a": 0.1}', FLOAT, [0.1]),
        ('{"a": 123456789012345678901234567890}', FLOAT, [1.2345678901234568e29]),
        ('{"a": NaN}', FLOAT, [-3.0]),
        ('{"a": -Infinity}', FLOAT, [-4.0]),
        ('{"a": 1e400}', FLOAT, []),  # no JSON parser's number: the line is left out
        ('{"a": 10e308}', FLOAT, [-1.0]),
        ('{"a": -10E+308}', FLOAT, [-1.0]),
        ('{"a": ' + "9" * 400 + "}", FLOAT, [-1.0]),
        ('{"a": ' + "9" * 400 + ', "z": "Infinity"}', FLOAT, [-1.0]),
        ('{"z": [Infinity, -Inf], "a": 10e308}', FLOAT, [-1.0]),
        ('{"z": 10e308, "a": Infinity}', FLOAT, [-4.0]),
        ('{"z": ": Infinity, ", "a": Inf}', FLOAT, [-4.0]),
        ('{"z": 10e308, "a": 1.5}', FLOAT, [1.5]),
        ('{"Infinity": -Infinity, "a": 1}', Column(name="Infinity", type="float64", on_inf=keep(-4.0)), [-4.0]),
        ('{"Infinity": 10e308, "a": 1}', Column(name="Infinity", type="float64", on_invalid=keep(-1.0)), [-1.0]),
        ('{"a": 17976931348623157e292}', FLOAT, [1.7976931348623157e308]),
        ('{"a": "é\\n\\u0000"}', TEXT, ["é\n\x00"]),
        (b'{"a": "\xff"}', TEXT, ["?"]),
        ('{"a": 5}', TEXT, ["?"]),
        ('{"a": "\\ud800"}', TEXT, []),  # half a surrogate pair is no text, so the line is no JSON
        ('{"a": true}', BOOL, [True]),
        ('{"a": "true"}', BOOL, [False]),
        ('{"b": {"c": 5}}', NESTED, [5]),
        ('{"b": {}}', NESTED, [-2]),
        ('{"b": null}', NESTED, [-2]),
        ('{"b": 5}', NESTED, [-1]),
        ('{"b": {"c": {"d": 1}}}', NESTED, [-1]),
        ('{"b.c": 5}', NESTED, [-2]),
        ('{"b": ' + "[" * 100_000 + "]" * 100_000 + "}", NESTED, [-1]),
        ('{"z": ' + '{"y": ' * 50_000 + "1" + "}" * 50_000 + ', "b": {"c": 1}}', NESTED, [1]),
    ],
)
def test_a_value_is_what_the_docs_say(line: str | bytes, column: Column, expected: list[Any]) -> None:
    assert values(line, column) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"[1]", b"1", b"x", b'{"a": 1', b'{"a": 1}}', b'{"a": 1} {"a": 2}', b'{"a": 1,}', b"{'a': 1}", b'{"a": 01}',
        b'{"a": 1} x', b'{"a": 1}\x00', b'{"a": "l\tm"}', b'{"z": nul}', b'{"a": 1}{', b'}{', b"{",
    ],
)  # fmt: skip
def test_a_line_that_is_not_one_object_is_left_out_and_its_neighbours_stay(line: bytes) -> None:
    raw = b'{"a": 1}\n' + line + b'\n{"a": 3}\n'
    assert values(raw, INT) == [1, 3]
    strict = spec(Column(name="a", type="int64", on_invalid=Rule(action="fail")))
    with pytest.raises(DataError) as caught:
        list(read_split(io.BytesIO(raw), Split("t"), strict))
    assert str(caught.value) == (
        "t has a line that is not one JSON object, and column a says on_invalid: fail. Correct the file, or declare "
        "on_invalid: drop for the column."
    )


def test_an_object_over_several_lines_joins_no_neighbours() -> None:
    """Three lines that a parser of whole blocks would read as three objects, the middle ones as one."""
    assert values(b'{"a": 1}{"a": 2}\n{"z":\n{"a": 3}}\n{"a": 4}\n', INT) == [4]
    assert values(b'{"z": [{"a": 1}\n{"a": 2}\n]}\n{"a": 4}', INT) == [2, 4]


def test_blank_lines_are_passed_by_also_under_fail() -> None:
    strict = spec(Column(name="a", type="int64", on_invalid=Rule(action="fail")))
    (batch,) = read_split(io.BytesIO(b'\n  \r\n {"a": 1} \r\n\t\n{"a": 2}\r\n\n'), Split("t"), strict)
    assert batch.to_pylist() == [{"a": 1}, {"a": 2}]


def test_a_byte_order_mark_is_passed_by() -> None:
    assert values(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n', INT) == [1, 2]


def test_a_file_of_no_bytes_is_empty() -> None:
    (split,) = inspect_file(io.BytesIO(b""), spec(), "t")
    assert list(read_split(io.BytesIO(b""), split, spec())) == []


token = st.sampled_from(
    ["1", "-7", "1.5", "1.0", "1e3", "1e999", "true", "false", "null", '"a"', '"2024-05-01"', '"\\ud800"', "NaN", "[]",
     "[1]", "{}", '{"city": "x"}', '{"city": 3}', '{"city": null}', '{"city": "x", "city": "y"}', "9" * 25, "-0", "nul",
     "Infinity", "-Infinity", "10e308", "9" * 400, '"Infinity"', '{"city": Infinity}']
)  # fmt: skip
objects = st.lists(st.tuples(st.sampled_from([*"abc", "id", "n", "x", "ok", "address", "day"]), token), max_size=5).map(
    lambda pairs: "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"
)
scraps = st.text(st.sampled_from('{}[]":,a1 \t\r\\'), max_size=8)
line = st.one_of(objects, objects, objects, scraps, st.tuples(objects, scraps).map("".join), st.binary(max_size=6)).map(
    lambda made: made.encode() if isinstance(made, str) else made.replace(b"\n", b"")
)


@settings(deadline=None, max_examples=250)
@given(st.lists(line, max_size=30), st.sampled_from([1, 3, 1024]), st.sampled_from([2, 128]))
def test_each_line_alone_has_the_fate_it_has_among_others(lines: list[bytes], part: int, few: int) -> None:
    alone = [fate for each in lines for fate in fates(each)]
    old = jsonl._PART_LINES, jsonl._FEW_LINES
    jsonl._PART_LINES, jsonl._FEW_LINES = part, few
    try:
        assert fates(b"\n".join(lines)) == alone
    finally:
        jsonl._PART_LINES, jsonl._FEW_LINES = old


def test_the_property_would_hear_a_parser_of_whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the guard on how lines start and end, a line swallows its neighbours."""
    monkeypatch.setattr(jsonl, "_objects", lambda lines: (lines, False))
    lines = [b'{"n":1}{"n":2}\n', b'{"z":\n', b'{"n":3}}\n']
    assert fates(b"".join(lines)) != [fate for each in lines for fate in fates(each)]


@settings(deadline=None, max_examples=150)
@given(st.lists(line, max_size=20), st.integers(1, 40), st.sampled_from([1, 7, 64, 1 << 20]), st.booleans())
def test_ranges_of_any_size_give_each_row_once(lines: list[bytes], cut: int, block: int, ends: bool) -> None:
    raw = b"\n".join([b"", *lines]) + b"\n" * ends  # a first line break, so that no line starts like another format
    old = base.RANGE_BYTES, base.BLOCK_BYTES
    base.RANGE_BYTES, base.BLOCK_BYTES = cut, block
    try:
        found = inspect_file(io.BytesIO(raw), spec(), "t")
        pieces = [fate for each in found for fate in fates(raw, None, each.start, each.end)]
    finally:
        base.RANGE_BYTES, base.BLOCK_BYTES = old
    assert pieces == fates(raw)


def test_many_bad_values_of_one_kind_take_no_search_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = jsonl._parse

    def counting(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(*args)

    monkeypatch.setattr(jsonl, "_parse", counting)
    assert values(b'{"a": "x"}\n' * 5000, INT) == [-1] * 5000
    assert calls < 40


def test_a_line_without_end_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(base, "MAX_BLOCK_BYTES", 1 << 12)
    with pytest.raises(RunFailed) as caught:
        fates(b'{"n": 1}\n{"z": "' + b"a" * (1 << 14))
    assert str(caught.value) == (
        "t has a row longer than 0 MiB, the most that a row of jsonl may have. Leave what is so long out of the file, "
        "or write it as Parquet."
    )


@pytest.mark.parametrize("before", [0, 1, 7, 40, 300])
@pytest.mark.parametrize("lines", [True, False])
def test_the_longest_line_is_as_long_wherever_it_begins(
    monkeypatch: pytest.MonkeyPatch, before: int, lines: bool
) -> None:
    monkeypatch.setattr(base, "BLOCK_BYTES", 64)
    monkeypatch.setattr(base, "MAX_BLOCK_BYTES", 512)
    wanted = spec(INT)
    if lines:
        wanted = InputSpec(format="csv", paths=(), columns=(INT,), quoted_newlines=False)
    head, short = (b"a\n", b"1\n") if lines else (b"", b'{"a":1}\n')
    for size, fits in ((512, True), (513, False)):
        line = b"0" * (size - 2) + b"1\n" if lines else b'{"a":1' + b" " * (size - 8) + b"}\n"
        raw = head + before * short + line + short
        if fits:
            assert len(fates(raw, wanted)) == before + 2
            continue
        with pytest.raises(RunFailed, match="has a row longer than"):
            fates(raw, wanted)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("a", "a.b"), "columns one and two lie in one another"),
        (("a.b", "a.b"), "columns one and two lie in one another"),
    ],
)
def test_columns_that_a_line_can_not_hold_both_are_refused(fields: tuple[str, str], said: str) -> None:
    columns = [
        Column(name=name, type="string", field=field) for name, field in zip(("one", "two"), fields, strict=True)
    ]
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(b"{}"), spec(*columns), "t")
    assert str(caught.value).startswith(said)


def test_a_key_with_a_dot_is_named_by_a_list() -> None:
    column = Column(name="a", type="int64", field=("b.c",), on_null=keep(-2))
    assert values('{"b.c": 5, "b": {"c": 6}}', column) == [5]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=6), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_values_come_back_as_they_were_written_also_beside_bad_lines(
    rows: list[tuple[str, int, float]], bad: bool
) -> None:
    columns = (Column(name="s", type="string"), Column(name="n", type="int64"), Column(name="x", type="float64"))
    lines = [json.dumps({"s": s, "n": n, "x": x}) for s, n, x in rows] + ['{"s": 1, "n": "1", "x": []}'] * bad
    wanted = spec(*columns)
    raw = "\n".join(lines).encode("utf-8", "surrogatepass")
    batches = [prepare(batch, wanted) for batch in read_split(io.BytesIO(raw), Split("t"), wanted)]
    assert [tuple(row.values()) for batch in batches for row in batch.to_pylist()] == rows


def test_a_parquet_file_declared_as_jsonl_is_refused_by_name() -> None:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(b"PAR1\x15\x04"), spec(), "t")
    assert str(caught.value) == "t is a Parquet file, but source.format is jsonl. Set source.format: parquet."
