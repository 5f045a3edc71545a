"""`dpbeam tune --private`: charged like a run, drawn once, and all that it says follows from what it released."""

from __future__ import annotations

import os
import re
import signal

import pytest

from dpbeam.engine.automatic_bounds import count_grid
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.library.releases import read_release
from dpbeam.pipelines.tuning.by_soundings import recommend
from dpbeam.pipelines.tuning.soundings import seen, soundings
from dpbeam.policy.compile import query as compile_query
from dpbeam.policy.load import load_policy
from tests.helpers.kills import die, does, forked

CANARY = "kanarienvogel"
PEOPLE, PLACES = 3000, 12


@pytest.fixture
def far_off(workspace):
    """Each of 3,000 people is in 12 places, 3 times what the policy lets in, and amounts are far below the bound of
    their sum. With noise of a standard deviation below 50 nothing of it could be hidden: all of them are in one bin of
    each histogram of units."""
    rows = [f"o{i},place{(i + j) % 37},{2 * j}" for i in range(PEOPLE) for j in range(PLACES)]
    workspace.csv(*rows, f"{CANARY},{CANARY},1")
    stage = workspace.policy["stages"][0]
    stage["metrics"][2]["sum"]["high"] = 1000.0
    stage["partitions"]["private"]["strategy"] = "gaussian_thresholding"
    workspace.create_budget()
    return workspace


def tune(workspace, *more: str, epsilon: str = "0.3") -> int:
    flags = ["--private", "--epsilon", epsilon, "--ledger", workspace.ledger, "--output", str(workspace.output)]
    return invoke(["tune", str(workspace.policy_path), *flags, *more])


def spent(workspace) -> tuple[float, float]:
    amount = workspace.open_ledger().balance("visits").spent.to_json()
    return float(amount["epsilon"]), float(amount["delta"])


def test_what_is_drawn_is_charged_certified_and_released(far_off, capsys) -> None:
    assert tune(far_off) == 0, capsys.readouterr().err
    (charge,) = far_off.published_charges()
    assert spent(far_off) == (0.3, 1e-6)
    opened = read_release(far_off.release_folder())  # certifies
    assert opened.stages == ("by_place_units", "by_place_values")
    assert (opened.manifest.charge.id, opened.manifest.release_name) == (charge.id, "tuning")
    assert (opened.guarantee.epsilon, opened.guarantee.delta, opened.guarantee.unit) == (0.3, 1e-6, "person")
    assert min(opened.certificate.pld, opened.certificate.rdp, opened.certificate.naive) <= 0.3
    assert [(m.stage, m.metric, m.l2) for m in opened.manifest.mechanisms] == [
        ("by_place_values", "amount", 1.0),
        ("by_place_units", "l0", 1.0),
        ("by_place_units", "linf", 1.0),
    ]


def test_the_tuned_policy_fits_the_data(far_off, capsys) -> None:
    """Wrong only if noise of 3,000 or so, some 60 standard deviations, is drawn."""
    tuned = far_off.folder / "tuned.yaml"
    assert tune(far_off, "--write", str(tuned)) == 0, capsys.readouterr().err
    stage = load_policy(tuned).stages[0]
    assert (stage.bounds.l0, stage.bounds.linf) == (12, 1)
    assert [metric.args.high for metric in stage.metrics[2:]] == [32.0, 32.0]
    text = tuned.read_text()
    assert text.startswith("# Tuned by `dpbeam tune --private` on noisy figures that were released and paid for.")
    assert "# tune: l0 was 4: people in more partitions lost more to it than the noise of a larger one costs" in text
    assert "# tune: linf was 2: what a larger one keeps is less than the noise that it costs" in text
    out = capsys.readouterr().out
    assert "by_place, high of amount_sum: 1000 → 32; " in out
    assert "Not looked at, for these figures don't tell: how large partitions are" in out


