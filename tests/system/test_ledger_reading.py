"""Who audits a ledger needs no right to write: what is shown is shown on a read-only disk and to another user too."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dpbeam.ledger import open_ledger
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.stores.sqlite import file as sqlite_file
from dpbeam.ledger.stores.sqlite import names
from dpbeam.pipelines.cli.main import invoke
from tests.helpers import kills

OLD = Path(__file__).parents[1] / "data" / "ledger-1.sql"
NOBODY = 65534
READERS = (
    ["budget", "show", "people"],
    ["budget", "show", "people", "--json"],
    ["budget", "history", "people"],
    ["budget", "verify"],
    ["budget", "verify", "people"],
)


@pytest.fixture
def ledger() -> Iterator[Path]:
    """A ledger with two entries in a folder that every user may look into."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "ledger.sqlite"
        book = open_ledger(str(path), create=True)
        book.create_budget("people", Amount.cap(10, 1e-4))
        os.chmod(path, 0o644)
        yield path
        os.chmod(folder, 0o755)


def with_a_log(path: Path) -> None:
    """Has a process die that wrote: what it committed lies in the log alone."""

    def work() -> None:
        with sqlite_file.read(path):  # who closes last writes the log into the file
            open_ledger(str(path)).create_budget("second", Amount.cap(10, 1e-4))
            kills.die()

    assert os.WIFSIGNALED(os.waitpid(kills.forked(work), 0)[1])
    assert Path(f"{path}-wal").stat().st_size > 0


def of_version_1(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(OLD.read_text(encoding="utf-8"))
        raw.execute("PRAGMA journal_mode = WAL")
    os.chmod(path, 0o644)


KINDS: dict[str, Callable[[Path], None]] = {
    "of this version": lambda path: None,
    "with a log that a kill left": with_a_log,
    "of version 1": of_version_1,
}


def contents(path: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in path.parent.iterdir()}


def read_all(path: Path) -> list[int]:
    return [invoke([*words, "--ledger", str(path)]) for words in READERS]


def as_another(work: Callable[[], object]) -> int:
    """The exit code of a child process that runs `work` as a user who isn't root."""

    def other() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        os._exit(work())

    return os.waitstatus_to_exitcode(os.waitpid(kills.forked(other), 0)[1])


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder as on a disk that can't be written."""
    made = subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("this user may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_ledger_on_a_read_only_disk_is_shown_and_verified(ledger, capsys, kind) -> None:
    KINDS[kind](ledger)
    before = contents(ledger)
    with read_only(ledger.parent):
        assert read_all(ledger) == [0] * len(READERS), capsys.readouterr().err
        run = ["budget", "create", "more", "--epsilon", "1", "--delta", "1e-8", "--ledger", str(ledger)]
        assert invoke(run) == 3
        assert "writable for this user" in capsys.readouterr().err
    assert contents(ledger) == before


@pytest.mark.parametrize(("file", "folder"), [(0o444, 0o755), (0o644, 0o555), (0o444, 0o555)])
@pytest.mark.parametrize("kind", ["of this version", "of version 1"])
def test_a_ledger_that_this_user_may_not_write_is_shown_and_verified(ledger, kind, file, folder) -> None:
    KINDS[kind](ledger)
    read_all(ledger)  # loads what another user may not be able to load
    before = contents(ledger)
    os.chmod(ledger, file)
    os.chmod(ledger.parent, folder)
    assert as_another(lambda: sum(read_all(ledger))) == 0
    assert as_another(lambda: invoke(["recover", "--ledger", str(ledger)])) == 3
    assert contents(ledger) == before


def test_a_log_without_its_index_is_read_where_one_can_be_made(ledger, capsys) -> None:
    """Without the index SQLite can't read a log where nothing can be written."""
    with_a_log(ledger)
    Path(f"{ledger}-shm").unlink()
    with read_only(ledger.parent):
        assert read_all(ledger) == [3] * len(READERS)
        assert "Copy both into a folder that this user may write" in capsys.readouterr().err
    copy = ledger.parent / "copy"
    copy.mkdir()
    for name in ("ledger.sqlite", "ledger.sqlite-wal"):
        shutil.copy(ledger.parent / name, copy)
    assert read_all(copy / "ledger.sqlite") == [0] * len(READERS)
    assert open_ledger(str(copy / "ledger.sqlite")).datasets() == ["people", "second"]


def test_a_ledger_of_version_1_stays_as_it_is_when_it_is_only_read(ledger) -> None:
    of_version_1(ledger)
    before = contents(ledger)
    assert read_all(ledger) == [0] * len(READERS)
    assert contents(ledger) == before


def test_who_reads_a_file_as_it_lies_waits_for_those_who_write_and_they_for_it(ledger) -> None:
    order = []

    def other(how, word: str) -> threading.Thread:
        def work() -> None:
            with how():
                order.append(word)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    with names.held(ledger, seconds=60, still=True):
        writer = other(lambda: sqlite_file.written(ledger), "wrote")
        writer.join(0.2)
        order.append("has read")
    writer.join()
    with sqlite_file.written(ledger):
        reader = other(lambda: names.held(ledger, seconds=60, still=True), "read")
        reader.join(0.2)
        order.append("has written")
    reader.join()
    assert order == ["has read", "wrote", "has written", "read"]


def test_a_run_on_a_ledger_that_can_not_be_written_charges_nothing_and_says_so(workspace, capsys) -> None:
    workspace.create_budget()
    aside = workspace.folder / "aside"
    aside.mkdir()
    shutil.move(workspace.folder / "ledger.sqlite", aside)
    with read_only(aside):
        run = ["run", str(workspace.policy_path), "--output", str(workspace.output)]
        assert invoke([*run, "--ledger", str(aside / "ledger.sqlite")]) == 3
    assert "can't be used" in capsys.readouterr().err
