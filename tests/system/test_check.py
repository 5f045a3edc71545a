"""`dpbeam check` as people call it: raw figures on a terminal or in a private file, and nowhere else at all."""

from __future__ import annotations

import hashlib
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dpbeam.pipelines.cli.main import invoke
from tests.conftest import visits

CANARY = "kanarienvogel"
DPBEAM = [sys.executable, "-c", "from dpbeam.pipelines.cli.main import main; main()"]


@pytest.fixture
def planted(workspace):
    """A canary as a key, as a unit and as what is no number; 1,237 rows, a count that nothing else here has."""
    rows = [*visits(400), *(f"{CANARY},{CANARY},{i}" for i in range(30)), *[f"p1,inn,{CANARY}"] * 7]
    workspace.csv(*rows)
    workspace.create_budget()
    return workspace


def called(workspace, *flags: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, whose temporary files and home lie in the workspace."""
    environment = os.environ | {"TMPDIR": str(workspace.folder), "HOME": str(workspace.folder)}
    environment |= {"DPBEAM_LEDGER": workspace.ledger, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*DPBEAM, "check", str(workspace.policy_path), *flags]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def on_a_terminal(workspace) -> tuple[int, str]:
    """Exit code, and what a terminal shows of both streams."""
    master, end = pty.openpty()
    command = [*DPBEAM, "check", str(workspace.policy_path)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=end, stderr=subprocess.DEVNULL, close_fds=True)
    os.close(end)
    shown = b""
    while True:
        try:
            more = os.read(master, 65536)
        except OSError:
            break
        if not more:
            break
        shown += more
    os.close(master)
    return process.wait(), shown.decode()


def test_a_terminal_shows_the_figures_and_first_what_they_are(planted) -> None:
    code, shown = on_a_terminal(planted)
    assert code == 0
    assert shown.startswith("This holds raw figures of the data, made without noise")
    assert "visits: 1,237 rows read" in shown
    assert "amount, on_invalid (not of the type): 7 rows, 0.6 %, dropped" in shown
    assert f"among the smallest: '{CANARY}', of 1" in shown


def test_a_pipe_gets_nothing_but_how_to_go_on(planted) -> None:
    done = called(planted)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "dpbeam: the figures of a check are raw, and this is no terminal but a pipe, a file or a log, which may "
        "travel: name a file for them with --output-file, or say --show if whoever reads this may see the data\n"
    )


def test_who_says_show_gets_them_in_a_pipe(planted) -> None:
    done = called(planted, "--show")
    assert (done.returncode, done.stderr) == (0, "")
    assert "visits: 1,237 rows read" in done.stdout


def test_the_file_is_new_private_and_says_first_what_it_holds(planted) -> None:
    path = planted.folder / "figures.txt"
    previous = os.umask(0)
    try:
        done = called(planted, "--output-file", str(path))
    finally:
        os.umask(previous)
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("This holds raw figures of the data, made without noise")
    assert done.stdout == f"Wrote {path}: raw figures, which only you may read. Delete it when you are done.\n"


def test_a_file_that_is_there_is_left_as_it_is(planted, capsys) -> None:
    path = planted.folder / "figures.txt"
    path.write_text("mine")
    assert invoke(["check", str(planted.policy_path), "--output-file", str(path)]) == 2
    assert capsys.readouterr().err == f"dpbeam: {path} exists already; name another file with --output-file\n"
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("source", "name", "rule"),
    [("data", "releases", "output.path"), ("data", "data", "source.path"), ("data/*", "data", "source.path")],
)
def test_a_file_that_would_travel_or_be_read_as_data_is_refused(
    source: str, name: str, rule: str, planted, capsys
) -> None:
    planted.policy["source"]["path"] = source
    planted.policy["output"] = {"path": str(planted.output)}
    for folder in ("releases", "data"):
        (planted.folder / folder).mkdir()
    path = planted.folder / name / "figures.txt"
    assert invoke(["check", str(planted.policy_path), "--output-file", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"dpbeam: --output-file {path} lies inside {rule}: name one elsewhere, for its figures are raw\n"
    )
    assert not path.exists()


def test_nothing_of_the_data_is_anywhere_else(planted) -> None:
    """No file is made or changed, temporary ones and the ledger included, and the streams hold no figure."""
    assert planted.policy_path.exists()
    before = files(planted.folder)
    path = planted.folder / "figures.txt"
    done = called(planted, "--output-file", str(path))
    after = files(planted.folder)
    assert CANARY in path.read_text()
    assert (after.pop("figures.txt") is not None, after) == (True, before)
    assert done.stderr == ""
    assert done.stdout == f"Wrote {path}: raw figures, which only you may read. Delete it when you are done.\n"
    assert planted.uncharged()


def test_a_release_after_a_check_holds_none_of_its_figures(planted) -> None:
    path = planted.folder / "figures.txt"
    assert called(planted, "--output-file", str(path)).returncode == 0
    assert planted.run() == 0
    planted_words = [CANARY, *(line.strip() for line in path.read_text().splitlines() if line.strip())]
    assert len(planted_words) > 15
    for made in planted.release_folder().iterdir():
        text = made.read_bytes().decode(errors="replace")
        assert [word for word in planted_words if word in text] == [], made
    history = [str(entry.to_json()) for entry in planted.open_ledger().history("visits")]
    assert not [word for word in planted_words if any(word in entry for entry in history)]


@pytest.mark.parametrize("rule", ["drop", "fail"])
def test_the_exit_code_and_streams_are_the_same_whatever_breaks_rules(rule: str, planted, capsys) -> None:
    planted.policy["columns"]["amount"]["on_invalid"] = rule
    said = []
    for name, rows in (("bad", [f"a,inn,{CANARY}"] * 50), ("good", ["a,inn,1"] * 50)):
        planted.csv(*rows)
        path = planted.folder / f"figures-{rule}-{name}.txt"
        code = invoke(["check", str(planted.policy_path), "--output-file", str(path)])
        out, err = capsys.readouterr()
        said.append((code, out.replace(name, ""), err))
    assert said[0] == said[1]
    assert said[0][0] == 0


@pytest.mark.parametrize("number", ["1", "1e200"])
def test_what_a_library_says_of_a_value_reaches_no_stream(number: str, planted) -> None:
    """Of 1e200 NumPy warns that its square is beyond what a float can be: one person's value."""
    planted.policy["columns"]["numbers"] = {"type": "vector", "length": 2}
    planted.policy["source"] = {"format": "jsonl", "path": "data.jsonl"}
    (stage,) = planted.policy["stages"]
    stage["metrics"] = ["count", {"vector_sum": {"columns": ["numbers"], "norm": "l2", "max_norm": 1}}]
    row = '{"person": "p1", "place": "inn", "amount": 1, "numbers": [%s, 1]}\n'
    (planted.folder / "data.jsonl").write_text(row % number * 50)
    path = planted.folder / "figures.txt"
    done = called(planted, "--output-file", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "50 above" in path.read_text()


PANIC = """
import logging, os, sys, warnings
logging.basicConfig(level=logging.CRITICAL)
from dpbeam.pipelines.checking import examine as module
from dpbeam.pipelines.cli.main import main
class PanicException(BaseException): pass
def examine(*_, **__):
    warnings.warn("{text}")
    logging.getLogger("polars").critical("{text}")
    print("{text}", file=sys.stderr)
    os.write(1, b"{text}")
    os.write(2, b"{text}")
    raise {error}("{text}")
module.examine = examine
main()
"""


@pytest.mark.parametrize("error", ["PanicException", "SystemExit", "ValueError", "MemoryError"])
def test_a_panic_of_a_library_says_no_value_and_ends_with_2(error: str, planted) -> None:
    program = PANIC.format(text=CANARY, error=error)
    command = [sys.executable, "-c", program, "check", str(planted.policy_path), "--show"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"dpbeam: the check broke off (internal error {error}); please report it\n"


def test_a_damaged_file_ends_with_2_and_leaves_no_file(planted, capsys) -> None:
    planted.policy["source"] = {"format": "csv", "path": "data.csv.gz"}
    import gzip

    packed = gzip.compress(("person,place,amount\n" + f"{CANARY},inn,1\n" * 50_000).encode())
    (planted.folder / "data.csv.gz").write_bytes(packed[:-20])
    path = planted.folder / "figures.txt"
    assert invoke(["check", str(planted.policy_path), "--output-file", str(path)]) == 2
    assert CANARY not in "".join(capsys.readouterr())
    assert not path.exists()


def test_another_source_can_be_named(planted, capsys) -> None:
    other = planted.csv("a,inn,1", name="other.csv")
    assert invoke(["check", str(planted.policy_path), "--show", "--source", str(other)]) == 0
    assert "visits: 1 rows read" in capsys.readouterr().out


def test_figures_that_no_screen_took_end_with_2(planted) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    command = [*DPBEAM, "check", str(planted.policy_path), "--show"]
    done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    os.close(full)
    assert done.returncode == 2
    assert done.stderr == (
        "dpbeam: the figures can't be shown here (No space left on device); name a file for them with --output-file\n"
    )
