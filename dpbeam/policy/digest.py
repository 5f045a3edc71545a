"""A policy comes in; the digest of all that its guarantee and its results depend on goes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpbeam.policy.schema.policy import Policy


def policy_digest(policy: Policy, public_files: Mapping[str, str]) -> str:
    """`sha256:` and 64 hexadecimal digits of the policy's canonical form.

    Two policies have the same digest if they say the same, whatever the order of keys, the comments and the defaults
    spelled out. Where the input lies, where the output goes and in how many files it is staged are left out: flags may
    override the first two, and no result depends on them. So is the text for readers (`about`): a new telephone number
    must not cost a release. Of a file of public partitions its SHA-256 is included (`public_files`, by stage), not its
    name.
    """
    # Without defaults: a key that a later version adds leaves the digests of all policies without it as they were.
    plain = policy.model_dump(
        mode="json", exclude={"source": {"path"}, "output": True, "about": True}, exclude_defaults=True
    )
    for stage, shown in zip(policy.stages, plain["stages"], strict=True):
        for metric, entry in zip(stage.metrics, shown["metrics"], strict=True):
            entry[metric.kind]["name"] = metric.result_name
            implementation = metric.args.implementation
            if implementation is not None:  # what it computes lies in code, so that belongs to what the policy says
                entry[metric.kind]["implementation"] = implementation
        if stage.name in public_files:
            shown["partitions"]["public"]["file"] = public_files[stage.name]
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
