"""Installs a built wheel, alone and from nothing, under each Python that is here, and tries what needs no extra.

    python tests/distribution/run.py dist [3.11 …]

A Python that isn't named and isn't here is left out, and said so; one that is named must be here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
UV = Path(sys.executable).with_name("uv")

VERSION = "import dpbeam, sys; print('dpbeam', dpbeam.__version__, 'on Python', sys.version.split()[0])"
SMALL = """
from importlib.util import find_spec
assert not [name for name in ("apache_beam", "pipeline_dp", "grpc", "pandas") if find_spec(name)]
"""
RELEASE = ROOT / "tests" / "data" / "releases" / "version-2"


def ran(*words: object, cwd: Path) -> str:
    """What a command says that ends well, with nothing of this checkout or of its environment at hand."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL", "DPBEAM"))}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def interpreter(python: str) -> str | None:
    """One of that version on this machine: on the path, or of those that pyenv keeps and shows one of; None: there is
    none."""
    words = [UV, "python", "find", "--no-python-downloads", "--system", python]
    if subprocess.run(words, capture_output=True, check=False).returncode == 0:
        return python
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return next((str(path) for path in sorted(kept.glob(f"{python}.*/bin/python"), reverse=True)), None)


def tried(wheel: Path, python: str, folder: Path) -> str:
    """Installs the wheel and what it needs, verifies a release, writes a policy, plans it and gives it a budget.

    Returns: what was installed, in a line."""
    ran(UV, "venv", "--quiet", "--no-python-downloads", "--python", python, folder / "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    ran(UV, "pip", "install", "--quiet", "--python", programs / "python", wheel, cwd=folder)
    ran(UV, "pip", "check", "--quiet", "--python", programs / "python", cwd=folder)
    said = [ran(programs / "python", "-c", VERSION, cwd=folder)]
    ran(programs / "python", "-c", SMALL, cwd=folder)
    certified = ran(programs / "dpbeam", "certify", RELEASE, cwd=folder)
    if "certified" not in certified:
        sys.exit(f"certify said: {certified}")
    (folder / "people.csv").write_text("person,city\np1,a\n", encoding="utf-8")
    dpbeam = programs / "dpbeam"
    ran(dpbeam, "init", "people.csv", "--output", "policy.yaml", cwd=folder)
    ran(dpbeam, "plan", "policy.yaml", cwd=folder)
    ran(dpbeam, "budget", "create", "policy.yaml", cwd=folder)
    ran(dpbeam, "budget", "verify", cwd=folder)
    said.append(f"{len(list((folder / 'venv').glob('lib/*/site-packages/*.dist-info')))} packages")
    return ", ".join(said)


def main(folder: str, *named: str) -> None:
    (wheel,) = Path(folder).resolve().glob("dpbeam-*.whl")
    here = list(named) or [found for python in PYTHONS if (found := interpreter(python))]
    if not here:
        sys.exit(f"none of Python {', '.join(PYTHONS)} is here")
    for python in here:
        with tempfile.TemporaryDirectory() as each:
            print(tried(wheel, python, Path(each)), flush=True)
    if left := [python for python in PYTHONS if not named and interpreter(python) is None]:
        print(f"not tried, since they aren't here: Python {', '.join(left)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
