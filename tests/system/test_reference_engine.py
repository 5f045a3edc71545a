"""`dpbeam run --engine=pipelinedp`: the same policy on PipelineDP's own engine, from plan to certified release."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpbeam.reporting.certify import certify
from dpbeam.reporting.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("reference_engine")
VALUES = {"column": "amount", "low": 0.0, "high": 16.0}
ENGINE = "--engine=pipelinedp"


def released(workspace, name="by_place"):
    return pq.read_table(workspace.release_folder() / f"{name}.parquet").to_pylist()


def test_a_policy_is_released_with_a_certificate_that_holds(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run(ENGINE) == 0, capsys.readouterr().err
    path = workspace.release_folder() / "manifest.json"
    manifest = read_manifest(path)
    assert (manifest.engine, manifest.version, json.loads(path.read_text())["engine"]) == (
        "pipelinedp",
        2,
        "pipelinedp",
    )
    assert certify(path).epsilon <= 1.0
    # A sum beside a mean is made from it, so it has no mechanism of its own.
    assert [m.metric for m in manifest.mechanisms] == ["partitions", "count", "privacy_id_count", "amount_mean.sum"]
    assert "PipelineDP’s own engine" in (workspace.release_folder() / "report.html").read_text(encoding="utf-8")
    for row in released(workspace):
        for metric in ("count", "privacy_id_count", "amount_sum", "amount_mean"):
            assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]
    assert workspace.left_behind() == []


def test_each_engine_has_a_release_of_its_own_and_repeats_it_at_no_cost(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    assert workspace.run(ENGINE) == 0
    assert len(workspace.manifests()) == 2
    spent = workspace.open_ledger().balance("visits").spent
    assert workspace.run(ENGINE) == workspace.run() == 0
    assert workspace.open_ledger().balance("visits").spent == spent
    assert {read_manifest(path).engine for path in workspace.manifests()} == {"dpbeam", "pipelinedp"}


def test_an_engine_that_isnt_there_is_refused(workspace, capsys) -> None:
    assert workspace.run("--engine=spark") == 2
    assert "--engine must be dpbeam or pipelinedp, got 'spark'" in capsys.readouterr().err


def test_what_pipelinedp_cant_do_is_refused_before_anything_is_charged(workspace, capsys) -> None:
    workspace.create_budget()
    workspace.policy["stages"][0]["metrics"] = [{"stddev": VALUES}]
    assert workspace.run(ENGINE) == 2
    assert "stage by_place: PipelineDP has no stddev; leave amount_stddev out" in capsys.readouterr().err
    assert workspace.open_ledger().balance("visits").spent.to_json()["epsilon"] == 0
    assert workspace.left_behind() == []


def table_of(workspace, *flags):
    """The released values of one run, by key; then the run is forgotten."""
    shutil.rmtree(workspace.output, ignore_errors=True)
    assert workspace.run("--refresh", *flags) == 0
    found = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
    keys = workspace.policy["stages"][0]["group_by"]
    ends = ("_low", "_high", "_bias")
    return {
        tuple(row[key] for key in keys): {m: v for m, v in row.items() if m not in keys and not m.endswith(ends)}
        for row in found
    }


def both_agree(workspace) -> None:
    ours, theirs = table_of(workspace), table_of(workspace, ENGINE)
    assert ours.keys() == theirs.keys()
    for key, row in ours.items():
        assert theirs[key] == pytest.approx(row, abs=1e-9), key


PRIVATE = {"private": {"strategy": "truncated_geometric"}}
PUBLIC = {"public": {"values": ["inn", "zoo", "nowhere"]}}
WIDE = {"l0": 50, "linf": 50}
CASES = {
    "all of a column": {"metrics": ["count", "privacy_id_count", {"sum": VALUES}, {"mean": VALUES}]},
    "a variance": {"metrics": [{"variance": VALUES}, {"mean": VALUES}, "count", {"sum": VALUES}], "noise": "laplace"},
    "a sum alone": {"metrics": [{"sum": {"column": "amount", "low": -3.0, "high": 5.0}}]},
    "public partitions": {"metrics": ["count", {"sum": VALUES}], "partitions": PUBLIC},
    "totals": {
        "metrics": ["privacy_id_count", {"sum": {"column": "amount", "low_total": -1.0, "high_total": 9.0}}],
        "bounds": {"l0": 50},
    },
    "l1": {"metrics": ["count", "privacy_id_count", {"mean": VALUES}], "bounds": {"l1": 200}, "partitions": PUBLIC},
    "a shared count": {
        "metrics": ["count", "privacy_id_count"],
        "partitions": {"private": {"strategy": "gaussian_thresholding"}},
    },
    "a threshold alone": {
        "metrics": ["count"],
        "partitions": {"private": {"strategy": "laplace_thresholding", "pre_threshold": 2}},
    },
    "vectors": {
        "metrics": [{"vector_sum": {"columns": ["amount", "day"], "norm": "linf", "max_norm": 8.0}}],
        "bounds": {"l0": 50, "linf": 1},
    },
    "lists": {
        "metrics": [{"vector_sum": {"columns": ["pair", "amount"], "norm": "linf", "max_norm": 8.0}}],
        "bounds": {"l0": 50, "linf": 1},
    },
    "no keys": {"metrics": ["count", {"mean": VALUES}], "group_by": [], "bounds": {"l0": 1, "linf": 200}},
    "dates, numbers and booleans": {"metrics": ["count"], "group_by": ["date", "day", "open"]},
}


@pytest.mark.parametrize("case", CASES)
def test_without_noise_both_engines_release_the_same(workspace, capsys, exact, exact_pipelinedp, case) -> None:
    stage = {"partitions": PRIVATE, "bounds": WIDE, "noise": "gaussian", "group_by": ["place"]} | CASES[case]
    if not stage["group_by"]:
        del stage["partitions"]
    workspace.policy["stages"] = [{"name": "by_place"} | stage]
    workspace.policy["columns"] |= {"day": {"type": "int64"}, "date": {"type": "date"}, "open": {"type": "bool"}}
    workspace.policy["budget"] = {"epsilon": 1000.0, "delta": 0.1}
    rows = [
        f"p{i % 70},{'inn' if i % 3 else 'zoo'},{i % 23 - 4 + 0.125 * (i % 5)},{i % 4},2026-01-0{1 + i % 3},"
        f"{'true' if i % 2 else 'false'}"
        for i in range(140)
    ]
    if case in ("vectors", "lists"):  # a row a person and place, so that nothing is drawn
        rows = [row for i, row in enumerate(rows) if i < 70]
    workspace.csv(*rows, header="person,place,amount,day,date,open")
    if case == "lists":
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        table = pa.csv.read_csv(workspace.folder / "data.csv")
        pairs = [[i * 0.5, 3.0 - i][: 2 - (i % 9 == 0)] for i in range(len(rows))]  # some have one number
        pa.parquet.write_table(table.append_column("pair", [pairs]), workspace.folder / "data.parquet")
        workspace.policy["source"] = {"format": "parquet", "path": "data.parquet"}
        workspace.policy["columns"]["pair"] = {"type": "vector", "length": 2}
    workspace.create_budget()
    both_agree(workspace)


def test_rows_that_are_units_of_their_own_are_no_different(workspace, capsys, exact, exact_pipelinedp) -> None:
    workspace.policy["privacy_unit"] = "row"
    workspace.policy["stages"][0]["bounds"] = {"l0": 1, "linf": 1}
    workspace.policy["budget"] = {"epsilon": 1000.0, "delta": 0.1}
    workspace.create_budget()
    both_agree(workspace)


people = st.one_of(st.none(), st.sampled_from(["ann", "bob", "cyd"]))
places = st.one_of(st.none(), st.text(max_size=4), st.sampled_from(["inn", "zoo"]))
amounts = st.one_of(st.none(), st.just(float("nan")), st.integers(-80, 160).map(lambda n: n / 8))


def test_any_table_gives_the_same_with_both_engines(workspace, capsys, exact, exact_pipelinedp) -> None:
    """Rows that break a rule reach PipelineDP no more than our own engine: one NaN would make a whole sum NaN there."""
    import pyarrow as pa

    (stage,) = workspace.policy["stages"]
    stage["bounds"] = WIDE
    stage["metrics"] = ["count", "privacy_id_count", {"sum": VALUES}, {"mean": VALUES}, {"variance": VALUES}]
    workspace.policy["budget"] = {"epsilon": 100000.0, "delta": 0.5}
    workspace.policy["source"] = {"format": "parquet", "path": "data.parquet"}
    workspace.create_budget()

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(people, places, amounts), max_size=30))
    def check(rows) -> None:
        columns = list(zip(*rows, strict=True)) or [[], [], []]
        types = (pa.string(), pa.string(), pa.float64())
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, types, strict=True)]
        pq.write_table(
            pa.table(dict(zip(("person", "place", "amount"), arrays, strict=True))),
            workspace.folder / "data.parquet",
        )
        both_agree(workspace)

    check()
