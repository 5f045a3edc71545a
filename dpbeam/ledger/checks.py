"""What names, texts and numbers a ledger keeps: each check raises a ValueError that says the rule."""

from __future__ import annotations

import re
from typing import Literal, get_args

_DATASET = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SHA256 = re.compile(r"(sha256:)?[0-9a-f]{64}")

# Why an attempt failed: a closed set of words, so that no exception's text (it may hold data) enters the journal.
Reason = Literal[
    "data_rule", "input", "pipeline", "control_totals", "staging", "publish", "no_space", "interrupted", "owner_lost",
    "other", "coverage",
]  # fmt: skip
REASONS: tuple[str, ...] = get_args(Reason)


def check_dataset(dataset: str) -> None:
    """Raises ValueError unless `dataset` is a name that a policy may give."""
    if not is_dataset(dataset):
        raise ValueError(
            f"dataset must be 1 to 64 of a-z, 0-9, _ and -, starting with a letter or digit, got {dataset!r}"
        )


def is_dataset(name: object) -> bool:
    """Whether `name` is one that a policy may give to a dataset."""
    return isinstance(name, str) and _DATASET.fullmatch(name) is not None


def check_text(name: str, value: str, *, most: int, show: bool = True) -> None:
    """Raises ValueError unless `value` is text of 1 to `most` characters that a database can keep. `show`: the message
    repeats it."""
    got = f", got {value!r}" if show else ""
    if not isinstance(value, str) or not 1 <= len(value) <= most or "\0" in value:
        raise ValueError(f"{name} must be text of 1 to {most} characters without NUL{got}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be valid Unicode{got}") from None


def check_whole(name: str, value: int, *, least: int) -> None:
    """Raises ValueError unless `value` is an int from `least` on that a database can keep."""
    if type(value) is not int or not least <= value < 2**63:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_sha256(name: str, value: str) -> None:
    """Raises ValueError unless `value` is a digest in hexadecimal."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"{name} must be 64 hexadecimal digits, got {value!r}")
