"""dpbeam as a library: its page's examples run, and what it promises of plans, releases and rows in memory holds."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import dpbeam
from dpbeam.ledger.amounts import ZERO
from dpbeam.reading import memory

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
ROWS = {
    "person": [f"p{i % 300}" for i in range(1500)],
    "city": [("Oslo", "Bergen")[i % 2] for i in range(1500)],
    "cost": [float(i % 90) for i in range(1500)],
}


def asked(source, **more):
    if isinstance(source, pd.DataFrame):  # whose columns of text have no type of their own
        more.setdefault("columns", {"person": "string", "city": "string"})
    begun = dpbeam.query("visits", source=source, unit="person", epsilon=4.0, delta=1e-6, **more)
    return begun.group_by("city").private().bounds(l0=2, linf=5).count().mean("cost", 0, 100)


@pytest.fixture
def ledger(tmp_path):
    made = dpbeam.open_ledger(str(tmp_path / "ledger.sqlite"), create=True)
    made.create_budget("visits", dpbeam.Amount.cap(100, 1e-3))
    return made


def spent(ledger) -> float:
    return ledger.balance("visits").spent.to_json()["epsilon"]


FRAMES = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "Arrow table": pa.table,
    "record batch": pa.RecordBatch.from_pydict,
    "dataset": lambda rows: ds.dataset(pa.table(rows)),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_is_released_with_the_digest_of_the_same_question_to_a_file(kind, ledger, tmp_path) -> None:
    made = dpbeam.release(asked(FRAMES[kind](ROWS)), ledger=ledger, output=tmp_path / "releases")
    assert not made.cached
    assert made.stages == ("by_city",)
    table = made.table()
    assert table.column_names == ["city", "count", "count_low", "count_high", "cost_mean", "cost_mean_low",
                                  "cost_mean_high"]  # fmt: skip
    assert table["city"].to_pylist() == ["Bergen", "Oslo"]
    assert all(abs(count - 750) < 200 for count in table["count"].to_pylist())
    (tmp_path / "files").mkdir()
    pq.write_table(pa.table(ROWS), tmp_path / "files" / "visits.parquet")
    types = {"person": "string", "city": "string", "cost": "float64"}
    same = asked(tmp_path / "files" / "visits.parquet", columns=types)
    assert same.policy().digest == made.manifest.policy_digest
    (tmp_path / "policy.yaml").write_text(same.to_yaml(), encoding="utf-8")
    assert dpbeam.load_policy(tmp_path / "policy.yaml").digest == made.manifest.policy_digest


def test_the_same_rows_are_the_same_release_and_other_rows_another(ledger, tmp_path) -> None:
    first = dpbeam.release(asked(pa.table(ROWS)), ledger=ledger, output=tmp_path)
    halves = pa.concat_tables([pa.table(ROWS).slice(0, 700), pa.table(ROWS).slice(700)])
    again = dpbeam.release(asked(halves), ledger=ledger, output=tmp_path)
    assert (again.folder, again.cached, spent(ledger)) == (first.folder, True, 4.0)
    changed = {**ROWS, "cost": [*ROWS["cost"][:-1], 1.0]}
    other = dpbeam.release(asked(pa.table(changed)), ledger=ledger, output=tmp_path)
    assert (other.cached, spent(ledger)) == (False, 8.0)
    new = dpbeam.release(asked(pa.table(ROWS)), ledger=ledger, output=tmp_path, refresh=True)
    assert new.folder != first.folder
    assert spent(ledger) == 12.0


def test_rows_in_memory_leave_no_trace_but_the_release(ledger, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    rows = {**ROWS, "person": ["CANARY-71c", *ROWS["person"][1:]]}
    made = dpbeam.release(asked(pa.table(rows)), ledger=ledger, output=tmp_path / "out")
    assert memory._held == {}
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"CANARY-71c" not in path.read_bytes(), path
    with pytest.raises(dpbeam.UsageError, match="is held by no program here"):
        memory.opened(memory.path_of("visits"))
    assert str(made.manifest.to_json()).count("memory") == 0


def test_a_run_that_fails_lets_go_of_the_rows(ledger, tmp_path) -> None:
    small = dpbeam.open_ledger(str(tmp_path / "small.sqlite"), create=True)
    small.create_budget("visits", dpbeam.Amount.cap(1, 1e-6))
    with pytest.raises(dpbeam.Refused):
        dpbeam.release(asked(pa.table(ROWS)), ledger=small, output=tmp_path)
    assert memory._held == {}
    assert spent(small) == 0


def test_rows_in_memory_go_to_no_other_process(ledger, tmp_path) -> None:
    flags = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--environment_type=EXTERNAL",
             "--environment_config=localhost:2"]  # fmt: skip
    with pytest.raises(dpbeam.UsageError, match="are read in this process alone"):
        dpbeam.release(asked(pa.table(ROWS)), ledger=ledger, output=tmp_path, flags=flags)
    assert spent(ledger) == 0


def test_a_frame_of_mixed_values_is_refused_without_one(ledger, tmp_path) -> None:
    mixed = pd.DataFrame({"person": ["CANARY-3", 4], "city": ["a", "b"], "cost": [1.0, 2.0]})
    with pytest.raises(dpbeam.UsageError) as refused:
        dpbeam.release(asked(mixed), ledger=ledger, output=tmp_path)
    assert "CANARY" not in str(refused.value)
    assert "values of several types" in str(refused.value)


def test_no_type_of_a_frame_is_told_by_its_values() -> None:
    few = pd.DataFrame({"person": ["a", "b"], "city": ["x", "y"], "cost": [1, 2]})
    more = pd.DataFrame({"person": ["a", "b", "c"], "city": ["x", "y", "z"], "cost": [1, 2, None]})
    assert asked(few).policy().digest == asked(more).policy().digest
    odd = few.astype(object)
    with pytest.raises(dpbeam.UsageError, match="the frame doesn't say of which type column 'cost' is"):
        dpbeam.plan(asked(odd))


def test_no_error_of_a_source_in_memory_quotes_a_value(ledger, tmp_path) -> None:
    far = pa.table({**ROWS, "at": pa.array([2**63 - 1] * 1500, pa.timestamp("s"))})
    twice = pa.Table.from_arrays([pa.array(["a"])] * 4, names=["person", "city", "cost", "cost"])
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.csv").write_text("person,city,cost\na,b,SECRETVALUE\n")
    schema = pa.schema([("person", pa.string()), ("city", pa.string()), ("cost", pa.float64())])
    for source in (far, twice, ds.dataset(tmp_path / "files", format="csv", schema=schema)):
        more = {"columns": {"cost": "float64"}} if source is twice else {}
        question = asked(source, **more)
        question = question.where("at", ">", "2020-01-01") if source is far else question
        with pytest.raises(dpbeam.UsageError) as refused:
            dpbeam.release(question, ledger=ledger, output=tmp_path / "out")
        assert "SECRET" not in str(refused.value)
        assert "9223372036854775807" not in str(refused.value)
        assert refused.value.__context__ is None
    assert spent(ledger) == 0


@pytest.mark.parametrize("inner", [{"SECRET HIV+": 1, "b": 2}, [{"SECRET HIV+": 1}], Decimal("123456789.12345")])
def test_no_error_says_of_a_frame_s_types_what_values_make_them(ledger, tmp_path, inner) -> None:
    """pandas' objects become Arrow's structs and decimals: their fields' names and their digits are values."""
    frame = pd.DataFrame({"person": ["a"], "city": [inner], "cost": [1.0]}).astype({"city": object})
    with pytest.raises(dpbeam.UsageError) as refused:
        dpbeam.release(asked(frame), ledger=ledger, output=tmp_path)
    assert re.match(
        r"memory://visits: column city must be readable as string, found Arrow type (struct|list|decimal128)\. ",
        str(refused.value),
    )
    assert not re.search(r"SECRET|14|HIV", str(refused.value))


