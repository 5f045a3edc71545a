"""Copies of the checkout, packages built from them, and environments with nothing of ours but a wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
"""What every installer calls, by the standard's names (PEP 517); the last line names what was built."""


def listed() -> list[str]:
    """What git knows of the checkout, as it is now."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and os.path.lexists(ROOT / name)]


def copied(folder: Path) -> Path:
    """The checkout, its links as links."""
    for name in listed():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def ran(*words: object, cwd: Path, **environment: str) -> str:
    """What a command says that ends well, without anything on its path that isn't its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DPBEAM"))}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def built(kind: str, source: Path, folder: Path) -> Path:
    """`kind` is `wheel` or `sdist`."""
    said = ran(sys.executable, "-c", BUILD, f"build_{kind}", folder, cwd=source)
    return folder / said.splitlines()[-1]


def unpacked(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (made,) = folder.iterdir()
    return made


def contents(archive: Path) -> dict[str, bytes]:
    """The files of a wheel, or of an sdist below its folder."""
    if archive.suffix == ".whl":
        with ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(archive) as sdist:
        files = {member.name.partition("/")[2]: sdist.extractfile(member) for member in sdist if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def environment(folder: Path, wheel: Path) -> Path:
    """A new environment's programs: the wheel is installed in it, and it sees what this one has but for its links to
    the checkout, which only work from a folder that is looked through for them."""
    ran(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    programs = folder / "bin"
    ran(programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    site = ran(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    theirs = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (Path(site) / "theirs.pth").write_text("\n".join(theirs) + "\n", encoding="utf-8")
    return programs
