"""What a dataset's budget is held under: the guardrails it is bound to, the versions of its policy, the active one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dpbeam.ledger.canonical import canonical
from dpbeam.ledger.checks import check_sha256, check_text, check_whole
from dpbeam.ledger.identities import is_public_key, is_signature

MOST_NAME = 256
MOST_POLICY = 2_000_000
"""The most characters of a policy's text, or of guardrails'."""


def digest_of_text(text: str) -> str:
    """`sha256:` and the digest of a canonical text: what policies, guardrails and plans are called by."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def check_time(name: str, time: str) -> None:
    """Raises ValueError unless `time` is written as entries write it: ISO 8601 to the millisecond, in UTC. So times
    compare as texts do."""
    try:
        read = datetime.fromisoformat(time)
        right = read.utcoffset() == timedelta(0) and read.isoformat(timespec="milliseconds") == time
    except (ValueError, TypeError):
        right = False
    if not right:
        raise ValueError(f"{name} must be a time such as 2027-01-31T00:00:00.000+00:00, got {time!r}")


@dataclass(frozen=True, kw_only=True)
class Approved:
    """Somebody's signature under a version, or under guardrails, that counts until `expires`."""

    by: str
    expires: str
    signature: str

    def __post_init__(self) -> None:
        check_text("by", self.by, most=MOST_NAME)
        check_time("expires", self.expires)
        if not is_signature(self.signature):
            raise ValueError("signature must be 128 hexadecimal digits")

    def to_json(self) -> dict[str, str]:
        return {"by": self.by, "expires": self.expires, "signature": self.signature}


@dataclass(frozen=True, kw_only=True)
class PolicyVersion:
    """One version of a dataset's policy: numbers count from 1. `key` is the public key that its submission was signed
    with, if it was; `was_active`: runs were allowed it, now or earlier."""

    number: int
    digest: str
    submitter: str
    key: str | None = None
    approvals: tuple[Approved, ...] = ()
    was_active: bool = False

    def __post_init__(self) -> None:
        check_whole("number", self.number, least=1)
        check_sha256("digest", self.digest)
        check_text("submitter", self.submitter, most=MOST_NAME)
        if self.key is not None and not is_public_key(self.key):
            raise ValueError("key must be a public key")
        if not isinstance(self.was_active, bool):
            raise ValueError("was_active must be true or false")

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "digest": self.digest,
            "submitter": self.submitter,
            "key": self.key,
            "approvals": [each.to_json() for each in self.approvals],
            "was_active": self.was_active,
        }


@dataclass(frozen=True, kw_only=True)
class People:
    """Who may approve and who may submit, by name, each with a public key; `needed` approvals make a version usable."""

    needed: int
    approvers: Mapping[str, str]
    submitters: Mapping[str, str]

    @classmethod
    def of(cls, guardrails: str | None) -> People:
        """Those whom a text of guardrails names. Raises ValueError if it isn't canonical JSON of such an object."""
        if guardrails is None:
            return cls(needed=0, approvers={}, submitters={})
        stated = json.loads(guardrails)
        if not isinstance(stated, dict) or canonical(stated) != guardrails:
            raise ValueError("guardrails must be the canonical JSON of an object")
        needed, approvers = stated.get("approvals", 0), stated.get("approvers", {})
        submitters = stated.get("submitters", {})
        if not isinstance(approvers, dict) or not isinstance(submitters, dict):
            raise ValueError("approvers and submitters must be objects of names and keys")
        if type(needed) is not int or not 0 <= needed <= len(approvers):
            raise ValueError("approvals must be a whole number from 0 to that of the approvers")
        keys = [*approvers.values(), *submitters.values()]
        if not all(map(is_public_key, keys)) or len(set(keys)) < len(keys) or set(approvers) & set(submitters):
            raise ValueError("approvers and submitters must have public keys, each person one, and each key one person")
        return cls(needed=needed, approvers=approvers, submitters=submitters)

    def name_of(self, key: str) -> str | None:
        """Whose public key it is."""
        known = {**self.submitters, **self.approvers}
        return next((name for name, public in known.items() if public == key), None)


@dataclass(frozen=True, kw_only=True)
class Governance:
    """`guardrails` is the canonical text of those that the budget is bound to; `active` the number of the version that
    alone may be run, None where every policy may."""

    guardrails: str | None = None
    versions: tuple[PolicyVersion, ...] = ()
    active: int | None = None

    def __post_init__(self) -> None:
        if [version.number for version in self.versions] != list(range(1, len(self.versions) + 1)):
            raise ValueError("versions must be numbered from 1")
        if self.active is not None and not 1 <= self.active <= len(self.versions):
            raise ValueError("active must be the number of a version")
        People.of(self.guardrails)

    @property
    def people(self) -> People:
        return People.of(self.guardrails)

    @property
    def guardrails_digest(self) -> str | None:
        return None if self.guardrails is None else digest_of_text(self.guardrails)

    @property
    def active_version(self) -> PolicyVersion | None:
        return None if self.active is None else self.versions[self.active - 1]

    def to_json(self) -> dict[str, Any]:
        stated = {"guardrails": self.guardrails, "active": self.active}
        versions = [version.to_json() for version in self.versions]
        return {name: each for name, each in stated.items() if each is not None} | (
            {"versions": versions} if versions else {}
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Governance:
        """What `to_json` made. Raises ValueError of anything else."""
        try:
            versions = tuple(
                PolicyVersion(**version | {"approvals": tuple(Approved(**each) for each in version["approvals"])})
                for version in stored.get("versions", [])
            )
        except (KeyError, TypeError):
            raise ValueError("a version of a policy that this version doesn't know") from None
        made = cls(guardrails=stored.get("guardrails"), versions=versions, active=stored.get("active"))
        if made.to_json() != stored:
            raise ValueError("a governance that this version doesn't know")
        return made


UNGOVERNED = Governance()
