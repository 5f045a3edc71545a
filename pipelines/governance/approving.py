"""What goes with approvals beside the ledger's own rules: their files, until when they count, a cap within ceilings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from dpbeam.errors import Refused, UsageError
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.governance.messages import Approval
from dpbeam.policy.guardrails.schema import OrganisationGuardrails

_DAYS = re.compile(r"([1-9][0-9]{0,3})d")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def until(stated: str) -> str:
    """The time that `90d` or `2027-01-31` (its first moment, UTC) stands for, as entries write times.

    Raises:
        UsageError: anything else.
    """
    days = _DAYS.fullmatch(stated)
    try:
        if days is not None:
            end = datetime.now(timezone.utc) + timedelta(days=int(days[1]))
        elif _DATE.fullmatch(stated) is not None:
            end = datetime.fromisoformat(stated).replace(tzinfo=timezone.utc)
        else:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--expires must be a date, such as 2027-01-31, or days, such as 90d, got {stated!r}"
        ) from None
    return end.isoformat(timespec="milliseconds")


def check_cap(guardrails: OrganisationGuardrails, dataset: str, cap: Amount) -> None:
    """Whether a budget's cap is within the guardrails' ceilings. Raises Refused."""
    most = guardrails.budget
    for name, value, limit in (
        ("epsilon", cap.epsilon, most.max_epsilon),
        ("delta", cap.delta, most.max_delta),
    ):
        ceiling = Amount.cap(limit if name == "epsilon" else 1, limit if name == "delta" else 0.5) if limit else None
        if ceiling is not None and not value <= getattr(ceiling, name):
            raise Refused(
                f"dataset {dataset}: its budget's {name} is more than the guardrails allow, budget.max_{name} "
                f"{limit!r}; the cap is {cap}. What you can do: a budget within them, under another dataset's name; or "
                "guardrails that allow it"
            )


def read_approval(path: Path) -> Approval:
    """The approval in a file. Raises UsageError if it can't be read, or is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{path} can't be read; name the file that --output wrote") from None
    return Approval.from_text(text, name=str(path))


def write_approval(path: Path, words: Sequence[Approval]) -> None:
    """Writes the one approval into a new file. Raises UsageError if there isn't one, or the file is there."""
    if len(words) != 1:
        raise UsageError(f"--output takes the word of one --key, got {len(words)}")
    write_text(path, words[0].to_text())


def write_text(path: Path, text: str) -> None:
    """Writes text as it is into a new file. Raises UsageError if it is there, or can't be written."""
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already; name another file with --output") from None
    except OSError as error:
        raise UsageError(f"{path} can't be written ({error.strerror})") from None
