"""Coverage from the policy to what people read: bought, drawn once, shown everywhere, and refused below a floor."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from dpbeam.errors import Refused, RunFailed, UsageError
from dpbeam.ledger import Amount, Ledger, open_ledger
from dpbeam.pipelines.cli import terminal
from dpbeam.pipelines.jobs import workers
from dpbeam.pipelines.jobs.options import beam_options
from dpbeam.pipelines.library.releases import Release, read_release
from dpbeam.pipelines.lifecycle.release import make_release, run_json
from dpbeam.pipelines.lifecycle.report_facts import published_tables
from dpbeam.pipelines.lifecycle.values import Request
from dpbeam.policy.load import load_policy
from dpbeam.reporting.formats import violations
from dpbeam.transforms.steps.one_worker import OneWorker

EPSILON = 500.0
"""So large that the noise of a share is below a hundredth, for a handful of people."""
UNITS = 60


def rows(good: int = 1, bad: int = 1, far: int = 1, spare: int = 1) -> list[str]:
    """Of each person `good` rows that count, `bad` that no rule lets in, `far` of no partition, `spare` beyond linf."""
    lines = []
    for unit in range(UNITS):
        lines += [f"u{unit},a,1.5"] * (good + spare) + [f"u{unit},a,many"] * bad + [f"u{unit},z,1.5"] * far
    return lines


def policy(folder: Path, lines: list[str], **changes: Any) -> Path:
    (folder / "v.csv").write_text("\n".join(["who,city,spend", *lines]) + "\n")
    stage = {
        "name": "by_city",
        "group_by": ["city"],
        "partitions": {"public": {"values": ["a", "b"]}},
        "bounds": {"l0": 1, "linf": 1},
        "metrics": ["count", {"sum": {"column": "spend", "low": 0, "high": 5}}],
        "noise": "gaussian",
    }
    plain = {
        "version": 1,
        "dataset": "v",
        "source": {"format": "csv", "path": str(folder / "v.csv")},
        "privacy_unit": "who",
        "columns": {"who": {"type": "string"}, "city": {"type": "string"}, "spend": {"type": "float64"}},
        "run": {"epsilon": EPSILON, "delta": 1e-6},
        "coverage": {"share": 0.2},
        "stages": [stage],
        "output": {"path": str(folder / "releases"), "shards": 2},
    }
    stage |= changes.pop("stage", {})
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(plain | changes))
    return path


def ask(folder: Path, path: Path, **how: Any) -> Any:
    loaded = load_policy(path)
    ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite", create=True)
    ledger.create_budget("v", Amount.cap(100_000, 1e-3), exist_ok=True)
    options = beam_options([])
    return make_release(
        Request.of(
            loaded, release_name="default", ledger=ledger, options=options, output=Path(loaded.output.path), **how
        )
    )


def released(folder: Path, path: Path, **how: Any) -> Release:
    return read_release(ask(folder, path, **how).folder)


@pytest.fixture(params=["in one worker", "in several passes", "through shuffles"])
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in which a run goes through its rows."""
    if request.param == "in several passes":
        monkeypatch.setattr(workers, "one_worker", lambda options, shards: OneWorker(shards=8, room_bytes=1, threads=2))
    if request.param == "through shuffles":
        monkeypatch.setattr(workers, "one_worker", lambda options, shards: None)
    return str(request.param)


@pytest.mark.usefixtures("plan")
def test_it_says_which_share_of_rows_passed_and_was_kept(tmp_path: Path) -> None:
    found = released(tmp_path, policy(tmp_path, rows())).coverage["by_city"]
    assert (found.rows_passed, found.rows_kept) == pytest.approx((3 / 4, 1 / 4), abs=0.1)
    assert found.rows_passed_low <= 3 / 4 <= found.rows_passed_high
    assert found.rows_kept_low <= 1 / 4 <= found.rows_kept_high
    assert found.privacy_units == pytest.approx(UNITS, abs=6)


