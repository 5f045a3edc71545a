"""A policy comes in; the digest of all that its guarantee and its results depend on goes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpbeam.policy.schema import Policy


def policy_digest(policy: Policy, public_files: Mapping[str, str]) -> str:
    """`sha256:` and 64 hexadecimal digits of the policy's canonical form.

    Two policies have the same digest if they say the same, whatever the order of keys, the comments and the defaults
    spelled out. Where the input lies and where the output goes is left out, since flags may override them; what the
    files of public partitions hold is included (`public_files`: their SHA-256 by stage).
    """
    plain = policy.model_dump(mode="json", exclude={"source": {"path"}, "output": {"path"}})
    plain["public_files"] = dict(public_files)
    canonical = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
