"""Whole runs over files without rows, of ids in bytes, of what is no file, and of files in another's place."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.ledger.amounts import ZERO
from dpbeam.pipelines.jobs import aggregate
from dpbeam.pipelines.lifecycle import inputs

SCHEMA = pa.schema({"person": pa.string(), "place": pa.string(), "amount": pa.float64()})
PUBLIC = {"public": {"values": ["inn", "zoo"]}}


def empty_parquet(path: Path) -> None:
    pq.ParquetWriter(path, SCHEMA).close()


def empty_avro(path: Path) -> None:
    fields = [{"name": "person", "type": "string"}, {"name": "place", "type": "string"},
              {"name": "amount", "type": "double"}]  # fmt: skip
    with path.open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "r", "fields": fields}, [])


EMPTY = {
    "parquet": empty_parquet,
    "avro": empty_avro,
    "csv": lambda path: path.write_text("person,place,amount\n"),
    "jsonl": lambda path: path.touch(),
}


def test_pipelinedp_s_engine_publishes_an_input_without_rows_too(workspace, reference_engine) -> None:
    empty_parquet(workspace.folder / "data.parquet")
    workspace.policy["source"] = {"path": "data.parquet", "format": "parquet"}
    workspace.policy["stages"][0]["partitions"] = PUBLIC
    workspace.create_budget()
    assert workspace.run("--engine=pipelinedp") == 0


@pytest.mark.parametrize("flags", [(), ("--runner=BundleBasedDirectRunner",)], ids=["one worker", "shuffled"])
@pytest.mark.parametrize("is_private", [False, True], ids=["public", "private"])
@pytest.mark.parametrize("format", EMPTY)
def test_an_input_without_rows_publishes_as_an_empty_table_does(format, is_private, flags, workspace, exact) -> None:
    (workspace.folder / "data").mkdir()
    for name in ("a", "b"):
        EMPTY[format](workspace.folder / "data" / f"{name}.{format}")
    workspace.policy["source"] = {"path": "data", "format": format}
    if not is_private:
        workspace.policy["stages"][0]["partitions"] = PUBLIC
    workspace.create_budget()
    assert workspace.run(*flags) == 0
    found = pq.read_table(workspace.release_folder() / "by_place.parquet")
    assert found["count"].to_pylist() == ([] if is_private else [0, 0])
    assert workspace.open_ledger().balance("visits").spent != ZERO


def test_files_without_rows_beside_others_change_nothing(workspace, exact) -> None:
    (workspace.folder / "data").mkdir()
    for name in ("a", "c"):
        empty_parquet(workspace.folder / "data" / f"{name}.parquet")
    rows = [{"person": f"p{i}", "place": "inn", "amount": 1.0} for i in range(30)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), workspace.folder / "data" / "b.parquet")
    workspace.policy["source"] = {"path": "data", "format": "parquet"}
    workspace.create_budget()
    assert workspace.run() == 0
    assert pq.read_table(workspace.release_folder() / "by_place.parquet")["count"].to_pylist() == [30]


def test_ids_in_bytes_are_units_and_keys(workspace, exact) -> None:
    """UUIDs as keys, bytes that are no text as units: nobody is dropped, and nobody is two."""
    places = [uuid.UUID(int=2**128 - 1), uuid.UUID(int=7)]
    rows = [(bytes([255 - i, 0]), place.bytes) for i in range(40) for place in places for _ in range(3)]
    table = pa.table(
        {
            "person": pa.array([person for person, _ in rows], pa.binary(2)),
            "place": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([place for _, place in rows], pa.binary(16))),
            "amount": [1.0] * len(rows),
        }
    )
    pq.write_table(table, workspace.folder / "data.parquet")
    workspace.policy["source"] = {"path": "data.parquet", "format": "parquet"}
    workspace.policy["stages"][0]["partitions"] = {"public": {"values": [str(place) for place in places]}}
    workspace.create_budget()
    assert workspace.run() == 0
    found = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
    assert {row["place"]: (row["count"], row["privacy_id_count"]) for row in found} == {
        str(place): (80, 40) for place in places
    }


@pytest.mark.parametrize("format", ["parquet", "avro"])
def test_ids_that_are_hex_in_one_file_and_text_in_another_are_refused_before_the_charge(
    format, workspace, capsys
) -> None:
    """One person would be two units, each with the bounds of one."""
    (workspace.folder / "data").mkdir()
    write = {"parquet": _ids_in_parquet, "avro": _ids_in_avro}[format]
    write(workspace.folder / "data" / f"a.{format}", is_fixed=True)
    write(workspace.folder / "data" / f"b.{format}", is_fixed=False)
    workspace.policy["source"] = {"path": "data", "format": format}
    workspace.create_budget()
    assert workspace.run() == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(rf"column person has bytes of a fixed length in \S*a\.{format}, .* text in \S*b\.{format}", said)
    assert "the same id would be two. Write both in one way" in said
    assert workspace.open_ledger().balance("visits").spent == ZERO


def _ids_in_parquet(path: Path, *, is_fixed: bool) -> None:
    ids = pa.array([b"p1"], pa.binary(2) if is_fixed else pa.binary())
    pq.write_table(pa.table({"person": ids, "place": ["inn"], "amount": [1.0]}), path)


def _ids_in_avro(path: Path, *, is_fixed: bool) -> None:
    kind = {"type": "fixed", "name": "id", "size": 2} if is_fixed else "bytes"
    fields = [{"name": "person", "type": kind}, {"name": "place", "type": "string"},
              {"name": "amount", "type": "double"}]  # fmt: skip
    with path.open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "r", "fields": fields},
                        [{"person": b"p1", "place": "inn", "amount": 1.0}])  # fmt: skip


def test_a_file_of_no_ids_beside_ids_in_bytes_is_fine(workspace, exact) -> None:
    (workspace.folder / "data").mkdir()
    rest = {"place": ["inn"] * 30, "amount": [1.0] * 30}
    ids = pa.array([bytes([i, 0]) for i in range(30)], pa.binary(2))
    pq.write_table(pa.table({"person": ids} | rest), workspace.folder / "data" / "a.parquet")
    pq.write_table(pa.table({"person": pa.nulls(30)} | rest), workspace.folder / "data" / "b.parquet")
    workspace.policy["source"] = {"path": "data", "format": "parquet"}
    workspace.policy["stages"][0]["partitions"] = PUBLIC
    workspace.create_budget()
    assert workspace.run() == 0
    found = pq.read_table(workspace.release_folder() / "by_place.parquet")
    assert found["privacy_id_count"].to_pylist() == [30, 0]


def test_what_is_no_file_is_refused_before_the_charge(workspace, capsys) -> None:
    os.mkfifo(workspace.folder / "pipe.csv")
    workspace.policy["source"]["path"] = ["data.csv", "pipe.csv"]
    workspace.create_budget()
    assert workspace.run() == 2
    assert "pipe.csv: it is a FIFO and no regular file" in capsys.readouterr().err
    assert workspace.open_ledger().balance("visits").spent == ZERO


@pytest.mark.parametrize(
    ("key", "remedy"),
    [(("source", "path"), "Write one file"), (("output", "path"), "Name the folder where releases go")],
)
def test_a_path_with_a_nul_is_refused_by_the_policy_s_check(key, remedy, workspace, capsys) -> None:
    workspace.create_budget()
    workspace.policy[key[0]][key[1]] = "a\0b"
    assert workspace.run() == 2
    assert f"{'.'.join(key)}" in (said := capsys.readouterr().err)
    assert "must not hold a NUL" in said
    assert f"Remedy: {remedy}" in said
    assert workspace.open_ledger().balance("visits").spent == ZERO


@pytest.mark.parametrize("flags", [(), ("--runner=BundleBasedDirectRunner",)], ids=["one worker", "shuffled"])
def test_a_source_turned_away_while_the_job_runs_and_back_at_its_end_publishes_nothing(
    flags, workspace, capsys, monkeypatch
) -> None:
    path, aside = workspace.folder / "data.csv", workspace.folder / "aside"
    run, check = aggregate.run, inputs.check_unchanged

    def meanwhile(*arguments: object) -> object:
        os.rename(path, aside)
        path.write_bytes(aside.read_bytes().replace(b"zoo", b"bar"))
        try:
            return run(*arguments)
        finally:
            os.replace(aside, path)

    monkeypatch.setattr(aggregate, "run", meanwhile)
    workspace.create_budget()
    assert workspace.run(*flags) == 4
    assert "has changed since it was checked at the start of the run" in capsys.readouterr().err
    assert workspace.manifests() == []
    check(inputs.Inputs(files=tuple(inputs.files_of(str(path))), splits=()))  # at the end it is as it was
