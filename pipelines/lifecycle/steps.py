"""Steps of the lifecycle, each one function on one value; and how a run takes them, signals or not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from dpbeam.ledger.accounts import Charge
from dpbeam.pipelines.lifecycle import stopping
from dpbeam.pipelines.lifecycle.values import charge_of

Before = TypeVar("Before")
After = TypeVar("After")
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Before, After]):
    """`says` is what a person is told while `work` is done.

    `held`: a signal doesn't tear it, so that what the ledger is told and what the run knows stay the same.
    """

    says: str
    work: Callable[[Before], After]
    held: bool = False

    def __call__(self, value: Before) -> After:
        return self.work(value)


def step(says: str, *, held: bool = False) -> Callable[[Callable[[Before], After]], Step[Before, After]]:
    """Makes a step of a function."""

    def decorate(work: Callable[[Before], After]) -> Step[Before, After]:
        return Step(says=says, work=work, held=held)

    return decorate


class Walk:
    """A run on its way through its steps. `charge` is what the last of them left it with."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.charge: Charge | None = None

    def take(self, step: Step[Before, After], value: Before) -> After:
        """The next value, by one step.

        Raises:
            Stopped: a signal has come.
        """
        stopping.check()
        self._progress(step.says)
        with stopping.held() if step.held else nullcontext():
            after = step(value)
            self.charge = charge_of(after)
        return after