STAGES = {
    "private": {"partitions": {"private": {"strategy": "gaussian_thresholding"}}},
    "rounds": {"partitions": {"private": {"strategy": "dp_sips"}}, "bounds": {"l0": 2, "linf": 1}},
    "hierarchy": {
        "partitions": {"private": {"strategy": "laplace_thresholding", "other": True, "other_l0": 1}},
        "bounds": {"l0": 2, "linf": 1},
    },
    "other": {"partitions": {"public": {"values": ["a"], "other": "rest"}}, "bounds": {"l0": 2, "linf": 1}},
    "whole": {"group_by": [], "partitions": None, "bounds": {"l1": 2}},
    "found": {"bounds": {"l0": {"auto": {"max": 4}}, "linf": 1}},
}


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize(
    ("kind", "kept"),
    [("private", 1 / 4), ("rounds", 2 / 4), ("hierarchy", 2 / 4), ("other", 2 / 4), ("whole", 2 / 4), ("found", 1 / 4)],
)
def test_each_kind_of_stage_has_it(tmp_path: Path, kind: str, kept: float) -> None:
    path = policy(tmp_path, rows(), stage=STAGES[kind])
    if kind == "whole":
        plain = yaml.safe_load(path.read_text())
        del plain["stages"][0]["partitions"]
        path.write_text(yaml.safe_dump(plain))
    found = released(tmp_path, path).coverage["by_city"]
    assert (found.rows_passed, found.rows_kept) == pytest.approx((3 / 4, kept), abs=0.12)


KEYS = ("country", "town", "shop")


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize(
    ("bounds", "other_l0", "passed", "kept"),
    [
        # Of 8 rows: 2 of a shop that is kept; 3 of shops of one's own, below its town, below its country and below
        # nothing that is kept; a second one below its town; a second one below nothing; 1 that a rule drops.
        ({"l0": 8, "linf": 2}, 8, 7 / 8, 7 / 8),
        ({"l0": 8, "linf": 1}, 8, 7 / 8, 6 / 8),
        ({"l0": 8, "linf": 2}, 1, 7 / 8, 5 / 8),
        ({"l0": 8, "linf": 1}, 1, 7 / 8, 4 / 8),
        ({"l1": 3}, None, 7 / 8, 3 / 8),
    ],
    ids=str,
)
def test_rows_of_several_hierarchical_keys_are_kept_in_the_cells_that_they_count_in(
    tmp_path: Path, bounds: dict[str, int], other_l0: int | None, passed: float, kept: float
) -> None:
    lines = []
    for unit in range(UNITS):
        lines += [f"u{unit},fr,paris,main,1.5"] * 2
        lines += [f"u{unit},fr,paris,{unit}{shop},1.5" for shop in "ab"] + [f"u{unit},fr,{unit},main,1.5"]
        lines += [f"u{unit},{unit}{country},paris,main,1.5" for country in "ab"] + [f"u{unit},fr,paris,main,many"]
    path = policy(tmp_path, [])
    (tmp_path / "v.csv").write_text("\n".join([f"who,{','.join(KEYS)},spend", *lines]) + "\n")
    plain = yaml.safe_load(path.read_text())
    plain["columns"] = {name: {"type": "string"} for name in ("who", *KEYS)} | {"spend": {"type": "float64"}}
    private = {"strategy": "laplace_thresholding", "hierarchical": True, "pre_threshold": 10}
    private |= {} if other_l0 is None else {"other_l0": other_l0}
    plain["stages"][0] |= {"group_by": list(KEYS), "bounds": bounds, "noise": "laplace"}
    plain["stages"][0]["partitions"] = {"private": private}
    path.write_text(yaml.safe_dump(plain))
    done = ask(tmp_path, path)
    (found,) = done.coverage
    assert (found.rows_passed, found.rows_kept) == pytest.approx((passed, kept), abs=0.05)
    counts = published_tables(done.folder, done.stages)["by_city"]["count"].to_pylist()
    assert len(counts) == 4
    assert sum(counts) / (8 * UNITS) == pytest.approx(kept, abs=0.05)


