"""The errors users meet: one small hierarchy, each with the exit code the command line ends with.

A message states the rule, the name, the value *from the policy or the command line*, and the remedy. It never
carries a value read from the data.
"""

from __future__ import annotations

from typing import Any, TypeVar

Self = TypeVar("Self", bound="DpbeamError")


class DpbeamError(Exception):
    """Base of all errors that dpbeam raises on purpose. Each argument is one line of the message: a line break within
    one was in a name, and is none of ours. An error of any class here comes whole through pickling."""

    exit_code = 4

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def saying(self: Self, *more: str) -> Self:
        """The same error with more lines below its own."""
        return _made(type(self), (*self.args, *more), vars(self))

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


class Interrupted(DpbeamError):
    """A signal ended the command; the exit code is the one a shell shows for that signal, 128 and its number."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