def test_a_second_call_says_the_same_at_no_cost(far_off, capsys) -> None:
    assert tune(far_off) == 0
    first, cost = capsys.readouterr().out, spent(far_off)
    assert tune(far_off) == 0
    again = capsys.readouterr().out
    assert spent(far_off) == cost
    assert len(far_off.manifests()) == 1
    assert "They cost ε 0.3, δ 0.000001 (one person, added or removed)." in first
    assert "These figures were drawn before: the same again, at no cost." in again
    assert [line for line in first.splitlines() if "They cost" not in line] == [
        line for line in again.splitlines() if "drawn before" not in line
    ]


def test_another_run_of_the_policy_has_the_same_figures(far_off, capsys) -> None:
    """What the policy's own runs may spend decides on no histogram."""
    assert tune(far_off) == 0
    far_off.policy["run"]["epsilon"] = 2.0
    assert tune(far_off) == 0
    assert "at no cost" in capsys.readouterr().out


def test_more_epsilon_is_another_draw(far_off) -> None:
    assert tune(far_off) == 0
    assert tune(far_off, epsilon="0.5") == 0
    assert spent(far_off) == (0.8, 2e-6)


def test_all_that_is_said_follows_from_the_release_alone(far_off, capsys) -> None:
    """The rows are gone when it is worked out again."""
    assert tune(far_off) == 0
    out = capsys.readouterr().out
    (far_off.folder / "data.csv").unlink()
    policy = load_policy(far_off.policy_path)
    made = soundings(policy, epsilon=0.3, delta=1e-6)
    opened = read_release(far_off.release_folder())
    tables = {name: opened.table(name) for name in opened.stages}
    found = recommend(compile_query(policy), made.searching, seen(made, tables, opened.manifest.mechanisms))
    assert found.changes
    for bound in found.stages[0].bounds:
        kept = [f"{100 * share:.0f} %" for share in (bound.stated_kept, bound.chosen_kept) if share is not None]
        (line,) = [row for row in out.splitlines() if row.startswith(f"  {bound.parameter}") and kept[0] in row
                   and (bound.metric or "") in row]  # fmt: skip
        assert re.findall(r"\d+ %", line) == kept


def test_nothing_of_the_data_is_anywhere(far_off, capsys) -> None:
    tuned = far_off.folder / "tuned.yaml"
    assert tune(far_off, "--write", str(tuned)) == 0
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err
    made = [path for path in far_off.folder.rglob("*") if path.is_file() and path.name != "data.csv"]
    assert len(made) > 6
    assert [path for path in made if CANARY.encode() in path.read_bytes()] == []


def test_the_histograms_count_each_unit_once_by_what_it_contributes(far_off, capsys) -> None:
    """At an ε of 2,000 noise is below 0.1, so that counts are exact when rounded: P(wrong) is below 1e-6."""
    far_off.policy["dataset"] = "much"
    far_off.policy["budget"]["epsilon"] = 1e4
    far_off.policy["stages"][0]["noise"] = "laplace"
    far_off.create_budget()
    assert tune(far_off, epsilon="2000") == 0, capsys.readouterr().err
    opened = read_release(far_off.release_folder())
    units = opened.table("by_place_units").to_pylist()[0]
    grid = count_grid(64)
    for name, at in (("l0", 12), ("linf", 1)):
        counts = [round(units[f"{name}_{place}"]) for place in range(len(grid))]
        expected = [0] * len(grid)
        expected[grid.index(at)] += PEOPLE
        expected[grid.index(1)] += 1  # the canary, with one row
        assert counts == expected
    values = opened.table("by_place_values").to_pylist()[0]
    drawn = [round(value) for name, value in values.items() if re.fullmatch(r"amount_\d+", name)]
    assert sum(drawn) == PEOPLE + 1


PUBLIC = {"public": {"values": [f"place{i}" for i in range(37)]}}


