"""Whole runs on Beam with exact noise give what a reference gives that is written straight from the definitions."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpbeam.pipelines.jobs import workers
from dpbeam.pipelines.lifecycle import inputs
from dpbeam.transforms.wire import arrow_coder

LOW, HIGH = -5.0, 10.0

people = st.one_of(st.none(), st.text(max_size=3), st.sampled_from(["ann", "bob", "cyd"]))
places = st.one_of(st.none(), st.text(max_size=4), st.sampled_from(["inn", "zoo"]))
amounts = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-20, 20).map(float))
tables = st.lists(st.tuples(people, places, amounts), max_size=40)


def reference(rows: list[tuple[str | None, str | None, float | None]]) -> dict[str, tuple[float, ...]]:
    """Count, privacy-unit count, sum and mean of clipped values by place, where no bound bites. A row with a missing,
    NaN or infinite value is dropped."""
    kept = [
        (person, place, min(max(amount, LOW), HIGH))
        for person, place, amount in rows
        if person is not None and place is not None and amount is not None and abs(amount) < float("inf")
    ]
    by_place = defaultdict(list)
    for person, place, amount in kept:
        by_place[place].append((person, amount))
    return {
        place: (
            float(len(found)),
            float(len({person for person, _ in found})),
            sum(amount for _, amount in found),
            sum(amount for _, amount in found) / len(found),
        )
        for place, found in by_place.items()
    }


@pytest.fixture(params=["in one worker", "in several passes", "through shuffles"])
def plan(request, monkeypatch) -> str:
    """Each way that a job may go about its rows."""
    if request.param == "in several passes":
        monkeypatch.setattr(workers, "MAX_ROOM_BYTES", 200)
    if request.param == "through shuffles":
        request.getfixturevalue("shuffled")
    return request.param


@pytest.mark.parametrize(
    ("files", "format", "shards", "parts", "message_bytes"),
    [(1, "parquet", 1, 1, 1 << 22), (3, "parquet", 5, 2, 300), (2, "csv", 8, 3, 1 << 22)],
)
def test_any_table_gives_the_reference_result(
    workspace, capsys, exact, monkeypatch, plan, files, format, shards, parts, message_bytes
) -> None:
    monkeypatch.setattr(inputs, "MIN_SHARDS", shards)
    monkeypatch.setattr(inputs, "MAX_SHARDS", shards)
    monkeypatch.setattr(arrow_coder.sized, "__defaults__", (message_bytes,))
    workspace.policy["budget"] = {"epsilon": 100000.0, "delta": 0.5}
    workspace.policy["output"]["shards"] = parts
    (stage,) = workspace.policy["stages"]
    stage["bounds"] = {"l0": 1000, "linf": 1000}
    for metric in stage["metrics"][2:]:
        (args,) = metric.values()
        args |= {"low": LOW, "high": HIGH}
    workspace.policy["source"] = {"format": format, "path": f"part*.{format}"}
    workspace.create_budget()

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False)
    @given(tables)
    def check(rows) -> None:
        for old in workspace.folder.glob("part*"):
            old.unlink()
        shutil.rmtree(workspace.output, ignore_errors=True)
        for index in range(files):
            write(workspace.folder / f"part{index}.{format}", rows[index::files])
        assert workspace.run("--refresh", "--release", "oracle") == 0, capsys.readouterr().err
        found = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
        wanted = reference(rows)
        assert {row["place"] for row in found} == set(wanted)
        for row in found:
            count, units, total, mean = wanted[row["place"]]
            assert (row["count"], row["privacy_id_count"]) == (count, units)
            assert row["amount_sum"] == pytest.approx(total, abs=count * 2**-25)
            assert row["amount_mean"] == pytest.approx(mean, abs=2**-24)
            assert row["count_low"] <= row["count"] <= row["count_high"]

    check()


def write(path: Path, rows: list[tuple[str | None, str | None, float | None]]) -> None:
    """A file of the rows; in CSV text is always quoted, so that an empty text isn't taken for a missing one."""
    if path.suffix == ".parquet":
        columns = list(zip(*rows, strict=True)) or [[], [], []]
        types = (pa.string(), pa.string(), pa.float64())
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, types, strict=True)]
        pq.write_table(pa.table(dict(zip(("person", "place", "amount"), arrays, strict=True))), path, row_group_size=7)
        return

    def cell(value: str | float | None) -> str:
        if value is None:
            return ""
        return repr(value) if isinstance(value, float) else '"' + value.replace('"', '""') + '"'

    lines = ["person,place,amount", *(",".join(map(cell, row)) for row in rows)]
    path.write_bytes(("\n".join(lines) + "\n").encode())


def test_a_sum_is_the_same_to_the_last_bit_for_any_sharding_and_plan(
    workspace, capsys, exact, monkeypatch, request
) -> None:
    rows = [f"p{i},inn,{(-1) ** i * (i % 97) / 7!r}" for i in range(3000)]
    workspace.csv(*rows)
    workspace.policy["budget"] = {"epsilon": 100.0, "delta": 0.5}
    workspace.create_budget()
    seen = set()
    for index, shards in enumerate((1, 3, 16, 5)):
        if index == 3:
            request.getfixturevalue("shuffled")
        monkeypatch.setattr(inputs, "MIN_SHARDS", shards)
        monkeypatch.setattr(inputs, "MAX_SHARDS", shards)
        workspace.csv(*(rows if index % 2 else rows[::-1]))
        assert workspace.run("--release", f"r{index}") == 0
        newest = workspace.newest()
        (row,) = pq.read_table(newest.parent / "by_place.parquet").to_pylist()
        seen.add((row["amount_sum"].hex(), row["amount_mean"].hex()))
    assert len(seen) == 1


