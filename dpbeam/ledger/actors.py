"""Who acts on a ledger, as the environment tells it: for people who read a history. Nothing is decided by it."""

from __future__ import annotations

import getpass
import os
import socket

OPERATOR = "DPBEAM_OPERATOR"
"""The environment variable that names who acts, as a scheduler or a service would set it."""
MOST = 256


def operator() -> str:
    """`DPBEAM_OPERATOR` if it is set, else the user's name at this host; at most `MOST` characters, which print."""
    said = os.environ.get(OPERATOR) or f"{_user()}@{socket.gethostname()}"
    return "".join(char if char.isprintable() else "?" for char in said)[:MOST]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
