"""`dpbeam tune` as people call it: figures on a terminal or in a private file, nowhere else; a policy that is right."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dpbeam.pipelines.cli.main import invoke
from dpbeam.policy.load import load_policy
from tests.conftest import visits

CANARY = "kanarienvogel"
DPBEAM = [sys.executable, "-c", "from dpbeam.pipelines.cli.main import main; main()"]


@pytest.fixture
def planted(workspace):
    """What is to be released, and older data with a canary as a key, as a unit and as what is no number; in them each
    person has 1 place more than the policy lets in, and amounts are far below the bound."""
    workspace.csv(*visits(300))
    older = [f"o{person},place{(person + i) % 37},{i}" for person in range(900) for i in range(5)]
    workspace.csv(*older, f"{CANARY},{CANARY},1", f"o1,place1,{CANARY}", name="older.csv")
    workspace.policy["stages"][0]["metrics"][2]["sum"]["high"] = 1000.0
    workspace.create_budget()
    return workspace


def flags(workspace, *more: str) -> list[str]:
    return ["tune", str(workspace.policy_path), "--data", str(workspace.folder / "older.csv"), *more]


def called(workspace, *more: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, whose temporary files and home lie in the workspace."""
    environment = os.environ | {"TMPDIR": str(workspace.folder), "HOME": str(workspace.folder)}
    environment |= {"DPBEAM_LEDGER": workspace.ledger, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*DPBEAM, *flags(workspace, *more)], capture_output=True, text=True, env=environment, check=False
    )


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_who_says_show_sees_what_it_is_first_and_then_the_figures(planted) -> None:
    done = called(planted, "--show")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("This holds raw figures of the data that it was tuned on, made without noise")
    assert "by_place: 38 partitions with rows" in done.stdout
    assert "never on what is to be released" in done.stdout
    for swept in (
        "l0",
        "linf",
        "strategy",
        "noise",
        "low and high of amount_sum",
        "selection weight",
        "weight of count",
    ):
        assert f"by_place, {swept}, all else as recommended" in done.stdout
    assert "high of amount_sum: 1000 → 10;" in done.stdout


def test_a_pipe_gets_nothing_but_how_to_go_on(planted) -> None:
    done = called(planted, "--write", str(planted.folder / "tuned.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "dpbeam: the figures of tuning are raw, and this is no terminal but a pipe, a file or a log, which may "
        "travel: name a file for them with --output-file, or say --show if whoever reads this may see the data\n"
    )
    assert not (planted.folder / "tuned.yaml").exists()


def test_nothing_of_the_data_is_anywhere_but_in_two_private_files(planted) -> None:
    """The ledger, temporary files and streams included; and the policy holds no figure, but the values it states."""
    assert planted.policy_path.exists()
    before, figures, tuned = files(planted.folder), planted.folder / "figures.txt", planted.folder / "tuned.yaml"
    previous = os.umask(0)
    try:
        done = called(planted, "--output-file", str(figures), "--write", str(tuned))
    finally:
        os.umask(previous)
    after = files(planted.folder)
    assert (after.pop("figures.txt") != after.pop("tuned.yaml"), after) == (True, before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (figures, tuned)] == [0o600, 0o600]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"Wrote {figures}: raw figures, which only you may read. Delete it when you are done.\n"
        f"Wrote {tuned}: it follows the data. Read what changed, then `dpbeam plan {tuned}`.\n"
    )
    assert CANARY not in tuned.read_text()
    shown = set(re.findall(r"[\d.,]+ %", figures.read_text()))
    assert len(shown) > 20
    assert not [each for each in shown if each in tuned.read_text()]
    assert planted.uncharged()


def test_a_page_with_charts_is_as_private(planted, capsys) -> None:
    path = planted.folder / "figures.html"
    assert invoke(flags(planted, "--output-file", str(path))) == 0
    text = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "This holds raw figures of the data that it was tuned on" in text
    assert "by_place: low and high of amount_sum" in text
    assert text.count('<figure class="chart">') == 12
    assert "%" not in capsys.readouterr().out


def test_the_written_policy_says_what_was_recommended_and_why(planted) -> None:
    tuned = planted.folder / "tuned.yaml"
    assert invoke(flags(planted, "--show", "--write", str(tuned))) == 0
    text = tuned.read_text()
    stage = load_policy(tuned).stages[0]
    assert stage.bounds.l0 == 6
    assert stage.metrics[2].args.high == 10.0
    assert "# tune: l0 was 4: people in more partitions lost more to it than the noise of a larger one costs" in text
    own = yaml.safe_load(planted.policy_path.read_text())
    kept = yaml.safe_load(text)
    assert [own[key] == kept[key] for key in own] == [key != "stages" for key in own]