def test_no_flag_or_policy_key_turns_noise_off(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run("--no_noise") == 2
    workspace.policy["stages"][0]["noise"] = "none"
    assert workspace.run() == 2


def test_every_metric_is_released_with_its_interval(workspace, capsys, exact) -> None:
    """All metrics in one run, private and public, both noises: exact values, in Parquet, CSV and the report."""
    values = {"column": "amount", "low": 0.0, "high": 10.0}
    metrics = [
        "count",
        {"variance": values},
        {"stddev": values},
        {"quantiles": values | {"ranks": [0.25, 0.5]}},
        {"median": values},
        {"min": values},
        {"max": values},
        {"histogram": {"column": "amount", "edges": [0, 5, 10]}},
        {"vector_sum": {"columns": ["amount"], "norm": "l1", "max_norm": 2.0}},
        {"distinct_count": {"column": "kind"}},
        {"top_k": {"column": "kind", "k": 2, "max_values": 1}},
        {"top_k": {"column": "kind", "k": 1, "max_values": 1, "candidates": ["beer", "wine"], "name": "drink"}},
    ]
    amounts = [float(i % 11) for i in range(2200)]
    kinds = ["=tea" if i % 2 else "cake" if i % 4 else "beer" for i in range(2200)]
    rows = (f"p{i},inn,{amount},{kind}" for i, (amount, kind) in enumerate(zip(amounts, kinds, strict=True)))
    workspace.csv(*rows, header="person,place,amount,kind")
    workspace.policy["columns"]["kind"] = {"type": "string"}
    (stage,) = workspace.policy["stages"]
    stage["metrics"] = metrics
    public = stage | {"name": "by_inn", "noise": "laplace", "partitions": {"public": {"values": ["inn", "zoo"]}}}
    workspace.policy["stages"].append(public)
    workspace.create_budget()
    assert workspace.run() == 0, capsys.readouterr().err
    folder = workspace.release_folder()
    for name, partitions in (("by_place", 1), ("by_inn", 2)):
        row, *empty = pq.read_table(folder / f"{name}.parquet").to_pylist()
        assert len(empty) == partitions - 1
        assert (row["count"], row["amount_variance"]) == (2200.0, pytest.approx(10.0, abs=1e-5))
        assert row["amount_stddev"] == pytest.approx(10.0**0.5, abs=1e-5)
        assert [row[f"amount_{rank}"] for rank in ("p25", "p50", "median")] == pytest.approx([2, 5, 5], abs=1e-3)
        assert (row["amount_min"], row["amount_max"]) == pytest.approx((0, 10), abs=1e-3)
        assert (row["amount_histogram_0"], row["amount_histogram_1"]) == (1000.0, 1200.0)
        assert row["vector_sum_0"] == pytest.approx(200 + 9 * 400, abs=1e-3)
        assert row["kind_distinct_count"] == 3.0
        assert (row["kind_top_k_1"], row["kind_top_k_1_count"]) == ("=tea", 1100.0)
        assert (row["drink_1"], row["drink_1_count"]) == ("beer", 550.0)
        if empty:
            assert (empty[0]["kind_top_k_1"], empty[0]["kind_top_k_1_count"], empty[0]["drink_1_count"]) == (
                None,
                None,
                0,
            )
        for column in set(row) - {"place", "kind_top_k_1", "kind_top_k_2", "drink_1"}:
            if not column.endswith(("_low", "_high", "_bias")):
                assert row[f"{column}_low"] <= row[column] <= row[f"{column}_high"]
    assert b"'=tea" in (folder / "by_place.csv").read_bytes(), "a value may be a formula to a spreadsheet"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "amount_histogram_1" in page
    assert "<bdi>=tea</bdi>" in page
    assert "What a row adds to <bdi>vector_sum</bdi> is scaled down to an l1 norm of 2 where it has more." in page
    assert "Each unit counts for at most 1 value of <bdi>kind</bdi> in a partition" in page


@pytest.mark.parametrize("rows", [["ann,inn,2", "ann,zoo,8", "bob,inn,3"], []])
def test_a_stage_without_keys_releases_the_whole_table_also_an_empty_one(workspace, capsys, exact, rows) -> None:
    workspace.csv(*rows)
    (stage,) = workspace.policy["stages"]
    del stage["partitions"]
    stage |= {"group_by": [], "bounds": {"l0": 1, "linf": 5}}
    stage["metrics"] = ["count", "privacy_id_count", {"sum": {"column": "amount", "low": 0.0, "high": 5.0}}]
    stage["metrics"] += [
        {"distinct_count": {"column": "place"}},
        {"top_k": {"column": "place", "k": 3, "max_values": 2}},
    ]
    workspace.create_budget()
    assert workspace.run() == 0, capsys.readouterr().err
    assert "the whole table" in capsys.readouterr().out
    (row,) = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
    found = (row["count"], row["privacy_id_count"], row["amount_sum"])
    assert found == ((3.0, 2.0, pytest.approx(10.0)) if rows else (0.0, 0.0, 0.0))
    top = [(row[f"place_top_k_{i}"], row[f"place_top_k_{i}_count"]) for i in (1, 2, 3)]
    assert top == ([("inn", 2.0), ("zoo", 1.0), (None, None)] if rows else [(None, None)] * 3)
    assert row["place_distinct_count"] == (2.0 if rows else 0.0)
