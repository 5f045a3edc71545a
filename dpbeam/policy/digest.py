"""The digest of a policy: of all that its guarantee and its results depend on, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest_of(canonical_form: Mapping[str, Any]) -> str:
    """`sha256:` and 64 hexadecimal digits of plain data, whatever the order of their keys.

    Raises:
        ValueError: a number that isn't finite.
    """
    text = json.dumps(canonical_form, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
