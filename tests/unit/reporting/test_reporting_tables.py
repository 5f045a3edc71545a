"""Result files: the same table gives the same bytes, and no cell of a CSV file starts a formula."""

from __future__ import annotations

import csv
import datetime
import io
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.reporting.manifest import ChosenBound
from dpbeam.reporting.tables import MetricColumn, escape_formulas, write_csv, write_parquet

COUNT = MetricColumn(name="count", kind="count", noise="gaussian", std=13.5)
# NUL is left out: Python 3.10's csv module can't read it.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
BEFORE = st.sampled_from(["", " ", "\t", '"', "'", "\r\n", "\u3000", "\u200b"])
RISKY = st.builds("{}{}{}".format, BEFORE, st.sampled_from("=+-@＝"), TEXT)


def table() -> pa.Table:
    return pa.table({"key": ["a", "b", "c"], "count": [1.5, 2.5, 3.5], "count_low": [0.0] * 3, "count_high": [9.0] * 3})


def csv_text(whole: pa.Table) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        write_csv(whole, path)
        return path.read_bytes().decode("utf-8")


def cells(whole: pa.Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(csv_text(whole), newline="")))


def escaped(text: str) -> str:
    return escape_formulas(pa.array([text])).to_pylist()[0]


def starts_formula(cell: str) -> bool:
    """Straight from OWASP's list, after what a spreadsheet skips; written apart from the product's expression."""
    bare = cell.lstrip(' \t\r\n\v\f"\u3000\u200b\ufeff\u00a0')
    return bare[:1] in tuple("=+-@＝＋－＠") or cell[:1] in ("\t", "\r", "\n")


@given(texts=st.lists(TEXT | RISKY, min_size=1, max_size=8))
@settings(deadline=None, max_examples=150)
def test_any_text_comes_back_from_csv_as_it_was_but_for_the_quote_before_a_formula(texts: list[str]) -> None:
    back = [row[0] for row in cells(pa.table({"key": texts, "n": [1] * len(texts)}))[1:]]
    assert [cell in (text, "'" + text) for cell, text in zip(back, texts, strict=True)] == [True] * len(texts)
    assert [cell for cell in back if cell and starts_formula(cell)] == []


@given(first=TEXT | RISKY, second=TEXT | RISKY)
@settings(deadline=None, max_examples=200)
def test_two_texts_never_become_the_same_cell(first: str, second: str) -> None:
    assert (escaped(first) == escaped(second)) == (first == second)
    assert escaped("'" + first) != escaped(first)


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\nx",
        "\tx",
        "  =1",
        '"=1',
        "'=1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        "\ufeff=1",
        "\u200b=1",
        "\u00a0=1",
        "﹣1",
        "−1",
    ],
)
def test_a_text_that_a_spreadsheet_may_run_gets_a_quote_in_front(text: str) -> None:
    assert escaped(text) == "'" + text


@pytest.mark.parametrize("text", ["", "a=1", "1-2", "x@y.z", "< 18", "[18, 30)", "'quoted'", "日本", " a"])
def test_a_harmless_text_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


def test_a_header_that_a_spreadsheet_may_run_gets_a_quote_in_front() -> None:
    assert cells(pa.table({"=cmd": ["a"], "n": [1]}))[0] == ["'=cmd", "n"]


def test_dictionary_and_large_strings_are_escaped_too() -> None:
    whole = pa.table(
        {"a": pa.array(["=1"]).dictionary_encode(), "b": pa.array(["=1"], pa.large_string()), "n": pa.array([1])}
    )
    assert cells(whole)[1] == ["'=1", "'=1", "1"]


@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_floats_come_back_from_csv_as_the_same_doubles(numbers: list[float]) -> None:
    back = [float(row[1]) for row in cells(pa.table({"key": ["k"] * len(numbers), "n": numbers}))[1:]]
    assert [number.hex() for number in back] == [number.hex() for number in numbers]


def test_negative_numbers_are_not_quoted() -> None:
    assert csv_text(pa.table({"k": [-5], "n": [-1.5]})) == '"k","n"\n-5,-1.5\n'