@pytest.mark.usefixtures("plan")
def test_rows_that_are_units_are_counted_each(tmp_path: Path) -> None:
    lines = [line.partition(",")[2] for line in rows()]
    path = policy(tmp_path, [f"x,{line}" for line in lines], privacy_unit="row")
    found = released(tmp_path, path).coverage["by_city"]
    assert (found.rows_passed, found.rows_kept) == pytest.approx((3 / 4, 2 / 4), abs=0.05)


def test_each_of_several_stages_has_a_figure_of_its_own(tmp_path: Path) -> None:
    path = policy(tmp_path, rows())
    plain = yaml.safe_load(path.read_text())
    plain["stages"].append({**plain["stages"][0], "name": "more", "bounds": {"l0": 1, "linf": 2}})
    path.write_text(yaml.safe_dump(plain))
    found = released(tmp_path, path).coverage
    kept = {name: each.rows_kept for name, each in found.items()}
    assert kept == pytest.approx({"by_city": 1 / 4, "more": 2 / 4}, abs=0.12)


def test_it_stands_in_manifest_table_report_and_json(tmp_path: Path) -> None:
    done = ask(tmp_path, policy(tmp_path, rows()))
    manifest = json.loads((done.folder / "manifest.json").read_text())
    (stated,) = manifest["coverage"]
    assert manifest["version"] == 4
    assert run_json(done)["coverage"] == [stated]
    metadata = pq.ParquetFile(done.folder / "by_city.parquet").schema_arrow.metadata
    assert json.loads(metadata[b"dpbeam.coverage"]) == stated
    assert "passed the columns’ rules" in (done.folder / "report.html").read_text().replace("&#39;", "’")
    assert ("by_city.coverage", "rows") in {(m["stage"], m["metric"]) for m in manifest["mechanisms"]}
    assert {path.name for path in done.folder.iterdir()} == {
        "by_city.csv",
        "by_city.parquet",
        "manifest.json",
        "report.html",
    }


def test_a_cached_release_shows_the_same_draw(tmp_path: Path) -> None:
    path = policy(tmp_path, rows())
    first, again = ask(tmp_path, path), ask(tmp_path, path)
    assert (again.cached, again.coverage) == (True, first.coverage)


def test_an_empty_table_says_why_and_what_became_of_its_rows(tmp_path: Path) -> None:
    private = {"strategy": "truncated_geometric", "pre_threshold": 1000}
    done = ask(tmp_path, policy(tmp_path, rows(), stage={"partitions": {"private": private}}))
    screen = StringIO()
    (spec,), tables = done.stages, published_tables(done.folder, done.stages)
    Console(file=screen, width=1000).print(terminal.results(spec, tables["by_city"], 1000, *done.coverage))
    first, second, third = screen.getvalue().splitlines()
    assert re.fullmatch(
        r"by_city: no partition was kept\. A partition of 1,0\d\d privacy units is kept with probability 50 %, of "
        r"1,0\d\d with 99 %\. Group by fewer or coarser keys, raise epsilon or delta, lower l0, or look for rows "
        r"that a rule drops: `dpbeam check` shows them\.",
        first,
    )
    assert "of rows are within the bounds and partitions; " in second
    assert third == (
        "Most rows are cut: raise the bounds, or list more partitions; `dpbeam check` shows what each one keeps."
    )
    (empty,) = run_json(done)["empty"]
    assert f"by_city: no partition was kept. {empty['why']}" == first
    (remark,) = run_json(done)["remarks"]
    assert remark.startswith("by_city may well be empty: a partition of 1,0")
    assert violations("run", run_json(done)) == []
    assert "No partition was released. One of 1" in (done.folder / "report.html").read_text()


FLOOR = {"guardrails": {"min_coverage": 0.5}}


