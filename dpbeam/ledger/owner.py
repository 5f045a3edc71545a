"""Owners of charges: the process that holds one, and whether it still lives: yes, no, or unknown."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that holds a charge. `token` tells it from a later process of the same pid.

    `token` is "<boot id>/<pid namespace>/<start time in ticks>" where the system has /proc, else "" (then only
    the pid is known, and a process that got the same pid later passes for the owner).
    """

    pid: int
    host: str
    token: str = ""

    def __post_init__(self) -> None:
        if type(self.pid) is not int or self.pid < 1:
            raise ValueError(f"pid must be a whole number of at least 1, got {self.pid!r}")
        if not isinstance(self.host, str) or not isinstance(self.token, str):
            raise ValueError("host and token must be text")

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        return cls(pid=os.getpid(), host=socket.gethostname(), token=_token(os.getpid()) or "")

    def to_json(self) -> dict[str, str | int]:
        return {"pid": self.pid, "host": self.host, "token": self.token}


def alive(owner: Owner) -> bool | None:
    """Whether the owner still runs; None where this machine can't tell (another host, another container).

    A wrong answer costs no privacy: an owner wrongly given up holds a stale fence and can't publish.
    """
    here = Owner.current()
    if owner.host != here.host or os.name == "nt":
        return None
    boot, namespace, _ = _parts(owner.token)
    boot_here, namespace_here, _ = _parts(here.token)
    if boot and boot_here and boot != boot_here:
        return False
    if namespace and namespace != namespace_here:
        return None
    if not owner.token or not here.token:
        return _exists(owner.pid)
    return _token(owner.pid) == owner.token


def _token(pid: int) -> str | None:
    """The process's token; None if it doesn't run (or is a zombie), or the system has no /proc."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(_PROC / "self/ns/pid").removeprefix("pid:").strip("[]")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the command before it may hold spaces and parentheses
    state, start_ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}/{namespace}/{start_ticks}"


def _parts(token: str) -> tuple[str, str, str]:
    boot, _, rest = token.partition("/")
    namespace, _, start = rest.partition("/")
    return boot, namespace, start


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
