"""What somebody at a terminal sees of a release while it is made, and where what isn't for them goes: the run's log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpbeam.pipelines.cli.printing import console, detail, note

if TYPE_CHECKING:
    from rich.status import Status

    from dpbeam.pipelines.lifecycle.values import Published, Request


@dataclass(frozen=True)
class Watch:
    """Where a release's steps, and shares of what is done, are shown; nowhere without a status line."""

    status: Status | None = None

    def progress(self, step: str) -> None:
        if self.status is not None:
            self.status.update(f"{step} …")
            console(stderr=True).print(f"· {step}", style="dim")

    def share(self, what: str, done: int, of: int) -> None:
        if self.status is not None:
            self.status.update(f"{what.capitalize()}: {100 * done // of} % …")

    def release(
        self, request: Request, *, logs: Path | None = None, keep_log: bool = False, remarks: bool = True
    ) -> Published:
        """Makes the release; its log lies in `logs`, or beside staging. Raises as `make_release`."""
        from dpbeam.pipelines.cli import capture
        from dpbeam.pipelines.lifecycle import runlog
        from dpbeam.pipelines.lifecycle.release import make_release
        from dpbeam.transforms.wire.progress import listening

        folder = request.output / runlog.FOLDER_NAME if logs is None else logs
        with (
            runlog.kept(folder, request.query.dataset, keep=keep_log, loggers=("",)) as log,
            capture.captured(log),
            listening(self.share),
        ):
            detail(f"log {log.path}, {'kept' if keep_log else 'removed if all goes well'}; it may hold raw values")
            return make_release(request, log.telling(self.progress), note if remarks else lambda says: None)


@contextmanager
def watched(*, silent: bool) -> Iterator[Watch]:
    """A watch for the time that a command takes."""
    if silent:
        yield Watch()
        return
    with console(stderr=True).status("Starting") as status:
        yield Watch(status)
