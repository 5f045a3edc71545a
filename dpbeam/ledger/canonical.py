"""The one JSON text of a value: what is hashed must have no second spelling."""

from __future__ import annotations

import json
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(value: Any) -> str:
    """The value's text: sorted keys, no spaces, ASCII, finite numbers."""
    return _ENCODER.encode(value)


def parsed(text: str, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """The value that `canonical` wrote.

    Raises:
        ValueError: any other text, be it equal in meaning: it is a change to the ledger.
    """
    try:
        value = json.loads(text)
        right = isinstance(value, kind) and canonical(value) == text
    except RecursionError:  # of thousands of brackets
        right = False
    if not right:
        raise ValueError(f"not the canonical JSON of a {kind.__name__}")
    return value
