"""A ledger that another process keeps locked."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HOLDER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute(f"PRAGMA locking_mode = {sys.argv[2]}")
held.execute("BEGIN IMMEDIATE")
held.execute("UPDATE meta SET value = value")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked(path: Path, mode: str = "NORMAL") -> Iterator[Callable[[], None]]:
    """Has another process hold the ledger's lock; gives what makes it let go. `EXCLUSIVE` keeps readers out too."""
    command = [sys.executable, "-c", HOLDER, str(path), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"

        def let_go() -> None:
            holder.stdin.close()
            holder.wait()

        try:
            yield let_go
        finally:
            let_go()
