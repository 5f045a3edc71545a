"""Decision trees end in lines that a policy takes, and what they claim is so in plans."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
import yaml

from dpbeam.errors import UsageError
from dpbeam.pipelines.choosing import picture, text
from dpbeam.pipelines.choosing.tree import Advice, Question
from dpbeam.pipelines.choosing.trees import TREES
from dpbeam.pipelines.cli import choose
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.library.plans import plan
from dpbeam.policy.load import load_policy
from dpbeam.policy.yamlfile import read_yaml
from dpbeam.reporting.risk import tone_of

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
ENDS = [(name, words, advice) for name, tree in TREES.items() for words, advice in tree.ends()]
BASE = {
    "version": 1,
    "dataset": "d",
    "source": {"format": "csv", "path": "d.csv"},
    "privacy_unit": "person",
    "columns": {
        name: {"type": "string"} for name in ("person", "place", "country", "city", "shop")
    } | {"amount": {"type": "float64"}},
    "run": {"epsilon": 1.0, "delta": 1e-6},
}  # fmt: skip
STAGE = {
    "name": "one",
    "group_by": ["place"],
    "partitions": {"public": {"values": ["north", "south"]}},
    "bounds": {"l0": 1, "linf": 1},
    "metrics": ["privacy_id_count"],
    "noise": "gaussian",
}


def planned(folder: Path, top: dict | None = None, **stage):
    """The plan of a policy with these keys, as JSON."""
    (folder / "policy.yaml").write_text(yaml.safe_dump({**BASE, **(top or {}), "stages": [{**STAGE, **stage}]}))
    return plan(load_policy(folder / "policy.yaml")).plan.to_json()


def stated(advice: Advice, folder: Path) -> tuple[dict, dict]:
    """An advice's lines, parsed: those of the policy, and those of a stage."""
    (folder / "lines.yaml").write_text(advice.lines, encoding="utf-8")
    lines = yaml.safe_load(advice.lines)
    return {k: v for k, v in lines.items() if k in ("budget", "run")}, {k: v for k, v in lines.items() if k in STAGE}


@pytest.mark.parametrize(("name", "words", "advice"), ENDS, ids=lambda each: str(each)[:30])
def test_every_end_is_lines_that_a_policy_takes(name, words, advice, tmp_path) -> None:
    top, stage = stated(advice, tmp_path)
    if top:
        top = {part: {key: float(value) for key, value in found.items()} for part, found in top.items()}
    else:
        assert set(yaml.safe_load(advice.lines)) <= set(STAGE)
    assert planned(tmp_path, top, **stage)["mechanisms"]
    assert read_yaml(tmp_path / "lines.yaml")


@pytest.mark.parametrize(("name", "words", "advice"), ENDS, ids=lambda each: str(each)[:30])
def test_every_end_is_reached_by_its_answers_on_the_command_line(name, words, advice, capsys) -> None:
    assert invoke(["choose", name, "--answers", ",".join(words)]) == 0
    out, err = capsys.readouterr()
    assert out == "\n".join(text.advice(advice)) + "\n"
    assert err == ""


def units(folder: Path, strategy: str, l0: int, metric: str) -> float:
    """From how many people on a partition is kept with 99 %, under the better of both noises."""
    noises = {"laplace_thresholding": ["laplace"], "truncated_geometric": ["laplace", "gaussian"]}
    stage = {"partitions": {"private": {"strategy": strategy}}, "bounds": {"l0": l0, "linf": 1}, "metrics": [metric]}
    found = [planned(folder, noise=noise, **stage) for noise in noises.get(strategy, ["gaussian"])]
    return min(each["utility"]["selections"][-1]["units_99"] for each in found)


STRATEGIES = ("truncated_geometric", "laplace_thresholding", "gaussian_thresholding")


@pytest.mark.parametrize(
    ("answers", "metric", "l0s"),
    [
        (("no", "coarse", "yes", "two"), "privacy_id_count", (1, 2)),
        (("no", "coarse", "yes", "more"), "privacy_id_count", (3, 4, 20)),
        (("no", "coarse", "no", "one"), "count", (1,)),
        (("no", "coarse", "no", "more"), "count", (2, 4, 20)),
    ],
)
def test_the_strategy_is_the_one_that_keeps_the_smallest_groups(answers, metric, l0s, tmp_path) -> None:
    _, stage = stated(TREES["selection"].follow(answers), tmp_path)
    advised = stage["partitions"]["private"]["strategy"]
    for l0 in l0s:
        needed = {strategy: units(tmp_path, strategy, l0, metric) for strategy in STRATEGIES}
        assert needed[advised] == min(needed.values()), (l0, needed)


def test_the_pages_table_is_what_plans_say(tmp_path) -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for l0, *shown in rows:
        found = [units(tmp_path, strategy, int(l0), "privacy_id_count") for strategy in (*STRATEGIES, "mad2r")]
        assert found == list(map(int, shown)), l0