@pytest.mark.parametrize(
    ("stage", "bounds", "looked_for"),
    [
        ({"partitions": PUBLIC}, {"l0": 4, "linf": 2}, ["l0", "linf", "high of amount_sum", "high of amount_mean"]),
        ({"partitions": PUBLIC}, {"l1": 4}, ["l1", "high of amount_sum", "high of amount_mean"]),
        (
            {"group_by": [], "partitions": None},
            {"l0": 1, "linf": 4},
            ["linf", "high of amount_sum", "high of amount_mean"],
        ),
    ],
    ids=["public", "l1", "whole table"],
)
def test_every_shape_of_stage_can_be_tuned(far_off, capsys, stage, bounds, looked_for) -> None:
    own = far_off.policy["stages"][0]
    own |= {**stage, "bounds": bounds}
    for name in [name for name, value in own.items() if value is None]:
        del own[name]
    assert tune(far_off, "--write", str(far_off.folder / "tuned.yaml")) == 0, capsys.readouterr().err
    table = capsys.readouterr().out.partition("keeps\n")[2].partition("\n\n")[0]
    assert [re.split(r" {2,}", row.strip())[0] for row in table.splitlines()] == looked_for


def test_where_nothing_stands_out_the_policy_stays(workspace, capsys) -> None:
    """Of two people at ε 0.01: wrong if a bin is above what noise reaches with a probability of 1e-6."""
    workspace.csv("a,inn,1", "b,zoo,2")
    workspace.create_budget()
    assert tune(workspace, epsilon="0.01") == 0
    out = capsys.readouterr().out
    assert "by_place: too little stands out from the noise; its bounds stay. A larger --epsilon shows more" in out
    assert "Recommended: nothing that would bring the error down" in out


@pytest.mark.parametrize("step", ["run_job", "verify", "assemble", "commit"])
def test_a_killed_call_goes_on_under_its_charge(far_off, capsys, step) -> None:
    def dies() -> None:
        does(step, die)
        tune(far_off)

    _, status = os.waitpid(forked(dies), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert spent(far_off) == (0.3, 1e-6)
    assert tune(far_off) == 0, capsys.readouterr().err
    assert spent(far_off) == (0.3, 1e-6)
    assert len(far_off.manifests()) == 1
    assert far_off.left_behind() == []


def test_a_dry_run_charges_nothing(far_off, capsys) -> None:
    capsys.readouterr()
    assert tune(far_off, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("Would charge ε 0.3, δ 0.000001 to visits, for a new release tuning")
    assert far_off.uncharged()
    assert far_off.manifests() == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data", "older.csv"], "--private reads the policy's own source and shows nothing raw"),
        (["--write", "elsewhere/tuned.yaml"], "must lie beside"),
        (["--write", "policy.yaml"], "policy.yaml exists already; name another file with --write"),
        (["--write", "releases/tuned.yaml"], "lies inside output.path: name one elsewhere, where no run reads it"),
        (["--delta", "0"], "delta must be above 0 and below 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_costs_nothing(far_off, capsys, monkeypatch, flags, said) -> None:
    monkeypatch.chdir(far_off.folder)
    assert tune(far_off, *flags) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert far_off.uncharged()


def test_guardrails_hold_for_it(far_off, capsys) -> None:
    far_off.policy["guardrails"] = {"max_epsilon_per_run": 1.0}
    assert tune(far_off, epsilon="1.5") == 2
    assert "--epsilon must be at most guardrails.max_epsilon_per_run, 1, got 1.5" in capsys.readouterr().err
    assert far_off.uncharged()


def test_the_budget_holds_for_it(far_off) -> None:
    assert tune(far_off, epsilon="10.5") == 3
    assert far_off.uncharged()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--private"], "--private spends budget: say how much with --epsilon"),
        ([], "name public, made-up or older data with --data; or tune --private on the policy's own"),
        (["--epsilon", "1", "--data", "x.csv"], "--epsilon, --delta, --release, --output and --dry-run are for"),
    ],
    ids=["no epsilon", "no data", "epsilon without private"],
)
def test_what_is_meant_must_be_said(far_off, capsys, flags, said) -> None:
    assert invoke(["tune", str(far_off.policy_path), *flags]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert far_off.uncharged()
