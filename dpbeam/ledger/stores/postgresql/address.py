"""Where a ledger on PostgreSQL is: its URL, read and checked. A password is never in it, nor in what is said of it."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from dpbeam.errors import LedgerError

SCHEMES = ("postgresql", "postgres")
_LIBPQ = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "ssl_min_protocol_version", "channel_binding",
    "gssencmode", "krbsrvname", "target_session_attrs", "application_name", "passfile", "service",
)  # fmt: skip
"""What is handed on to PostgreSQL's own client library as it stands."""
_SECONDS = {"connect_timeout": 10, "lock_timeout": 60, "statement_timeout": 60}
"""What is waited for at most, by default: a connection, the turn to write, an answer."""
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Address:
    """A ledger's place: a server, a database, and a schema in it; and how long to wait there, in seconds."""

    host: str | None
    port: int | None
    user: str | None
    database: str
    schema: str = "dpbeam"
    connect_timeout: int = _SECONDS["connect_timeout"]
    lock_timeout: int = _SECONDS["lock_timeout"]
    statement_timeout: int = _SECONDS["statement_timeout"]
    password_file: Path | None = None
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, url: str) -> Address:
        """The place that `postgresql://[USER@]HOST[:PORT]/DATABASE[?OPTION=VALUE&…]` names.

        Raises:
            LedgerError: a password in it; a part that is missing, or an option that isn't known.
        """
        parts = urlsplit(url)
        asked = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "password" in asked or parts.password is not None:
            raise LedgerError(
                "the ledger's URL holds a password, which others would read in lists of processes and in logs; take "
                "it out, and put it into a file (?password_file=PATH, or PGPASSFILE), or into PGPASSWORD"
            )
        try:
            port = parts.port
        except ValueError:
            raise LedgerError("the ledger's URL has a port that is no number; write HOST:PORT") from None
        database = unquote(parts.path.lstrip("/"))
        if not database or "/" in database or parts.fragment:
            raise LedgerError("the ledger's URL must name one database: postgresql://USER@HOST:PORT/DATABASE")
        known = {"host", "schema", "password_file", *_SECONDS, *_LIBPQ}
        if unknown := sorted(asked.keys() - known):
            raise LedgerError(
                f"the ledger's URL has an option that isn't known: {unknown[0]}; known are {', '.join(sorted(known))}"
            )
        schema = asked.get("schema", cls.schema)
        if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
            raise LedgerError("the ledger's schema must be a name of a-z, 0-9 and _, and not one of PostgreSQL's own")
        return cls(
            host=asked.get("host") or (unquote(parts.hostname) if parts.hostname else None),
            port=port,
            user=unquote(parts.username) if parts.username else None,
            database=database,
            schema=schema,
            password_file=Path(asked["password_file"]).expanduser() if "password_file" in asked else None,
            options={name: value for name, value in asked.items() if name in _LIBPQ},
            **{name: _seconds(name, asked[name]) for name in _SECONDS if name in asked},
        )

    def __str__(self) -> str:
        """The URL without its options: who, where, and which schema if not the usual one."""
        user = "" if self.user is None else f"{quote(self.user)}@"
        host = "" if self.host is None else f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        port = "" if self.port is None else f":{self.port}"
        schema = "" if self.schema == type(self).schema else f"?schema={self.schema}"
        return f"postgresql://{user}{host}{port}/{quote(self.database)}{schema}"

    def parameters(self) -> dict[str, Any]:
        """What the client library connects by. Reads the password's file anew each time, so that it may be changed.

        A host that isn't this machine is spoken to by TLS, unless the URL or PGSSLMODE says otherwise.

        Raises:
            LedgerError: the password's file can't be read.
        """
        named = {"host": self.host, "port": self.port, "user": self.user, "dbname": self.database}
        given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        if self.password_file is not None:
            given["password"] = _password(self.password_file)
        if not _is_here(self.host) and "PGSSLMODE" not in os.environ:
            given["sslmode"] = "require"
        return {
            "application_name": "dpbeam",
            "connect_timeout": self.connect_timeout,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 1000 * (self.statement_timeout + 10),
            **given,
            **self.options,
        }


def _seconds(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 86_400:
        raise LedgerError(f"the ledger's URL: {name} must be whole seconds from 1 to 86400, got {text!r}")
    return int(text)


def _password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise LedgerError(f"the password of the ledger can't be read from {path}: {why}; check password_file") from None


def _is_here(host: str | None) -> bool:
    """Whether nothing leaves this machine on the way to `host`."""
    if host is None:
        host = os.environ.get("PGHOST", "")
    if not host or host == "localhost" or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
