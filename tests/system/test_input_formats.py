"""One table, written in every format, compressed, in folders, nested and aggregated, makes the same release."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle import inputs
from dpbeam.policy.load import load_policy
from dpbeam.queries.source import Column, InputSpec
from dpbeam.reading.formats import base

ROWS = [
    {"person": f"p{i}", "place": place, "amount": float((i * 7 + j) % 11)}
    for i in range(60)
    for j, place in enumerate(("inn", "zoo", f"x{i % 3}"))
]
SCHEMA = {
    "type": "record",
    "name": "visit",
    "fields": [
        {"name": "person", "type": "string"},
        {"name": "place", "type": ["null", "string"]},
        {"name": "amount", "type": "double"},
    ],
}
CODECS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
          ".zst": lambda raw: pa.Codec("zstd").compress(raw, asbytes=True)}  # fmt: skip


def csv(rows: list[dict[str, Any]]) -> bytes:
    lines = ["person,place,amount", *(f"{r['person']},{r['place']},{r['amount']}" for r in rows)]
    return ("\n".join(lines) + "\n").encode()


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)
    elif path.name.endswith((".arrow", ".feather")):
        with pa.ipc.new_file(path, (table := pa.Table.from_pylist(rows)).schema) as writer:
            writer.write_table(table, max_chunksize=50)
    elif path.name.endswith(".avro"):
        with path.open("wb") as file:
            fastavro.writer(file, SCHEMA, rows, codec="deflate", sync_interval=500)
    else:
        plain = jsonl(rows) if ".jsonl" in path.name else csv(rows)
        path.write_bytes(CODECS[path.suffix if path.suffix in CODECS else ""](plain))
    return path


def figures(workspace: Any) -> list[dict[str, Any]]:
    workspace.create_budget()
    assert workspace.run() == 0
    rows = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
    return [{key: row[key] for key in ("place", "count", "privacy_id_count", "amount_sum")} for row in rows]


@pytest.fixture
def expected() -> list[dict[str, Any]]:
    """The release of all rows: nobody is beyond the bounds, so without noise it is the plain aggregate."""
    places = sorted({row["place"] for row in ROWS})
    counts = Counter(row["place"] for row in ROWS)
    sums = {place: sum(row["amount"] for row in ROWS if row["place"] == place) for place in places}
    return [
        {"place": p, "count": counts[p], "privacy_id_count": counts[p], "amount_sum": pytest.approx(sums[p])}
        for p in places
    ]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        *((f"data.{format}{suffix}", {"format": format}) for format in ("csv", "jsonl") for suffix in CODECS),
        ("data.csv", {"format": "csv", "quoted_newlines": False}),
        ("data.parquet", {"format": "parquet"}),
        ("data.avro", {"format": "avro"}),
        ("data.arrow", {"format": "arrow"}),
    ],
)
def test_every_format_gives_the_same_release(name, source, workspace, exact, expected, monkeypatch) -> None:
    monkeypatch.setattr(base, "RANGE_BYTES", 1000)
    written(workspace.folder / name, ROWS)
    workspace.policy["source"] = {"path": name, **source}
    assert figures(workspace) == expected


@pytest.mark.parametrize("suffix", ["csv", "jsonl.gz", "parquet", "avro", "arrow"])
def test_a_folder_of_many_files_gives_the_same_release(suffix, workspace, exact, expected) -> None:
    for i in range(0, len(ROWS), 3):
        written(workspace.folder / f"data/day={i % 7}/part-{i}.{suffix}", ROWS[i : i + 3])
    (workspace.folder / "data" / "_SUCCESS").touch()
    (workspace.folder / "data" / "day=0" / ".part.crc").write_bytes(b"x")
    workspace.policy["source"] = {"path": "data", "format": suffix.split(".")[0]}
    assert figures(workspace) == expected


def test_files_may_differ_in_types_order_and_further_columns(workspace, exact, expected) -> None:
    table = pa.Table.from_pylist(ROWS)
    (workspace.folder / "data").mkdir()
    others = {
        "a": table,
        "b": table.select(["amount", "place", "person"]).append_column("more", pa.array([1] * len(ROWS))),
        "c": table.set_column(2, "amount", table["amount"].cast(pa.float32())),
        "d": table.set_column(1, "place", table["place"].dictionary_encode()),
        "e": table.set_column(0, "person", table["person"].cast(pa.large_binary())),
        "f": table.set_column(2, "amount", table["amount"].cast(pa.decimal128(9, 2))),
    }
    for place, (name, made) in enumerate(others.items()):
        pq.write_table(made.slice(place * 30, 30), workspace.folder / "data" / f"{name}.parquet")
    workspace.policy["source"] = {"path": "data", "format": "parquet"}
    assert figures(workspace) == expected


def test_a_key_may_stand_in_the_folders(workspace, exact, expected) -> None:
    for place in {row["place"] for row in ROWS}:
        rows = [{key: row[key] for key in ("person", "amount")} for row in ROWS if row["place"] == place]
        written(workspace.folder / f"data/place={place}/part.parquet", rows)
    workspace.policy["source"] = {"path": "data/", "format": "parquet", "path_columns": ["place"]}
    assert figures(workspace) == expected


def test_columns_may_lie_inside_objects(workspace, exact, expected) -> None:
    rows = [{"person": r["person"], "at": {"place": r["place"], "spent": {"amount": r["amount"]}}} for r in ROWS]
    written(workspace.folder / "data.jsonl", rows)
    workspace.policy["source"] = {"path": "data.jsonl", "format": "jsonl"}
    workspace.policy["columns"] = {
        "person": {"type": "string"},
        "place": {"type": "string", "field": "at.place"},
        "amount": {"type": "float64", "field": "at.spent.amount"},
    }
    assert figures(workspace) == expected


@pytest.mark.parametrize(
    ("suffix", "norm", "flags"),
    [
        ("jsonl", "l1", ()),
        ("parquet", "l2", ()),
        ("avro", "linf", ()),
        ("parquet", "l1", ("--runner=BundleBasedDirectRunner",)),
    ],
)
def test_a_list_gives_the_same_release_as_a_column_for_each_number(suffix, norm, flags, workspace, exact) -> None:
    """Rows of another length, with a missing number or none at all, are left out of both."""
    rows = []
    for i, row in enumerate(ROWS):
        numbers = [(i * 7 + j) % 11 - 5.0 for j in range(3)]
        apart = {f"e{j}": None if i % 13 == 0 else number for j, number in enumerate(numbers)}
        listed = [None, [], [*numbers, 1.0], [*numbers[:2], None]][i // 13 % 4] if i % 13 == 0 else numbers
        rows.append({**row, **apart, "e": listed})
    path = workspace.folder / f"data.{suffix}"
    if suffix == "avro":
        more = [{"name": f"e{j}", "type": ["null", "double"]} for j in range(3)]
        lists = {"name": "e", "type": ["null", {"type": "array", "items": ["null", "double"]}]}
        with path.open("wb") as file:
            fastavro.writer(file, SCHEMA | {"fields": [*SCHEMA["fields"], *more, lists]}, rows)
    else:
        written(path, rows)
    workspace.policy["source"] = {"path": path.name, "format": suffix}
    columns = workspace.policy["columns"]
    (stage,) = workspace.policy["stages"]
    released = []
    for names, rules in (
        (("e",), {"e": {"type": "vector", "length": 3}}),
        (
            ("e0", "e1", "e2"),
            {f"e{j}": {"type": "float64"} for j in range(3)},
        ),
    ):
        workspace.policy["dataset"] = f"visits{len(names)}"
        workspace.policy["columns"] = columns | rules
        stage["metrics"] = ["count", {"vector_sum": {"columns": list(names), "norm": norm, "max_norm": 6.0}}]
        workspace.create_budget()
        assert workspace.run("--accept-source", *flags) == 0
        (folder,) = workspace.output.glob(f"{workspace.policy['dataset']}/2*")
        released.append(pq.read_table(folder / "by_place.parquet").to_pylist())
    assert released[0] == released[1]
    assert sum(row["count"] for row in released[0]) == len(ROWS) - len(ROWS[::13])


def test_rows_aggregated_already_give_the_same_release(workspace, exact, expected) -> None:
    written(workspace.folder / "data.jsonl", [{**row, "n": 1} for row in ROWS])
    workspace.policy["source"] = {"path": "data.jsonl", "format": "jsonl", "pre_aggregated": {"count": "n"}}
    workspace.policy["columns"]["n"] = {"type": "int64"}
    total = {"sum": {"column": "amount", "low_total": 0, "high_total": 20}}
    workspace.policy["stages"][0]["metrics"] = ["count", "privacy_id_count", total]
    assert figures(workspace) == expected


def test_a_damaged_file_fails_the_run_after_its_charge_and_publishes_nothing(workspace, capsys) -> None:
    raw = gzip.compress(jsonl(ROWS * 200))
    (workspace.folder / "data.jsonl.gz").write_bytes(raw[:-20])
    workspace.policy["source"] = {"path": "data.jsonl.gz", "format": "jsonl"}
    workspace.create_budget()
    assert workspace.run() == 4
    assert "data.jsonl.gz could not be read to its end" in capsys.readouterr().err
    assert workspace.manifests() == []


class Store(LocalFileSystem):  # type: ignore[misc]
    """An object store as Beam sees one: paths with a scheme, no folders, files that it would unpack by their suffix."""

    @classmethod
    def scheme(cls) -> str:
        return "teststore"

    def match(self, patterns: list[str], limits: Any = None) -> Any:
        found = super().match([pattern.removeprefix("teststore:/") for pattern in patterns], limits)
        for result in found:
            files = [each for each in result.metadata_list if Path(each.path).is_file()]
            result.metadata_list = [
                FileMetadata("teststore:/" + each.path, each.size_in_bytes, each.last_updated_in_seconds)
                for each in files
            ]
        return found

    def open(self, path: str, *args: Any, **options: Any) -> Any:
        return super().open(path.removeprefix("teststore:/"), *args, **options)


@pytest.mark.parametrize("suffix", ["jsonl.gz", "csv", "parquet", "avro", "arrow"])
def test_a_folder_of_an_object_store_gives_the_same_release(suffix, workspace, exact, expected) -> None:
    for i in range(0, len(ROWS), 40):
        written(workspace.folder / f"data/part-{i}.{suffix}", ROWS[i : i + 40])
    (workspace.folder / "data" / "_SUCCESS").touch()
    workspace.policy["source"] = {"path": f"teststore:/{workspace.folder}/data", "format": suffix.split(".")[0]}
    assert figures(workspace) == expected


def test_ten_thousand_files_are_some_dozens_of_splits(tmp_path) -> None:
    for i in range(10_000):
        (tmp_path / f"part-{i:05}.csv").write_bytes(b"person,place\np,x\n")
    columns = (Column(name="person", type="string"), Column(name="place", type="string"))
    found = inputs.resolve(InputSpec(format="csv", paths=(str(tmp_path),), columns=columns))
    assert len(found.files) == 10_000
    assert sum(map(len, found.splits)) == 10_000
    assert len(found.splits) <= 100


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("people.jsonl", "jsonl"),
        ("people.csv.gz", "csv"),
        ("people.avro", "avro"),
        ("people.parquet", "parquet"),
        ("people.feather", "arrow"),
    ],
)
def test_init_writes_a_policy_that_runs(name, format, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / name, ROWS)
    assert invoke(["init", name, "--output", "policy.yaml"]) == 0
    policy = load_policy(tmp_path / "policy.yaml")
    assert (policy.source.format, policy.dataset, policy.privacy_unit) == (format, "people", "person")
    assert list(policy.columns) == ["person", "place", "amount"]
    assert invoke(["budget", "create", "policy.yaml", "--ledger", f"sqlite:///{tmp_path}/l.sqlite"]) == 0
    assert invoke(["run", "policy.yaml", "--ledger", f"sqlite:///{tmp_path}/l.sqlite"]) == 0, capsys.readouterr().err


def test_init_finds_folders_objects_and_types(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = {"user_id": "a", "at": {"city": "x", "lat": 1, "e": [1, 0.5]}, "n": 2, "tags": [], "w": ["x"]}
    rows = [first, {"user_id": None, "at": {"lat": 0.5, "e": [1, None]}, "w": [1]}]
    written(tmp_path / "logs" / "year=2024" / "part.jsonl", rows)
    assert invoke(["init", "logs", "--output", "policy.yaml"]) == 0
    assert (
        "  # at.e: {type: vector, length: LENGTH, on_null: drop, on_invalid: fail}\n"
        in (tmp_path / "policy.yaml").read_text()
    )
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy.source.path_columns == ("year",)
    assert {name: rules.type for name, rules in policy.columns.items()} == {
        "user_id": "string", "at.city": "string", "at.lat": "float64", "n": "int64", "year": "string"
    }  # fmt: skip


DEEP = 100_000


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"a": ' * DEEP + b"1" + b"}" * DEEP, "nests too deep"),
        (b'{"a": ' + b"[" * DEEP + b"1" + b"]" * DEEP + b"}", "nests too deep"),
        (b'{"a": "' + b"x" * (67 << 20) + b'"}\n{"a": "y"}\n', "starts with a line longer than 1 MiB"),
    ],
    ids=["objects", "lists", "a line of 67 MiB"],
)
def test_init_says_which_json_it_does_not_look_into(raw, said, tmp_path, capsys) -> None:
    (tmp_path / "x.jsonl").write_bytes(raw)
    assert invoke(["init", str(tmp_path / "x.jsonl")]) == 2
    assert said in (error := capsys.readouterr().err)
    assert "Write the policy's columns yourself" in error


def test_init_takes_a_number_of_any_length_for_a_number(tmp_path, capsys) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": ' + "9" * 5000 + ', "b": 10e308}\n')
    assert invoke(["init", str(tmp_path / "x.jsonl")]) == 0
    rules = "on_null: drop, on_invalid: fail"
    assert f"  a: {{type: int64, {rules}}}\n  b: {{type: float64, {rules}}}\n" in capsys.readouterr().out


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["FIFO", "device"])
def test_init_waits_for_nothing_that_is_no_file(make, tmp_path, capsys) -> None:
    make(tmp_path / "x.csv")
    assert invoke(["init", str(tmp_path / "x.csv")]) == 2
    assert "and no regular file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "raw"), [("x.jsonl", b"[1]\n"), ("x.avro", b"Obj"), ("x.csv.gz", b"a,b"), ("x.jsonl", b"")]
)
def test_init_says_what_is_no_such_file(name, raw, tmp_path, capsys) -> None:
    (tmp_path / name).write_bytes(raw)
    assert invoke(["init", str(tmp_path / name)]) == 2
    assert name in capsys.readouterr().err
