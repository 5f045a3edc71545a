"""Keeps raw values out of what a failing step says: any exception becomes an error of ours with a fixed text.

Exceptions of libraries quote the value they choked on, and a runner prints them in its logs, its job page and the
launcher's terminal. So every DoFn here is a
`ContainedDoFn`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.runners.worker import statesampler

from dpbeam.errors import DataError, DpbeamError, RunFailed
from dpbeam.transforms.wire.confidants import confide

T = TypeVar("T")

_MARK = re.compile(r"<dpbeam:(\w+)>(.*?)</dpbeam>", re.DOTALL)
_KINDS: dict[str, type[RunFailed]] = {"DataError": DataError, "RunFailed": RunFailed}


class StepError(RuntimeError):
    """What a worker raises: the text of one of our errors between marks, so that the launcher finds it again."""


def contained(step: str, work: Callable[[], T]) -> T:
    """The result of `work`; what it raises becomes a `StepError` of `step` and, for errors of ours, their own text.

    Guarantee: no exception text of a library leaves, neither as message nor as cause or context: the new error is
    raised after the old one is forgotten, so that no traceback, printed or pickled, can show it.
    """
    is_stopped = False
    message = ""
    try:
        return work()
    except DpbeamError as error:
        kind = type(error).__name__ if type(error).__name__ in _KINDS else "RunFailed"
        message = f"<dpbeam:{kind}>{error}</dpbeam>"
    except GeneratorExit:
        raise
    except KeyboardInterrupt:
        is_stopped = True
    except BaseException as error:  # SystemExit has a text too, and a library's panic is none of Exception
        if not isinstance(error, Exception) and type(error).__module__.startswith("dpbeam."):
            raise  # a signal that asks the run to end
        confide(f"step {step}", error)
        # errno's text is a constant of the system; the error's own text may hold a value
        reason = f" ({os.strerror(error.errno)})" if isinstance(error, OSError) and error.errno else ""
        message = (
            f"<dpbeam:RunFailed>step {step} failed with {type(error).__name__}{reason}; nothing was published</dpbeam>"
        )
    raise KeyboardInterrupt if is_stopped else StepError(message)


class ContainedDoFn(beam.DoFn):
    """A DoFn whose `work` may raise anything: what leaves it is contained. Puts out what `work` yields.

    Guarantee: in a process in which a step of ours was made, or arrived pickled, Beam's workers print no elements.
    """

    step: str

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Called wherever a step is made, and wherever it is unpickled: `__init__` and `setup` aren't."""
        keep_elements_out_of_logs()
        return super().__new__(cls)

    def __dir__(self) -> Iterable[str]:
        """What Beam looks through for state and timers, which no step of ours has: it reads the signature of each
        method that is listed, eight times a step, which took longer than all else that it does with one."""
        return _METHODS

    def work(self, element: Any) -> Iterator[Any]:
        """What `process` would be."""
        raise NotImplementedError

    def process(self, element: Any) -> Iterator[Any]:
        results = contained(self.step, lambda: iter(self.work(element)))
        while True:
            # Only the step's own work is contained here: what later steps raise on an output is theirs.
            result = contained(self.step, lambda: next(results, _END))
            if result is _END:
                return
            yield result


_END = object()
_METHODS = ("start_bundle", "process", "finish_bundle", "setup", "teardown")


def keep_elements_out_of_logs() -> None:
    """Beam's workers print whole elements, raw rows among them, at level DEBUG. Safe to call again."""
    for name in ("operations", "bundle_processor", "data_plane", "sdk_worker"):
        logging.getLogger(f"apache_beam.runners.worker.{name}").addFilter(_no_elements)


def _no_elements(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO


def leave_time_uncounted() -> None:
    """Ends the thread by which Beam's worker sees which step is busy, for the bundle that the caller's step is in.

    It wakes the more seldom the longer a bundle takes, up to every 200 ms, and the bundle waits for it as it ends. What
    is lost are the times of steps, which nothing here shows.
    """
    sampler = statesampler.get_current_tracker()
    if sampler is not None:
        sampler.stop_if_still_running()


def from_runner(error: BaseException) -> RunFailed:
    """The error of ours inside whatever a runner raised; without one, only the name of the runner's error."""
    return ours(error) or RunFailed(
        f"the runner failed with {type(error).__name__}; nothing was published. "
        "The runner's own log (inside the trust zone) says more."
    )


def ours(error: BaseException) -> RunFailed | None:
    """The error of ours inside whatever a runner raised; None where there is none."""
    match = _MARK.search(str(error))
    return None if match is None else _KINDS.get(match[1], RunFailed)(match[2])