def test_a_wrong_type_is_a_stated_coverage_near_0_and_below_a_floor_no_release(tmp_path: Path) -> None:
    path = policy(tmp_path, rows(good=0, bad=4, far=0, spare=0), **FLOOR)
    with pytest.raises(RunFailed) as refused:
        ask(tmp_path, path)
    said = str(refused.value)
    assert said.startswith(
        "guardrails.min_coverage demands 50 % of rows, and fewer are left, so nothing was published. `dpbeam check` "
        "shows which rows are lost. The same command is refused from now on, and no other figure is drawn for it\n"
    )
    share = re.search(r"\nby_city: (\S+) % \(\S+ % to \S+ %\) of rows are within the bounds and partitions; ", said)
    assert share is not None
    assert float(share[1]) < 15
    assert refused.value.spent is not None
    assert refused.value.spent.attempts_left == 0
    assert (refused.value.spent.attempt, refused.value.spent.max_attempts) == (1, 3)
    assert "this charge is closed; --refresh makes a new release and charges it anew." in said
    assert not list((tmp_path / "releases" / "v").glob("*/manifest.json"))
    assert not list((tmp_path / "releases" / ".staging").glob("*"))


def test_what_was_refused_stays_refused_at_no_second_draw_and_no_second_charge(tmp_path: Path) -> None:
    path = policy(tmp_path, rows(good=0, bad=4, far=0, spare=0), **FLOOR)
    with pytest.raises(RunFailed) as first:
        ask(tmp_path, path)
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    spent = ledger.balance("v").spent
    with pytest.raises(
        Refused, match=r"kept a smaller share of rows than guardrails\.min_coverage, so it was not"
    ) as later:
        ask(tmp_path, path)
    assert later.value.message[1:] == first.value.message[1:]  # the same draw, for whoever lost sight of it
    assert "of rows are within the bounds and partitions" in later.value.message[1]
    assert ledger.balance("v").spent == spent
    assert spent.to_json()["epsilon"] == EPSILON


def test_a_refusal_that_was_cut_off_before_its_charge_was_closed_is_finished(tmp_path: Path, monkeypatch) -> None:
    path = policy(tmp_path, rows(good=0, bad=4, far=0, spare=0), **FLOOR)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "close", killed)
        with pytest.raises(BaseException, match="attempt"):
            ask(tmp_path, path)
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    assert [charge.state for charge in ledger.charges("v")] == ["STARTED"]
    with pytest.raises(Refused, match=r"kept a smaller share of rows than guardrails\.min_coverage.*\nby_city: "):
        ask(tmp_path, path)
    assert [charge.state for charge in ledger.charges("v")] == ["SPENT_UNPUBLISHED"]


def test_above_the_floor_it_is_published(tmp_path: Path) -> None:
    path = policy(tmp_path, rows(good=4, bad=0, far=0, spare=0), stage={"bounds": {"l0": 1, "linf": 4}}, **FLOOR)
    assert released(tmp_path, path).coverage["by_city"].rows_kept > 0.8


def test_ids_that_cannot_be_read_leave_a_figure_that_says_nothing_and_is_below_any_floor(tmp_path: Path) -> None:
    columns = {"who": {"type": "int64"}, "city": {"type": "string"}, "spend": {"type": "float64"}}
    path = policy(tmp_path, rows(), columns=columns)
    found = released(tmp_path, path).coverage["by_city"]
    assert (found.rows_kept_low, found.rows_kept_high) == (0, 1)
    refused = policy(tmp_path, rows(), columns=columns, guardrails={"min_coverage": 0.99})
    with pytest.raises(RunFailed, match="demands 99 % of rows"):
        ask(tmp_path, refused)


def test_the_reference_engine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        ask(tmp_path, policy(tmp_path, rows()), engine="pipelinedp")
    assert str(refused.value) == (
        "coverage: PipelineDP's engine doesn't count what becomes of rows; leave the key out, or run without "
        "--engine=pipelinedp"
    )