def test_dictionaries_of_another_order_are_the_same_rows(ledger, tmp_path) -> None:
    ones = [pl.Enum(["Oslo", "Bergen"]), pl.Enum(["Bergen", "Oslo", "Rome"]), pl.Categorical(), pl.String()]
    made = [
        dpbeam.release(
            asked(pl.DataFrame(ROWS).with_columns(pl.col("city").cast(kind))), ledger=ledger, output=tmp_path
        )
        for kind in ones
    ]
    assert [each.cached for each in made] == [False, True, True, True]


SIGNALLED = """
import os, signal, sys
import dpbeam
from tests.helpers import kills
from tests.system.test_library import ROWS, asked
import pyarrow as pa

step, number, handled, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "handled", sys.argv[4]
from dpbeam.pipelines.lifecycle import release
told = []
if handled:
    signal.signal(number, lambda *_: told.append(number))
work = getattr(release, step)
kills.does(step, lambda value: (signal.raise_signal(number), work(value))[1])
try:
    dpbeam.release(asked(pa.table(ROWS)), ledger=f"sqlite:///{folder}/ledger.sqlite", output=f"{folder}/out")
    print("released")
except dpbeam.Interrupted as stopped:
    print(stopped)
print("handler told", told)
"""


@pytest.mark.parametrize("step", ["plan", "reserve", "start", "run_job", "commit"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("handled", ["handled", "left"])
def test_a_signal_tears_no_step_of_a_release(ledger, tmp_path, step, number, handled) -> None:
    if (number, handled) == (signal.SIGINT, "handled"):
        pytest.skip("Ctrl-C is an exception here, whoever handles it")
    arguments = [step, str(int(number)), handled, str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    charged = step in ("start", "run_job", "commit")
    if step == "commit":  # it is not torn: the release is out
        assert "released" in done.stdout
    elif number == signal.SIGINT:
        assert "stopped by SIGINT; " in done.stdout
        assert ("stays spent" in done.stdout) == charged
    else:
        assert done.returncode == (0 if handled == "handled" else -number)
        assert ("handler told [15]" in done.stdout) == (handled == "handled")
        assert f"stopped by {number.name}; " in done.stderr
        assert ("stays spent" in done.stderr) == charged
    balance = ledger.balance("visits")
    assert balance.held == ZERO
    assert (balance.spent == ZERO) == (not charged)
    assert list((tmp_path / "out").glob("**/.staging/*")) == []
    again = dpbeam.release(asked(pa.table(ROWS)), ledger=ledger, output=tmp_path / "out")
    assert spent(ledger) == 4.0
    assert again.cached == (step == "commit")


def test_a_query_that_is_not_whole_says_what_is_missing() -> None:
    begun = dpbeam.query("visits", source=pa.table(ROWS), unit="person")
    with pytest.raises(dpbeam.UsageError, match=r"^a query must say what it may cost: \.spend"):
        dpbeam.plan(begun.group_by("city").private().bounds(l0=1).privacy_id_count())
    with pytest.raises(dpbeam.UsageError, match=r"^a query must ask something"):
        dpbeam.plan(begun.spend(1.0, 1e-6))
    with pytest.raises(dpbeam.UsageError, match=r"^the frame has no column 'town'"):
        dpbeam.plan(begun.spend(1.0, 1e-6).group_by("town").private().bounds(l0=1).privacy_id_count())
    with pytest.raises(dpbeam.PolicyError) as wrong:
        dpbeam.plan(begun.spend(1.0, 1e-6).group_by("city").private().privacy_id_count())
    assert "query: stages[0].bounds is required" in str(wrong.value)


def test_a_builder_stays_as_it_was() -> None:
    begun = dpbeam.query("visits", source=pa.table(ROWS), unit="person", epsilon=1.0, delta=1e-6).group_by("city")
    before = begun.to_data()
    begun.private(pre_threshold=3).bounds(l0=1).count().where("cost", ">", 1)
    assert begun.to_data() == before


def test_a_plan_shows_itself_escaped_and_in_words() -> None:
    rows = {"person": ["a"], "<b>city</b>": ["x"], "cost": [1.0]}
    begun = dpbeam.query("visits", source=pa.table(rows), unit="person", epsilon=1.0, delta=1e-6)
    shown = dpbeam.plan(
        begun.group_by("<b>city</b>", name="t").private(pre_threshold=7).bounds(l0=1, linf=1)
        .count(name="<i>n</i>").mean("cost", 0, {"auto": {}})
    )  # fmt: skip
    page, words = shown._repr_html_(), shown.explain()
    assert "<i>" not in page
    assert "&lt;i&gt;n" in page
    for said in ("ε 1, δ 1e-6", "the run finds high of cost_mean"):
        assert said in page
        assert said in words
    assert "is kept with probability 50 % from" in words
    assert "people that a partition needs by strategy, to be kept with 50 % and with 99 %:" in words
    assert "95 % intervals in partitions of 100, 1,000, 10,000:" in words
    for said in ("People a partition needs, by strategy", "gaussian_thresholding"):
        assert said in page
    assert shown.to_json()["epsilon"] == shown.epsilon == 1.0


def test_a_release_is_verified_when_it_is_opened_and_when_it_is_read(ledger, tmp_path) -> None:
    made = dpbeam.release(asked(pa.table(ROWS)), ledger=ledger, output=tmp_path)
    assert dpbeam.read_release(made.folder).manifest == dpbeam.read_release(made.folder / "manifest.json").manifest
    assert isinstance(made.table(kind="pandas"), pd.DataFrame)
    assert isinstance(made.table("by_city", kind="polars"), pl.DataFrame)
    assert "<html" in made.report()
    assert "<html" not in made._repr_html_()
    with pytest.raises(dpbeam.UsageError, match=r"^stage must be one of by_city, got 'x'$"):
        made.table("x")
    table = made.folder / "by_city.parquet"
    table.chmod(0o600)
    pq.write_table(pa.table({"city": ["Oslo"]}), table)
    with pytest.raises(dpbeam.Uncertified, match=r"file 'by_city\.parquet': has changed since the release was opened"):
        made.table()
    with pytest.raises(dpbeam.DpbeamError):
        dpbeam.read_release(made.folder)


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_s_examples_run_in_their_order(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text(asked("d.csv", columns={"person": "string", "city": "string",
                                                                  "cost": "float64"}).to_yaml())  # fmt: skip
    program = "\n".join(blocks()) + "\nimport json; print(json.dumps([opened.stages, text[:10], shown.delta]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [["by_city"], "version: 1", 1e-6]


def test_every_public_name_is_on_the_page_and_there() -> None:
    for name in dpbeam.__all__:
        assert getattr(dpbeam, name) is not None
        if name != "__version__":
            assert re.search(rf"\b{name}\b", PAGE), name
    assert set(dir(dpbeam)) == set(dpbeam.__all__)
    with pytest.raises(AttributeError):
        _ = dpbeam.nothing


def test_every_public_event_is_on_the_page_and_there() -> None:
    for name in dpbeam.events.__all__:
        assert getattr(dpbeam.events, name) is not None
        assert re.search(rf"`{name}\b", PAGE) or re.search(rf"`dpbeam\.events\.{name}`", PAGE), name


def test_the_page_s_certificate_is_what_the_certifier_says() -> None:
    (block,) = [block for block in blocks() if "PoissonSampled" in block]
    names = {"dpbeam": dpbeam}
    exec(block, names)  # noqa: S102
    assert f"round(certificate.epsilon, 2)  # {names['certificate'].epsilon:.2f}" in block


def test_loading_the_face_s_names_needs_no_beam() -> None:
    names = ", ".join(name for name in dpbeam.__all__ if name != "__version__")
    check = f"from dpbeam import {names}; import sys; sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
