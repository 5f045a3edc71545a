"""The errors users meet: one small hierarchy, each with the exit code the command line ends with.

A message states the rule, the name, the value *from the policy or the command line*, and the remedy. It never
carries a value read from the data.
"""

from __future__ import annotations


class DpbeamError(Exception):
    """Base of all errors that dpbeam raises on purpose. Each argument is one line of the message: a line break within
    one was in a name, and is none of ours."""

    exit_code = 4

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "\n".join(self.lines)


class UsageError(DpbeamError):
    """A command, flag or file that can't be used as given."""

    exit_code = 2


class Refused(DpbeamError):
    """The budget, the ledger or a guard says no; nothing was read and nothing was charged."""

    exit_code = 3


class LedgerError(Refused):
    """The ledger is unreachable, unverifiable or of a version this program doesn't know."""


class RunFailed(DpbeamError):
    """The run broke off; nothing was published."""

    exit_code = 4


class DataError(RunFailed):
    """A column broke a rule declared `fail`. Says column and rule, never a value or a count."""


class Interrupted(DpbeamError):
    """A signal ended the command; the exit code is the one a shell shows for that signal, 128 and its number."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