@pytest.mark.parametrize(
    ("answer", "l0", "metrics"),
    [("seven", 1, 1), ("seven", 7, 1), ("seven", 2, 3), ("more", 8, 1), ("more", 4, 3), ("more", 20, 1)],
)
def test_the_noise_is_the_one_with_the_narrower_intervals(answer, l0, metrics, tmp_path) -> None:
    _, stage = stated(TREES["noise"].follow([answer]), tmp_path)
    asked = ["count", "privacy_id_count", {"sum": {"column": "amount", "low": 0, "high": 10}}][:metrics]
    widths = {
        noise: planned(tmp_path, noise=noise, bounds={"l0": l0, "linf": 1}, metrics=asked)["utility"]["metrics"]
        for noise in ("laplace", "gaussian")
    }
    narrow = {noise: found[0]["half_width_95"] for noise, found in widths.items()}
    assert min(narrow, key=narrow.get) == stage["noise"], narrow


def test_the_words_for_a_total_are_the_reports_and_its_runs_add_up_to_it() -> None:
    for words, advice in TREES["epsilon"].ends():
        lines = yaml.safe_load(advice.lines)
        total, each = float(lines["budget"]["epsilon"]), float(lines["run"]["epsilon"])
        assert f"ε {total:g} in all is a {tone_of(total)} guarantee" in advice.because
        releases = {"once": 1, "ten": 10, "hundred": 100}[words[-1]]
        assert each * releases == pytest.approx(total)
        assert float(lines["run"]["delta"]) * releases == pytest.approx(float(lines["budget"]["delta"]))


@pytest.mark.parametrize("name", TREES)
def test_the_picture_in_the_docs_is_the_trees(name) -> None:
    """`python -m dpbeam.pipelines.choosing.picture docs/pictures` draws them anew."""
    shown = (ROOT / "docs" / "pictures" / f"choose_{name}.svg").read_text(encoding="utf-8")
    assert shown == picture.draw(TREES[name])
    assert f"](pictures/choose_{name}.svg)" in PAGE


def test_a_tree_is_printed_with_every_question_and_every_line(capsys) -> None:
    for name, tree in TREES.items():
        assert invoke(["choose", name, "--print-tree"]) == 0
        out = capsys.readouterr().out
        assert tree.start.asks in out
        for words, advice in tree.ends():
            assert all(line in out for line in advice.lines.split("\n"))
            assert all(f"- {word}" in out for word in words)


def test_without_a_choice_all_are_named(capsys) -> None:
    assert invoke(["choose"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(TREES)
    assert invoke(["choose", "--print-tree"]) == 0
    out = capsys.readouterr().out
    assert [name for name, tree in TREES.items() if f"{name}: {tree.about}\n" not in out] == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch):
    """Somebody at a terminal who types these lines."""

    def types(*lines: str) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))
        monkeypatch.setattr(choose, "is_terminal", lambda: True)

    return types


def test_at_a_terminal_each_question_is_asked_until_it_is_answered(typed, capsys) -> None:
    typed("maybe", "No ")
    assert invoke(["choose", "selection", "--answers", "yes"]) == 0
    out, err = capsys.readouterr()
    assert "May there be rows of groups that aren't on your list" in out
    assert out.endswith("partitions: {public: {values: [north, south]}}\n")
    assert "must be one of yes, no, got 'maybe'" in " ".join(err.split())
    assert "dpbeam choose selection --answers yes,no" in " ".join(err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x"], "CHOICE must be one of epsilon, bounds, values, selection, noise, got 'x'"),
        (["noise", "--answers", "x"], "answer 1 of noise, to 'In how many groups may one person count (l0), times the "
            "figures with a noise of their own in each group?', must be one of seven, more, got 'x'"),
        (["noise", "--answers", "more,x"], "--answers has 2 answers, but the choice ends after 1; leave 'x' out"),
        (["bounds", "--answers", "no"], "'Do you know from the domain (not from these rows) how much nearly everybody "
            "has at most?' has no answer after no, and nobody can be asked here; add one of yes, no to --answers"),
        (["bounds", "--answers", "no", "--print-tree"],
            "--print-tree prints all answers, so it takes no --answers; leave one of them out"),
        (["--answers", "no"], "--answers needs a CHOICE to answer for: epsilon, bounds, values, selection, noise"),
    ],
)  # fmt: skip
def test_what_is_no_choice_or_answer_is_refused(words, said, capsys) -> None:
    assert invoke(["choose", *words]) == 2
    assert capsys.readouterr().err == f"dpbeam: {said}\n"


def test_an_input_that_ends_before_the_last_answer_decides_nothing(typed, capsys) -> None:
    typed("yes")
    assert invoke(["choose", "selection"]) == 2
    assert "selection isn't decided: the input ended before the last answer" in capsys.readouterr().err


def test_a_question_needs_two_different_answers() -> None:
    tree = TREES["noise"]
    with pytest.raises(ValueError, match=re.escape("a question needs two different answers or more, got ['seven']")):
        Question(asks="?", answers=tree.start.answers[:1])
    with pytest.raises(UsageError):
        tree.follow(["nobody"])