def test_dates_and_timestamps_are_written_as_iso_8601() -> None:
    moment = datetime.datetime(2024, 2, 29, 13, 5, 6, 7)
    whole = pa.table(
        {
            "d": pa.array([datetime.date(2024, 2, 29)]),
            "t": pa.array([moment], pa.timestamp("us")),
            "z": pa.array([moment], pa.timestamp("us", tz="UTC")),
        }
    )
    assert cells(whole)[1] == ["2024-02-29", "2024-02-29T13:05:06.000007", "2024-02-29T13:05:06.000007Z"]


def test_an_empty_table_is_written_with_its_header() -> None:
    assert csv_text(table().slice(0, 0)) == '"key","count","count_low","count_high"\n'


def test_parquet_bytes_do_not_depend_on_chunks_dictionaries_or_metadata(tmp_path: Path) -> None:
    chunked = pa.concat_tables([table().slice(0, 1), table().slice(1)])
    encoded = table().set_column(0, "key", table()["key"].dictionary_encode())
    tagged = table().replace_schema_metadata({"pandas": "{}", "written": "today"})
    for name, whole in (("plain", table()), ("chunked", chunked), ("encoded", encoded), ("tagged", tagged)):
        write_parquet(whole, tmp_path / name, [COUNT])
    assert len({(tmp_path / name).read_bytes() for name in ("plain", "chunked", "encoded", "tagged")}) == 1


def test_csv_bytes_do_not_depend_on_chunks_or_dictionaries() -> None:
    chunked = pa.concat_tables([table().slice(0, 1), table().slice(1)])
    encoded = table().set_column(0, "key", table()["key"].dictionary_encode())
    assert len({csv_text(table()), csv_text(chunked), csv_text(encoded)}) == 1


def test_parquet_gives_the_table_back(tmp_path: Path) -> None:
    write_parquet(table(), tmp_path / "t.parquet", [COUNT])
    assert pq.read_table(tmp_path / "t.parquet").equals(table())


def test_parquet_fields_say_which_noise_a_metric_carries(tmp_path: Path) -> None:
    write_parquet(table(), tmp_path / "t.parquet", [COUNT])
    about = pq.read_schema(tmp_path / "t.parquet").field("count_low").metadata
    assert {key: value for key, value in about.items() if key.startswith(b"dpbeam.")} == {
        b"dpbeam.metric": b"count",
        b"dpbeam.kind": b"count",
        b"dpbeam.noise": b"gaussian",
        b"dpbeam.std": b"13.5",
        b"dpbeam.level": b"0.95",
    }


def test_parquet_says_which_bounds_the_run_chose(tmp_path: Path) -> None:
    chosen = ChosenBound(stage="a", metric="count", parameter="high", value=8.0, fallback=False, kept=0.9)
    write_parquet(table(), tmp_path / "t.parquet", [COUNT], [chosen])
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert json.loads(schema.metadata[b"dpbeam.chosen_bounds"]) == [asdict(chosen)]
    assert schema.field("count").metadata[b"dpbeam.kind"] == b"count"
    write_parquet(table(), tmp_path / "t.parquet", [COUNT])
    assert b"dpbeam.chosen_bounds" not in (pq.read_schema(tmp_path / "t.parquet").metadata or {})


def test_parquet_says_of_which_period_the_release_is(tmp_path: Path) -> None:
    write_parquet(pa.table({"a": [1]}), tmp_path / "t.parquet", period="2026-W48")
    assert pq.read_schema(tmp_path / "t.parquet").metadata[b"dpbeam.period"] == b"2026-W48"
    write_parquet(pa.table({"a": [1]}), tmp_path / "t.parquet")
    assert b"dpbeam.period" not in (pq.read_schema(tmp_path / "t.parquet").metadata or {})


def test_a_metric_whose_noise_varies_states_no_std(tmp_path: Path) -> None:
    write_parquet(table(), tmp_path / "t.parquet", [MetricColumn(name="count", kind="mean", noise="laplace", std=None)])
    assert b"dpbeam.std" not in pq.read_schema(tmp_path / "t.parquet").field("count").metadata