def test_a_run_by_the_written_policy_is_a_release_without_a_figure_of_tuning(planted) -> None:
    figures, tuned = planted.folder / "figures.txt", planted.folder / "tuned.yaml"
    assert called(planted, "--output-file", str(figures), "--write", str(tuned)).returncode == 0
    assert invoke(["run", str(tuned), "--ledger", planted.ledger, "--output", str(planted.output)]) == 0
    words = [CANARY, *(line.strip() for line in figures.read_text().splitlines() if "%" in line)]
    assert len(words) > 30
    for made in planted.release_folder().iterdir():
        text = made.read_bytes().decode(errors="replace")
        assert [word for word in words if word in text] == [], made


@pytest.mark.parametrize("name", ["data.csv", "linked.csv", "da*.csv", "folder"])
def test_what_is_to_be_released_is_refused(name, planted, capsys) -> None:
    (planted.folder / "linked.csv").symlink_to(planted.folder / "data.csv")
    (planted.folder / "folder").mkdir()
    (planted.folder / "folder" / "data.csv").symlink_to(planted.folder / "data.csv")
    data = planted.folder / name
    capsys.readouterr()
    assert invoke(["tune", str(planted.policy_path), "--data", str(data), "--show"]) == 2
    assert capsys.readouterr() == (
        "",
        f"dpbeam: --data {data} is what the policy would release: bounds that follow it would tell of it, and no "
        "budget counts that. Tune on public, made-up or older data; or let the run find its bounds, which it pays for "
        "(bounds: {l0: {auto: …}}, docs/policy.md)\n",
    )


def test_the_policy_must_be_written_beside_the_old_one(planted, capsys) -> None:
    (planted.folder / "other").mkdir()
    path = planted.folder / "other" / "tuned.yaml"
    assert invoke(flags(planted, "--show", "--write", str(path))) == 2
    assert capsys.readouterr().err.endswith(
        f"dpbeam: --write {path} must lie beside {planted.policy_path}: paths in a policy start at its folder\n"
    )


@pytest.mark.parametrize("flag", ["--write", "--output-file"])
def test_a_file_that_is_there_is_left_as_it_is(flag, planted, capsys) -> None:
    path = planted.folder / "mine.yaml"
    path.write_text("mine")
    assert invoke(flags(planted, "--show", flag, str(path))) == 2
    assert capsys.readouterr().err.endswith(f"dpbeam: {path} exists already; name another file with {flag}\n")
    assert path.read_text() == "mine"


def test_a_damaged_file_ends_with_2_and_leaves_no_file(planted, capsys) -> None:
    import gzip

    packed = gzip.compress(("person,place,amount\n" + f"{CANARY},inn,1\n" * 50_000).encode())
    (planted.folder / "older.csv").write_bytes(packed[:-20])
    path = planted.folder / "figures.txt"
    assert invoke(flags(planted, "--output-file", str(path))) == 2
    assert CANARY not in "".join(capsys.readouterr())
    assert not path.exists()


@pytest.mark.parametrize("older", ["o,inn,1", f"o,inn,{CANARY}"])
def test_the_exit_code_doesnt_tell_what_was_found(older, planted) -> None:
    planted.csv(*[older] * 50, "p,inn,1", name="older.csv")
    assert invoke(flags(planted, "--output-file", str(planted.folder / "figures.txt"))) == 0


AUTO = "the run finds it and pays for that; write a number in its place to tune it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": {"l0": {"auto": {"max": 9}}, "linf": 2}}, f"stages[0].bounds.l0: {AUTO}"),
        (
            {"metrics": [{"sum": {"column": "amount", "low": 0, "high": {"auto": {"least": 1, "most": 9}}}}]},
            "stage by_place, metric amount_sum: the run finds its high and pays for that; write numbers in their "
            "place to tune them",
        ),
        (
            {"partitions": {"private": {"strategy": "truncated_geometric", "other": True}}},
            "stages[0]: keys whose rest counts in an `other` can't be tuned; leave `other` out to tune the rest",
        ),
    ],
)
def test_what_the_run_finds_itself_is_refused(change, message, planted, capsys) -> None:
    planted.policy["stages"][0] |= change
    capsys.readouterr()
    assert invoke(flags(planted, "--show")) == 2
    assert capsys.readouterr().err == f"dpbeam: {message}\n"


def test_data_of_which_nothing_is_left_say_so_in_figures_alone(planted, capsys) -> None:
    planted.csv(f"o1,place1,{CANARY}", name="older.csv")
    capsys.readouterr()
    tuned = planted.folder / "tuned.yaml"
    for name in ("figures.txt", "figures.html"):
        assert invoke(flags(planted, "--output-file", str(planted.folder / name))) == 0
        assert "by_place: no row of these data is left" in (planted.folder / name).read_text()
    assert "no row" not in "".join(capsys.readouterr())
    assert invoke(flags(planted, "--show", "--write", str(tuned))) == 0
    assert load_policy(tuned).stages == load_policy(planted.policy_path).stages
