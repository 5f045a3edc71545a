"""What a policy's keys stand for: read and resolved once, when the policy is loaded.

Guarantee: what a file of public partitions or a table that is looked up holds belongs to the policy. So the digest of
each is here beside it, and enters the policy's own. All of it reaches a `Policy` while that is made, as the context of
its validation, and nothing changes it afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from dpbeam.queries.source import Derived


@dataclass(frozen=True, kw_only=True)
class PublicPartitions:
    """What the public partitions of a policy's stages are, and the SHA-256 of those that lie in files, both by stage
    name."""

    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DerivedColumns:
    """A policy's derived columns, typed, each behind those that it uses, with the tables that are looked up; and the
    SHA-256 of those tables that lie in files, by the column's name."""

    columns: tuple[Derived, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """All that a policy is made with beside what it says."""

    public: PublicPartitions = field(default_factory=PublicPartitions)
    derived: DerivedColumns = field(default_factory=DerivedColumns)
