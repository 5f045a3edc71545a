"""Public partitions: inline, as a product, in a file; cast, distinct, in the order of group_by; or refused."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.errors import UsageError
from dpbeam.policy import public_file
from dpbeam.policy.compile import query
from dpbeam.policy.load import load_policy
from dpbeam.policy.schema.policy import Policy, public_table_of
from dpbeam.policy.violations import PolicyError

TEXT = """\
version: 1
dataset: d
source: {format: csv, path: d.csv}
privacy_unit: person
columns:
  person: {type: string}
  place: {type: string}
  year: {type: int64}
  day: {type: date}
  at: {type: timestamp}
  ok: {type: bool}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: one
    group_by: GROUP
    partitions: {public: PUBLIC}
    bounds: {l0: 1, linf: 1}
    metrics: [count]
    noise: laplace
"""
AT = "stages[0].partitions.public"
FILE = "Name a CSV or Parquet file whose columns are those of group_by."


@pytest.fixture
def table(tmp_path):
    def of(group, public):
        path = tmp_path / "policy.yaml"
        path.write_text(TEXT.replace("GROUP", group).replace("PUBLIC", public), encoding="utf-8")
        policy = load_policy(path)
        return query(policy).stages[0].public

    return of


@pytest.fixture
def refused(table, tmp_path):
    def of(group, public):
        with pytest.raises(PolicyError) as caught:
            table(group, public)
        return str(caught.value).removeprefix(f"{tmp_path / 'policy.yaml'}:")

    return of


def test_values_of_one_key_are_distinct_and_keep_their_order(table):
    assert table("[place]", "{values: [b, a, b]}").to_pydict() == {"place": ["b", "a"]}


def test_values_of_several_keys_have_the_keys_types(table):
    found = table("[day, ok, year]", "{values: [[2024-05-01, true, 1], [2024-05-02, false, 2]]}")
    assert found.schema == pa.schema([("day", pa.date32()), ("ok", pa.bool_()), ("year", pa.int64())])
    assert found.to_pylist()[0] == {"day": date(2024, 5, 1), "ok": True, "year": 1}


def test_a_product_lists_every_combination_in_the_order_of_group_by(table):
    found = table("[place, year]", "{product: {year: [1, 2, 1], place: [a, b]}}")
    assert list(zip(*found.to_pydict().values(), strict=True)) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_private_partitions_have_no_table(tmp_path):
    text = TEXT.replace("GROUP", "[place]").replace("{public: PUBLIC}", "{private: {strategy: truncated_geometric}}")
    (tmp_path / "policy.yaml").write_text(text)
    policy = load_policy(tmp_path / "policy.yaml")
    assert query(policy).stages[0].public is None


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_a_file_is_read_and_cast(table, tmp_path, name):
    if name == "p.csv":
        (tmp_path / name).write_text("year,place\n1,a\n2,\n1,a\n")
    else:
        pq.write_table(pa.table({"year": pa.array([1, 2, 1], pa.int8()), "place": ["a", "", "a"]}), tmp_path / name)
    found = table("[place, year]", f"{{file: {name}}}")
    assert found.schema == pa.schema([("place", pa.string()), ("year", pa.int64())])
    assert found.to_pydict() == {"place": ["a", ""], "year": [1, 2]}


def test_a_csv_file_may_hold_keys_of_several_lines(table, tmp_path):
    (tmp_path / "p.csv").write_text('place\n"one\ntwo"\nthree\n')
    assert table("[place]", "{file: p.csv}").to_pydict() == {"place": ["one\ntwo", "three"]}


REFUSED = {
    "[place]|{values: [a, 1]}": (
        f"16: {AT}.values[1] must be text, for its column is string, got 1",
        "Give a value of the column's type.",
    ),
    "[ok]|{values: [1]}": (
        f"16: {AT}.values[0] must be true or false, for its column is bool, got 1",
        "Give a value of the column's type.",
    ),
    "[place, year]|{values: [[a, 1], [b]]}": (
        f"16: {AT}.values[1] must have one value for each column of group_by: place, year, got ['b']",
        "Write a list of 2.",
    ),
    "[place]|{values: [null]}": (
        f"16: {AT}.values[0] must be text, a finite number, true or false, got null",
        "List the values of the key: [a, b]; with several keys, one list a partition: [[a, 1], [b, 2]].",
    ),
    "[place]|{values: []}": (
        f"16: {AT}.values must have at least one entry, got []",
        "List the values of the key: [a, b]; with several keys, one list a partition: [[a, 1], [b, 2]].",
    ),
    "[place, year]|{product: {place: [a]}}": (
        f"16: {AT}.product must have exactly the columns of group_by: place, year, got ['place']",
        "List the values of each.",
    ),
    "[place, year]|{product: {place: [a], year: [x]}}": (
        f"16: {AT}.product.year[0] must be a whole number within int64, for its column is int64, got 'x'",
        "Give a value of the column's type.",
    ),
    "[place]|{file: none.csv}": (
        f"16: {AT}.file does not exist, got 'none.csv'",
        "Check the path; it starts at the policy's folder.",
    ),
    "[place]|{file: .}": (f"16: {AT}.file must be a file, got '.'", FILE),
    '[place]|{file: "a\\0b"}': (
        f"16: {AT}.file can't be read: not a usable path, got 'a\\x00b'",
        "Name a readable file.",
    ),
    "[place]|{file: empty.csv}": (
        f"16: {AT}.file is not a CSV or Parquet file that can be read, got 'empty.csv'",
        FILE,
    ),
    "[place]|{file: latin.csv}": (
        f"16: {AT}.file is not a CSV or Parquet file that can be read, got 'latin.csv'",
        FILE,
    ),
    "[place]|{file: cut.parquet}": (
        f"16: {AT}.file is not a CSV or Parquet file that can be read, got 'cut.parquet'",
        FILE,
    ),
    "[place]|{file: header.csv}": (
        f"16: {AT}.file must list between 1 and 10,000,000 partitions, got 'header.csv'",
        "List the partitions to publish.",
    ),
    "[year]|{file: two.csv}": (
        f"16: {AT}.file must have exactly the columns year, got 'two.csv'",
        "Write them as its header.",
    ),
    "[place, year]|{file: two.csv}": (
        f"16: {AT}.file has a missing value, or one that isn't a whole number within int64, in year, got 'two.csv'",
        "Correct the file.",
    ),
    "[place, year]|{values: [[a, 1]], file: two.csv}": (
        f"16: {AT} must have exactly one of the keys values, product, file, got a mapping",
        "Write {values: [a, b]}, {product: {sex: [f, m], band: [a, b]}} or {file: partitions.csv}.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_list_that_does_not_fit_is_refused(case, refused, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("place\n")
    (tmp_path / "latin.csv").write_bytes(b"place\ncaf\xe9\n")
    (tmp_path / "two.csv").write_text("place,year\na,x\n")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    said, remedy = REFUSED[case]
    assert refused(*case.split("|")) == f"{said}\n    Remedy: {remedy}"


def test_a_product_above_ten_million_is_refused_without_being_made(refused):
    days = ", ".join(f"2024-01-{day:02}" for day in range(1, 32))
    years = ", ".join(map(str, range(600)))
    places = ", ".join(f"p{i}" for i in range(600))
    public = f"{{product: {{day: [{days}], year: [{years}], place: [{places}]}}}}"
    assert refused("[day, year, place]", public) == (
        f"16: {AT}.product must not list more than 10,000,000 partitions\n"
        "    Remedy: List fewer values, or group by less."
    )


# --- Parquet files of every kind ------------------------------------------------------------------------------------

IDS = [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)]


@pytest.mark.parametrize(
    ("key", "column", "expected"),
    [
        ("place", pa.array([b"\xff\x00", b"ab"], pa.binary(2)), ["ff00", "6162"]),
        ("place", pa.ExtensionArray.from_storage(pa.uuid(), pa.array([i.bytes for i in IDS], pa.binary(16))),
         [str(each) for each in IDS]),
        ("place", pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
        ("year", pa.array([Decimal("-7.00"), Decimal(5)], pa.decimal256(76, 2)), [-7, 5]),
        ("at", pa.array([datetime(9999, 12, 31), datetime(1000, 1, 1)], pa.timestamp("us")),
         [datetime(9999, 12, 31), datetime(1000, 1, 1)]),
    ],
    ids=["fixed", "uuid", "dictionary", "decimal", "int96"],
)  # fmt: skip
def test_keys_of_a_parquet_file_are_read_as_a_source_reads_them(table, tmp_path, key, column, expected):
    schema = pa.schema([pa.field(key, column.type, nullable=False)])
    written = pa.table([column], schema=schema)
    pq.write_table(written, tmp_path / "p.parquet", use_deprecated_int96_timestamps=key == "at", row_group_size=1)
    assert table(f"[{key}]", "{file: p.parquet}").to_pydict() == {key: expected}


@pytest.mark.parametrize("encoded", [False, True])
def test_more_keys_than_memory_holds_are_refused_for_their_size_and_not_their_type(
    refused, tmp_path, monkeypatch, encoded
):
    monkeypatch.setattr(public_file, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(public_file, "_FILE_ROWS", 10)
    words = pa.array(["x" * 100_000] * 20)
    pq.write_table(pa.table({"place": words.dictionary_encode() if encoded else words}), tmp_path / "p.parquet")
    assert (tmp_path / "p.parquet").stat().st_size < 200_000
    assert refused("[place]", "{file: p.parquet}").startswith(
        f"16: {AT}.file must not hold more than 1 MiB of keys when it is unpacked, got 'p.parquet'"
    )


def test_text_in_more_chunks_than_one_is_read_whole(table, tmp_path, monkeypatch):
    """What exceeds one array's 2 GiB comes in several: they are never put together before they are keys."""
    monkeypatch.setattr(public_file, "_FILE_ROWS", 3)
    pq.write_table(pa.table({"place": [f"p{i}" for i in range(10)]}), tmp_path / "p.parquet", row_group_size=4)
    assert table("[place]", "{file: p.parquet}").to_pydict() == {"place": [f"p{i}" for i in range(10)]}


def test_a_column_named_twice_is_refused(refused, tmp_path):
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["place", "place"]), tmp_path / "p.parquet")
    assert refused("[place]", "{file: p.parquet}").startswith(f"16: {AT}.file must have exactly the columns place")


def test_a_policy_has_its_public_partitions_from_its_making_and_keeps_them_in_copies(table, tmp_path):
    shown = table("[year]", "{values: [2020]}")
    policy = load_policy(tmp_path / "policy.yaml")
    copy = policy.model_copy(deep=False)
    assert [public_table_of(each, "one") for each in (policy, copy)] == [shown, shown]
    with pytest.raises(UsageError) as refused:
        policy.model_copy(update={"dataset": "other"})
    assert str(refused.value) == (
        "a policy is changed in its file, or by the query that built it: a copy isn't checked"
    )
    again = Policy.model_validate(policy.model_dump() | {"run": {"epsilon": 1.0, "delta": 1e-8}})
    assert public_table_of(again, "one") is None
