"""A witness in a file, best on another disk or host than the ledger's: replaced whole, locked by a file beside it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dpbeam.ledger.waiting import Patience
from dpbeam.ledger.witness import Kept, Unreachable, damaged

WAIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class FileWitness:
    """`Witness` in the file `path`."""

    path: Path

    @property
    def place(self) -> str:
        return str(self.path)

    def read(self) -> Kept | None:
        try:
            text = self.path.read_text(encoding="ascii")
        except FileNotFoundError:
            return None
        except UnicodeError:
            raise damaged(self.place) from None
        except OSError as error:
            raise self._unreachable(error) from None
        try:
            return Kept.from_text(text)
        except ValueError:
            raise damaged(self.place) from None

    def update(self, change: Callable[[Kept | None], Kept | None]) -> None:
        with self._locked():
            made = change(self.read())
            if made is None:
                return
            draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
            try:
                with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), "w", encoding="ascii") as opened:
                    opened.write(made.to_text())
                    opened.flush()
                    os.fsync(opened.fileno())
                os.replace(draft, self.path)
                _sync_folder(self.path.parent)
            except OSError as error:
                raise self._unreachable(error) from None
            finally:
                draft.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl  # not on Windows, where a witness must be a URL

        patience = Patience(WAIT_S, "other runs at the witness")
        try:
            handle = os.open(
                self.path.with_name(f"{self.path.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise self._unreachable(error) from None
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not patience.wait():
                        raise Unreachable(
                            f"the witness {self.path} was kept locked by others for {WAIT_S:.0f} s; try again"
                        ) from None
                except OSError as error:
                    raise self._unreachable(error) from None
            yield
        finally:
            os.close(handle)

    def _unreachable(self, error: OSError) -> Unreachable:
        return Unreachable(
            f"the witness {self.path} can't be used ({error.strerror}); nothing is charged without it. Check that its "
            "disk is there and writable for this user"
        )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
