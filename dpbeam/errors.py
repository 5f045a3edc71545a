"""The errors users meet: one small hierarchy, each with the exit code the command line ends with.

A message states the rule, the name, the value *from the policy or the command line*, and the remedy. It never
carries a value read from the data. What a program may want to know of it stands in fields: the remedy, what stays
spent, the run's log.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Self = TypeVar("Self", bound="DpbeamError")


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an attempt that broke off has cost, and how often its charge may be tried again.

    `charge` is the charge's id; `amount` is what it cost, as people read it; `epsilon` is what its budget's meter
    adds up: ε, or else ρ or μ².
    """

    charge: str
    dataset: str
    amount: str
    epsilon: float
    delta: float
    attempt: int
    max_attempts: int
    closed: bool = False
    """Whether no attempt may follow, whatever their number."""

    @property
    def attempts_left(self) -> int:
        return 0 if self.closed else self.max_attempts - self.attempt

    @property
    def remedy(self) -> str:
        """How to go on."""
        if self.closed:
            return "this charge is closed; --refresh makes a new release and charges it anew"
        if self.attempts_left == 0:
            return "these were all attempts of this charge; --refresh makes a new release and charges it anew"
        return "the same command on the same input tries again under the same charge, at no further cost"

    def __str__(self) -> str:
        return (
            f"{self.amount} of dataset {self.dataset} stays spent (charge {self.charge}, attempt {self.attempt} of "
            f"{self.max_attempts}, {self.attempts_left or 'none'} left): {self.remedy}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.charge,
            "dataset": self.dataset,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "attempts_left": self.attempts_left,
        }


class DpbeamError(Exception):
    """Base of all errors that dpbeam raises on purpose. Each argument is one line of the message: a line break within
    one was in a name, and is none of ours. An error of any class here comes whole through pickling."""

    exit_code = 4
    remedy: str | None = None
    """What to do, where it is stated apart from the rest; it ends the message's first line."""
    spent: Spent | None = None
    """What stays spent, of a run that broke off after it was charged."""
    log: str | None = None
    """Where the run's log lies, if one was kept: within the trust zone, for it may hold raw values."""

    def __init__(self, *lines: object, remedy: str | None = None) -> None:
        super().__init__(*lines)
        if remedy is not None:
            self.remedy = remedy

    @property
    def message(self) -> tuple[str, ...]:
        """What is wrong, without what the fields state, a line each."""
        return tuple(map(str, self.args))

    @property
    def lines(self) -> tuple[str, ...]:
        """The whole message."""
        first, *more = self.message or ("",)
        lines = [first if self.remedy is None else f"{first}; {self.remedy}", *more]
        lines += [] if self.spent is None else [f"{self.spent}."]
        lines += [] if self.log is None else [f"Log: {self.log} (it may hold raw values; see docs/exit_codes.md)"]
        return tuple(lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def saying(self: Self, *more: str) -> Self:
        """The same error with more lines below its own."""
        return _made(type(self), (*self.args, *more), vars(self))

    def knowing(self: Self, *, spent: Spent | None = None, log: str | None = None) -> Self:
        """The same error with what stays spent, or where the log lies."""
        known = {"spent": spent, "log": log}
        return _made(
            type(self), self.args, vars(self) | {name: each for name, each in known.items() if each is not None}
        )

    def unspent(self: Self) -> Self:
        """The same error, of a charge that nobody has paid: a throw-away ledger's."""
        return _made(type(self), self.args, {name: each for name, each in vars(self).items() if name != "spent"})

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints of it; see docs/formats.md. `remedy` is null where the message alone states it."""
        remedies = [each for each in (self.remedy, None if self.spent is None else self.spent.remedy) if each]
        return {
            "code": self.exit_code,
            "kind": type(self).__name__,
            "message": "\n".join(self.message),
            "remedy": "; ".join(remedies) or None,
            "charge": None if self.spent is None else self.spent.to_json(),
            "log": self.log,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # By its parts: what a class of ours is constructed from isn't what it says.
        return _made, (type(self), self.args, vars(self))


def _made(kind: type[Self], args: tuple[Any, ...], state: dict[str, Any]) -> Self:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


class UsageError(DpbeamError):
    """A command, flag, policy or file that can't be used as given; nothing was charged."""

    exit_code = 2


class Refused(DpbeamError):
    """The budget, the ledger or a guard says no to what was asked: for it nothing was read and nothing was charged."""

    exit_code = 3


class LedgerError(DpbeamError):
    """The ledger is unreachable, unverifiable or of a version this program doesn't know.

    Found before a run is charged, or after: what it was charged before stays, and the message says so.
    """

    exit_code = 3


class RunFailed(DpbeamError):
    """The run broke off and published nothing. Where it was charged by then, the message says what stays spent."""

    exit_code = 4


class DataError(RunFailed):
    """A column broke a rule declared `fail`. Says column and rule, never a value or a count."""


class Undecided(RunFailed):
    """What a run found with noise doesn't tell how to go on. Its charge is closed: another attempt would draw again,
    and that this one's draws told nothing is seen already."""


class Interrupted(DpbeamError):
    """A signal ended the command; the exit code is the one a shell shows for that signal, 128 and its number."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class InternalError(DpbeamError):
    """A fault of dpbeam's own. The message names the kind of the error and its place in the code, and nothing of what
    it said, which may hold a value."""

    exit_code = 4

    @classmethod
    def of(cls, error: BaseException) -> InternalError:
        """What is said of an error that isn't ours."""
        at = traceback.extract_tb(error.__traceback__)
        place = f" at {Path(at[-1].filename).name}:{at[-1].lineno}" if at else ""
        return cls(
            f"internal error {type(error).__name__}{place}; please report it. `dpbeam recover` settles what was begun"
        )
