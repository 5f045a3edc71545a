"""Files with a secret: for their user alone, durable, whole or not at all, and never in a repository."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from dpbeam.errors import UsageError

_MOST_BYTES = 2**20


def read_private(path: Path, what: str) -> bytes:
    """The file's content. `what` names it in messages.

    Raises:
        UsageError: it can't be read, or others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(f"{what} {path} can't be read ({error.strerror})") from None
    if os.name != "nt" and mode & 0o077:
        raise UsageError(
            f"{what} {path} may be read by others (mode {mode:04o}); `chmod 600 {path}`, and make another if they may "
            "have"
        )
    return content


def write_private(path: Path, content: bytes, what: str, *, exists: str, replace: bool = False) -> None:
    """Writes the file. `exists` says what to do where there is one already, which only `replace` may take the place of.

    Raises:
        UsageError: there is a file; it would lie in a repository; or it can't be written.
    """
    path = path.absolute()
    for folder in path.resolve().parents:
        if (folder / ".git").exists():
            raise UsageError(f"{path} lies in the repository {folder}, where others would get it; keep it elsewhere")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(draft, path)
        else:
            os.link(draft, path)
    except FileExistsError:
        raise UsageError(f"{path} exists; {exists}") from None
    except OSError as error:
        raise UsageError(f"{what} {path} can't be written ({error.strerror})") from None
    finally:
        draft.unlink(missing_ok=True)
