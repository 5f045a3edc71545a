"""A ledger is one file under one name: links, mounts and moves that would give it two logs are refused; and what the
making of a ledger leaves behind, if it is killed anywhere, is removed by the next that makes one."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dpbeam.errors import LedgerError
from dpbeam.ledger import open_ledger
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.stores.sqlite import drafts, names
from dpbeam.ledger.stores.sqlite import file as sqlite_file
from dpbeam.pipelines.cli.main import invoke
from tests.helpers import kills

COMMANDS = (["budget", "show", "visits"], ["budget", "history", "visits"], ["budget", "verify"], ["recover"])


@pytest.fixture
def ledger(workspace) -> Path:
    workspace.create_budget()
    return workspace.folder / "ledger.sqlite"


@contextmanager
def bound(source: Path, target: Path):
    """`source` mounted at `target`, as containers do; skips where mounting isn't allowed."""
    made = subprocess.run(["mount", "--bind", str(source), str(target)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("this user may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(target)], check=True)


def refused_everywhere(workspace, capsys, ledger: Path, said: str) -> None:
    """Every command, and a run, says `said` of the ledger under this name."""
    run = ["run", str(workspace.policy_path), "--output", str(workspace.output)]
    create = ["budget", "create", "another", "--epsilon", "1", "--delta", "1e-8"]
    for words in (*COMMANDS, run, create):
        capsys.readouterr()
        assert invoke([*words, "--ledger", str(ledger)]) == 3, words
        assert said in capsys.readouterr().err, words


def test_a_ledger_with_a_second_link_is_refused_under_both_names(workspace, ledger, capsys) -> None:
    other = workspace.folder / "b" / "ledger.sqlite"
    other.parent.mkdir()
    os.link(ledger, other)
    for name in (ledger, other):
        refused_everywhere(workspace, capsys, name, f"the ledger {name} has 2 names (hard links)")
        refused_everywhere(workspace, capsys, name, f"`find / -xdev -samefile {shlex.quote(str(name))}`")
    other.unlink()
    assert workspace.run() == 0
    assert workspace.open_ledger().balance("visits").spent == kills.COST


def test_a_symbolic_link_is_no_second_name(workspace, ledger, capsys) -> None:
    """SQLite keeps the log beside the file that the link leads to."""
    other = workspace.folder / "b" / "ledger.sqlite"
    other.parent.mkdir()
    other.symlink_to(ledger)
    with sqlite_file.written(other):
        assert sorted(path.name for path in ledger.parent.glob("ledger.sqlite*-wal")) == ["ledger.sqlite-wal"]
        assert list(other.parent.iterdir()) == [other]
    for words in COMMANDS:
        assert invoke([*words, "--ledger", str(other)]) == 0


def test_a_ledger_that_is_mounted_by_itself_is_refused(workspace, ledger, capsys) -> None:
    other = workspace.folder / "b" / "ledger.sqlite"
    other.parent.mkdir()
    other.touch()
    with bound(ledger, other):
        refused_everywhere(workspace, capsys, other, "is mounted by itself")
        assert workspace.open_ledger().verify() == 1
        assert workspace.open_ledger().balance("visits").spent == ZERO


def test_a_ledger_in_a_folder_that_is_mounted_is_the_same_one(workspace, ledger, capsys, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with bound(workspace.folder, elsewhere), sqlite_file.written(ledger):
        assert open_ledger(str(elsewhere / "ledger.sqlite"), reading=True).verify() == 1
        tries = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        command = [sys.executable, "-c", tries, str(elsewhere / "ledger.sqlite")]
        assert "database is locked" in subprocess.run(command, capture_output=True, text=True, check=False).stderr


def moved(ledger: Path) -> Path:
    other = ledger.parent / "b" / "ledger.sqlite"
    other.parent.mkdir(exist_ok=True)
    return ledger.rename(other)


def test_a_ledger_in_use_is_refused_from_another_folder_until_it_is_closed(workspace, ledger) -> None:
    with sqlite_file.written(ledger):
        other = moved(ledger)
        for how in (sqlite_file.written, sqlite_file.read):
            with pytest.raises(LedgerError, match="is in use under another name, from another folder"), how(other):
                pass
    assert open_ledger(str(other)).verify() == 1


def test_a_child_that_lives_on_keeps_no_name(workspace, ledger) -> None:
    reads, writes = os.pipe()
    with sqlite_file.written(ledger):
        child = kills.forked(lambda: (os.close(writes), os.read(reads, 1)))
    try:
        assert open_ledger(str(moved(ledger))).verify() == 1
    finally:
        os.close(writes)
        assert os.waitpid(child, 0)[1] == 0


def test_a_child_uses_the_ledger_as_any_process_does(workspace, ledger) -> None:
    def work() -> None:
        with sqlite_file.written(ledger):
            os._exit(7)

    with sqlite_file.read(ledger):
        child = kills.forked(work)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert open_ledger(str(ledger)).verify() == 1


def test_another_thread_that_looks_and_goes_drops_no_lock(workspace, ledger) -> None:
    """To close any handle of a file drops all locks that the process has on it."""

    def look() -> None:
        with names.held(ledger, seconds=1):
            pass

    with sqlite_file.written(ledger):
        for _ in range(3):
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
        # The lock by which SQLite says that the file is in use, and its log not to be removed.
        tries = (
            "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)"
        )
        command = [sys.executable, "-c", tries, str(ledger)]
        assert "BlockingIOError" in subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_no_handle_stays_open(workspace, ledger) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        workspace.open_ledger().verify()
    assert len(os.listdir("/proc/self/fd")) == before
    assert names._handles == {}


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, capsys) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    create = ["budget", "create", "d", "--epsilon", "1", "--delta", "1e-8", "--ledger"]
    assert invoke([*create, "sqlite:///~/x.sqlite"]) == 0
    assert (home / "x.sqlite").is_file()
    assert not (tmp_path / "~").exists()
    assert invoke(["budget", "show", "d", "--ledger", "~/x.sqlite"]) == 0
    shutil.copytree(home, tmp_path / "~")  # as 0.1.0 made it
    assert invoke(["budget", "show", "d", "--ledger", "sqlite:///~/x.sqlite"]) == 3
    assert "might mean one in the home folder" in capsys.readouterr().err


def made(path: Path) -> None:
    open_ledger(str(path), create=True).create_budget("d", Amount.cap(1, 1e-8))


def test_a_ledger_whose_making_was_killed_anywhere_leaves_no_draft(tmp_path, monkeypatch) -> None:
    """A draft holds a secret."""
    files = {sqlite_file.__file__, drafts.__file__}
    lines, ended, left = 0, False, 0
    while not ended:
        lines += 1
        folder = tmp_path / str(lines)
        folder.mkdir()
        path = folder / "ledger.sqlite"

        def dying(path=path, lines=lines) -> None:
            kills.at_new_lines(files, lambda line: kills.die() if line == lines else None)
            made(path)

        ended = not os.WIFSIGNALED(os.waitpid(kills.forked(dying), 0)[1])
        left += any(name.startswith(".") for name in os.listdir(folder))
        if path.exists():
            with closing(sqlite3.connect(path)) as raw:  # never a half one
                assert raw.execute("SELECT count(*) FROM meta").fetchone() == (2,)
            open_ledger(str(path))
        else:
            made(path)
        assert os.listdir(folder) == ["ledger.sqlite"], lines
    assert lines > 60
    assert left > 10


def test_of_many_that_make_one_ledger_at_once_all_get_the_same(tmp_path) -> None:
    path = tmp_path / "ledger.sqlite"

    def work(number: int) -> None:
        (tmp_path / f"secret-{number}").write_bytes(open_ledger(str(path), create=True).secret())

    children = [kills.forked(lambda number=number: work(number)) for number in range(8)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert {found.read_bytes() for found in tmp_path.glob("secret-*")} == {open_ledger(str(path)).secret()}
    assert len(list(tmp_path.glob("secret-*"))) == 8
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
