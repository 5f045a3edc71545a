"""What a journal states of a dataset's policies: a type for each kind of fact, and its form as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dpbeam.ledger.checks import check_sha256, check_text, check_whole
from dpbeam.ledger.governance.state import MOST_NAME, MOST_POLICY, Approved, People, digest_of_text
from dpbeam.ledger.identities import is_public_key, is_signature

MOST_REASON = 1000


@dataclass(frozen=True, kw_only=True)
class GuardrailsBound:
    """From now on every policy of the dataset keeps to these guardrails, whose canonical text this is. `approvals` are
    those of people whom the guardrails before named."""

    text: str
    approvals: tuple[Approved, ...] = ()

    def __post_init__(self) -> None:
        check_text("text", self.text, most=MOST_POLICY, show=False)
        People.of(self.text)

    @property
    def digest(self) -> str:
        return digest_of_text(self.text)


@dataclass(frozen=True, kw_only=True)
class PolicySubmitted:
    """A version of the dataset's policy: `text` is its canonical form, whose digest is the policy's; `written` the file
    as it was written, from which that form is made. `key` and `signature` are the submitter's, if it is signed."""

    number: int
    text: str
    written: str
    submitter: str
    key: str | None = None
    signature: str | None = None

    def __post_init__(self) -> None:
        check_whole("number", self.number, least=1)
        check_text("text", self.text, most=MOST_POLICY, show=False)
        check_text("written", self.written, most=MOST_POLICY, show=False)
        check_text("submitter", self.submitter, most=MOST_NAME)
        if (self.key is None) != (self.signature is None):
            raise ValueError("key and signature go together")
        if self.key is not None and not (is_public_key(self.key) and is_signature(self.signature)):
            raise ValueError("key must be a public key, and signature one of its")

    @property
    def digest(self) -> str:
        return digest_of_text(self.text)


@dataclass(frozen=True, kw_only=True)
class OfVersion:
    """What facts of a version say: its number, and the digest of the policy."""

    number: int
    digest: str

    def __post_init__(self) -> None:
        check_whole("number", self.number, least=1)
        check_sha256("digest", self.digest)


@dataclass(frozen=True, kw_only=True)
class PolicyApproved(OfVersion):
    """Somebody other than the submitter signed the version."""

    approval: Approved


@dataclass(frozen=True, kw_only=True)
class PolicyActivated(OfVersion):
    """From now on runs of the dataset are of this version."""


@dataclass(frozen=True, kw_only=True)
class PolicyReverted(OfVersion):
    """From now on runs are of this version again, an earlier one."""

    reason: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("reason", self.reason, most=MOST_REASON)


PolicyFact = GuardrailsBound | PolicySubmitted | PolicyApproved | PolicyActivated | PolicyReverted
PolicyKind = Literal[
    "guardrails_bound", "policy_submitted", "policy_approved", "policy_activated", "policy_reverted"
]  # fmt: skip


def form(fact: PolicyFact) -> tuple[PolicyKind, dict[str, Any]]:
    """What the journal calls the fact, and what it says of it."""
    match fact:
        case GuardrailsBound(text=text, approvals=approvals):
            return "guardrails_bound", {"text": text, "approvals": [each.to_json() for each in approvals]}
        case PolicySubmitted():
            signed = {} if fact.key is None else {"key": fact.key, "signature": fact.signature}
            return "policy_submitted", {
                "number": fact.number,
                "text": fact.text,
                "written": fact.written,
                "submitter": fact.submitter,
                **signed,
            }
        case PolicyApproved(approval=approval):
            return "policy_approved", _version(fact) | {"approval": approval.to_json()}
        case PolicyActivated():
            return "policy_activated", _version(fact)
        case PolicyReverted(reason=reason):
            return "policy_reverted", _version(fact) | {"reason": reason}
        case _:
            raise TypeError(f"{type(fact).__name__} is no fact of a policy")


def read(kind: PolicyKind, details: Mapping[str, Any]) -> PolicyFact:
    """The fact that has this form. Raises KeyError, TypeError or ValueError where none has."""
    match kind:
        case "guardrails_bound":
            return GuardrailsBound(
                text=details["text"], approvals=tuple(Approved(**each) for each in details["approvals"])
            )
        case "policy_submitted":
            return PolicySubmitted(**details)
        case "policy_approved":
            return PolicyApproved(**{**details, "approval": Approved(**details["approval"])})
        case "policy_activated":
            return PolicyActivated(**details)
        case "policy_reverted":
            return PolicyReverted(**details)
        case _:
            raise ValueError("a kind that no fact of a policy has")


def said(fact: PolicyFact) -> str:
    """What the fact says, for people who read a history."""
    match fact:
        case GuardrailsBound(digest=digest, approvals=approvals):
            by = f", approved by {', '.join(each.by for each in approvals)}" if approvals else ""
            return f"every policy keeps to the guardrails {digest}{by}"
        case PolicySubmitted(number=number, digest=digest, submitter=submitter):
            return f"version {number} is {digest}, by {submitter}"
        case PolicyApproved(number=number, approval=approval):
            return f"version {number} is approved by {approval.by} until {approval.expires[:16]}"
        case PolicyActivated(number=number, digest=digest):
            return f"runs are of version {number}, {digest}"
        case PolicyReverted(number=number, digest=digest, reason=reason):
            return f"runs are of version {number} again, {digest}: {reason}"
        case _:
            raise TypeError(f"{type(fact).__name__} is no fact of a policy")


def _version(fact: OfVersion) -> dict[str, Any]:
    return {"number": fact.number, "digest": fact.digest}
