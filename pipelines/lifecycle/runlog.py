"""A run's log: what the runner, libraries and steps that fail say goes in, into one file of the trust zone.

An error of a library quotes the value that it choked on. So none of its text is ever shown; here it is kept for whoever
may read the data anyway, and has to find out why a run failed.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from dpbeam.errors import DpbeamError, InternalError, Refused, UsageError
from dpbeam.pipelines.lifecycle import stopping
from dpbeam.pipelines.lifecycle.steps import Progress
from dpbeam.transforms.wire import confidants

FOLDER_NAME = ".logs"
HEAD = (
    "This log may hold raw values of the data. Keep it where only those may read it who may read the data, and remove "
    "it when you have read it.\n"
)
MAX_ERRORS = 100
MAX_CHARS = 100_000
"""Of one error: its text may quote a whole block of the data."""
_LOGGERS = ("apache_beam", "dpbeam")


class RunLog:
    """The open log of one run.

    Guarantee: nobody but this user can open the file, from the moment it is made: it is new, of mode 0600 whatever the
    umask, and lies in a folder of mode 0700 that is this user's. Nothing of it but its path is shown, journalled or
    published. Assumes that nobody else may write where that folder lies, as staging does.
    """

    def __init__(self, folder: Path, dataset: str) -> None:
        _make_folder(folder)
        now = datetime.now(timezone.utc)
        self.path = (folder / f"{dataset}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.log").absolute()
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.fchmod(self._file, 0o600)
        except OSError as error:
            raise _unusable(folder, error) from None
        self._errors = 0
        self._own_bytes = 0
        self._note(HEAD)

    def fileno(self) -> int:
        return self._file

    def write(self, text: str) -> None:
        """Adds text. A disk that is full fails no run."""
        with suppress(OSError):
            data = text.encode("utf-8", "backslashreplace")
            while data:
                data = data[os.write(self._file, data) :]

    def telling(self, progress: Progress) -> Progress:
        """`progress`, with the step and its time noted here as well."""

        def tell(says: str) -> None:
            self._note(f"{datetime.now(timezone.utc):%H:%M:%S} {says}\n")
            progress(says)

        return tell

    def confide(self, what: str, error: BaseException) -> None:
        """Adds an error with its text and traceback; of the first of them alone."""
        self._errors += 1
        if self._errors <= MAX_ERRORS:
            text = "".join(traceback.format_exception(error))
            cut = text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} … ({len(text):,} characters)\n"
            self.write(f"{what} failed:\n{cut}")

    @property
    def says_more(self) -> bool:
        """Whether more stands in it than the steps that were begun."""
        return os.fstat(self._file).st_size > self._own_bytes

    def close(self, *, keep: bool) -> None:
        """Closes it, and removes it unless it is to be kept."""
        if not keep:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
                self.path.parent.rmdir()  # where no other log lies there
        os.close(self._file)

    def _note(self, text: str) -> None:
        self._own_bytes += len(text.encode("utf-8", "backslashreplace"))
        self.write(text)


class _Handler(logging.Handler):
    def __init__(self, log: RunLog) -> None:
        super().__init__()
        self._log = log
        form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
        form.converter = time.gmtime
        self.setFormatter(form)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # a record that can't be formatted
            self._log.write(self.format(record) + "\n")


@contextmanager
def kept(folder: Path, dataset: str, *, keep: bool = False, loggers: Sequence[str] = _LOGGERS) -> Iterator[RunLog]:
    """Logs a run while it lasts. What the loggers of these names let through is added, at the levels that they have.

    The log is removed at the end of a run that succeeds or that is refused before it was charged, unless `keep`; else
    the error that goes on names it, if there is more in it than the steps.

    Raises:
        UsageError: the folder can't be used. (Nothing was charged.)
        InternalError: the run raised an error that isn't ours; its text is in the log.
    """
    log = RunLog(folder, dataset)
    handler = _Handler(log)
    keeps = keep
    for name in loggers:
        logging.getLogger(name).addHandler(handler)
    try:
        with confidants.confiding(log.confide):
            yield log
    except DpbeamError as error:
        keeps = keep or (log.says_more and not isinstance(error, UsageError | Refused))
        raise error.knowing(log=str(log.path)) if keeps else error from None
    except stopping.ENDS:
        keeps = log.says_more
        raise
    except BaseException as error:
        keeps = True
        log.confide("the run", error)
        raise InternalError.of(error).knowing(log=str(log.path)) from None
    finally:
        for name in loggers:
            logging.getLogger(name).removeHandler(handler)
        log.close(keep=keeps)


def _make_folder(folder: Path) -> None:
    try:
        folder.parent.mkdir(mode=0o775, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            folder.chmod(0o700)
        status = folder.lstat()
    except OSError as error:
        raise _unusable(folder, error) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise UsageError(
            f"the log's folder {folder} must be a folder of this user's alone (mode 0700, no link), for logs may hold "
            "raw values. Nothing was charged",
            remedy="`chmod 700` it, or name another with --log-dir",
        )


def _unusable(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"the log's folder {folder} can't be written ({error.strerror}). Nothing was charged",
        remedy="name another with --log-dir, or another output folder with --output",
    )
