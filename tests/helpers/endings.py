"""Calls of every command, each in a process of its own, in a folder with data, a policy, a ledger and a release."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PROGRAM = (sys.executable, "-c", "from dpbeam.pipelines.cli.main import main; main()")
ROOT = Path(__file__).parents[2]
_names = itertools.count()


def prepare(folder: Path) -> None:
    """Makes what the commands need: small files of each format, a policy on one of them, a budget and a release."""
    rows = {"person": [f"p{i}" for i in range(300)], "place": ["inn", "zoo", "bar"] * 100}
    pq.write_table(pa.table(rows), folder / "visits.parquet")
    lines = [f"{person},{place}" for person, place in zip(*rows.values(), strict=True)]
    (folder / "quoted.csv").write_text("\n".join(['"person","the ""place"""', *lines]) + "\n", encoding="utf-8")
    older = rows | {"person": [f"o{i}" for i in range(300)]}
    pq.write_table(pa.table(older), folder / "older.parquet")
    (folder / "visits.jsonl").write_text('{"person": "p", "place": "inn"}\n' * 300, encoding="utf-8")
    for words in (
        "init visits.parquet --output policy.yaml",
        "budget create policy.yaml",
        "run policy.yaml",
        "policy key person.pem",
        "budget key new signing-key",
        "budget create policy.yaml --ledger versions.sqlite",
        "policy submit policy.yaml --ledger versions.sqlite",
        "policy activate visits 1 --ledger versions.sqlite",
        "budget create policy.yaml --ledger moved.sqlite",
        "budget export moved.json --to there.sqlite --ledger moved.sqlite",
    ):
        done = call(folder, words)
        assert done.returncode == 0, done.stderr
    (manifest,) = (folder / "releases").glob("*/*/manifest.json")
    (folder / "manifest").symlink_to(manifest.parent)


COMMANDS: dict[str, Callable[[], str]] = {
    "--help": lambda: "--help",
    "init, CSV": lambda: "init quoted.csv",
    "init, JSON Lines": lambda: "init visits.jsonl",
    "init, Parquet": lambda: "init visits.parquet",
    "choose": lambda: "choose selection --answers no,coarse,yes,more",
    "plan": lambda: "plan policy.yaml",
    "check": lambda: f"check policy.yaml --output-file figures{next(_names)}.txt",
    "tune": lambda: f"tune policy.yaml --data older.parquet --output-file tuned{next(_names)}.txt",
    "run, cached": lambda: "run policy.yaml",
    "run, dry": lambda: "run policy.yaml --dry-run --release another",
    "run, refused": lambda: "run policy.yaml --refresh --release other --ledger sqlite:///none.sqlite",
    "rehearse": lambda: "rehearse policy.yaml --units 50",
    "releases": lambda: "releases visits --html",
    "certify": lambda: "certify manifest/manifest.json",
    "recover": lambda: "recover",
    "budget create": lambda: f"budget create d{next(_names)} --epsilon 1 --delta 1e-6",
    "budget show": lambda: "budget show visits --json",
    "budget history": lambda: "budget history visits",
    "budget verify": lambda: "budget verify",
    "budget what-if": lambda: "budget what-if policy.yaml --every 7d",
    "budget export, refused": lambda: "budget export again.json --to elsewhere.sqlite --ledger moved.sqlite",
    "budget import, refused": lambda: "budget import moved.json --ledger elsewhere.sqlite",
    "budget checkpoint": lambda: "budget checkpoint visits --signing-key signing-key",
    "budget key new": lambda: f"budget key new key{next(_names)}",
    "budget key rotate, refused": lambda: "budget key rotate none",
    "budget key list": lambda: "budget key list",
    "budget witness new": lambda: f"budget witness new --witness witness{next(_names)}.json",
    "policy check": lambda: "policy check policy.yaml",
    "policy diff": lambda: "policy diff policy.yaml visits@active --ledger versions.sqlite",
    "policy key": lambda: f"policy key person{next(_names)}.pem",
    "policy bind, refused": lambda: "policy bind visits --guardrails none.yaml --ledger versions.sqlite",
    "policy submit, refused": lambda: "policy submit policy.yaml --ledger none.sqlite",
    "policy approve, refused": lambda: "policy approve visits 9 --key person.pem --ledger versions.sqlite",
    "policy activate, refused": lambda: "policy activate visits 9 --ledger versions.sqlite",
    "policy revert, refused": lambda: "policy revert visits --ledger versions.sqlite",
    "policy history": lambda: "policy history visits --ledger versions.sqlite",
    "policy show": lambda: "policy show visits --ledger versions.sqlite",
}
"""Of each command one line a call; a new name where the command would refuse a second call."""

UNUSABLE = {"budget key rotate, refused", "policy bind, refused", "policy revert, refused"}
EXPECTED = {name: 2 if name in UNUSABLE else 3 for name in COMMANDS if name.endswith(", refused")}


def call(folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    """One call, in that folder."""
    return subprocess.run([*PROGRAM, *words.split()], cwd=folder, capture_output=True, text=True, check=False)


def bad(folder: Path, command: str, calls: int, at_once: int = 2) -> list[str]:
    """What was wrong with the calls that ended by a signal (a negative code), an abort or another code than it must."""
    with ThreadPoolExecutor(at_once) as pool:
        done = list(pool.map(lambda _: call(folder, COMMANDS[command]()), range(calls)))
    expected = EXPECTED.get(command, 0)
    return [f"{each.returncode}: {each.stderr[-300:]}" for each in done if each.returncode != expected]


def main(calls: int = 200) -> None:
    """Makes `calls` calls of each command, and says how they ended."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for command in COMMANDS:
            found = bad(folder, command, calls)
            print(
                f"{command}: {calls} calls, {len(found)} ended by a signal or by a wrong code", *found[:3], flush=True
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
