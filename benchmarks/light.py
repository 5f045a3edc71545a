"""CPU seconds of short commands, from start to end: `make bench CASES=light`, or `python -m benchmarks.light` alone.

Each command is a process of its own, as at a terminal: what it imports counts. User and system time of the whole
process and of those that it starts. Files are in the cache by then, and modules compiled, as where dpbeam is installed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "ngrams"
REPEATS = 7


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, the most CPU seconds that it may take, and the exit code it ends with."""

    words: tuple[str, ...]
    most_s: float
    code: int = 0


COMMANDS: Mapping[str, Command] = {
    "`dpbeam --help`": Command(words=("--help",), most_s=0.2),
    "`budget show`": Command(words=("budget", "show", "ngrams"), most_s=0.3),
    "an error in the policy": Command(words=("plan", "wrong.yaml"), most_s=0.5, code=2),
    "`plan`": Command(words=("plan", "policy.yaml"), most_s=1.0),
    "`run`, made before": Command(words=("run", "policy.yaml"), most_s=1.5),
}


def cpu_seconds(words: Sequence[str], code: int, folder: Path) -> float:
    """User and system time of one call; what is compiled on the way is kept in the folder."""
    program = "from dpbeam.pipelines.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(folder / "compiled")},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    said = process.stderr.read().decode() if process.stderr else ""
    if process.returncode != code:
        raise SystemExit(f"dpbeam {' '.join(words)} ended with {process.returncode}:\n{said[-2000:]}")
    return usage.ru_utime + usage.ru_stime


def measured(say: Callable[[str], object] = print) -> dict[str, float]:
    """The medians, by name, on the example of ngrams."""
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(EXAMPLE / "ngrams.csv", folder)
        policy = (EXAMPLE / "policy.yaml").read_text(encoding="utf-8")
        (folder / "policy.yaml").write_text(policy, encoding="utf-8")
        (folder / "wrong.yaml").write_text(policy.replace("linf: 1", "linf: 0"), encoding="utf-8")
        for words in (("budget", "create", "policy.yaml"), ("run", "policy.yaml")):
            cpu_seconds(words, 0, folder)
        for command in COMMANDS.values():
            cpu_seconds(command.words, command.code, folder)
        for _ in range(REPEATS):
            for name, command in COMMANDS.items():
                found[name].append(cpu_seconds(command.words, command.code, folder))
    medians = {name: statistics.median(times) for name, times in found.items()}
    for name, seconds in medians.items():
        say(f"{name}: {seconds:.2f} s, at most {COMMANDS[name].most_s} s")
    return medians


def section() -> str:
    """The part of docs/benchmarks.md."""
    rows = [f"| {name} | {seconds:.2f} | {COMMANDS[name].most_s} |" for name, seconds in measured().items()]
    return "\n".join(
        [
            "## Short commands",
            "",
            f"CPU seconds of the whole process, imports and all; medians of {REPEATS} calls on the example of ngrams.",
            "",
            "| command | CPU s | to be at most |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    measured()
