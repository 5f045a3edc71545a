"""What a journal states of charges: a type for each kind of fact, from holding an amount to its end."""

from __future__ import annotations

from dataclasses import dataclass

from dpbeam.ledger.allocation import UNALLOCATED, Allocation
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.budget_facts import check_above_zero
from dpbeam.ledger.canonical import parsed
from dpbeam.ledger.checks import REASONS, Reason, check_sha256, check_text, check_whole
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import MAX_TEXT


@dataclass(frozen=True, kw_only=True)
class OfCharge:
    """What all facts of a charge say: which charge, its amount, and its fence from then on."""

    charge_id: str
    amount: Amount
    fence: int

    def __post_init__(self) -> None:
        check_text("charge_id", self.charge_id, most=256)
        check_above_zero("amount", self.amount)
        check_whole("fence", self.fence, least=1)


@dataclass(frozen=True, kw_only=True)
class Reserved(OfCharge):
    """A run holds its amount. `events` is the canonical JSON of what the amount pays for, a list as
    `dpbeam.mechanisms.cost_events` reads it; `plan_digest` and `code` are the plan that the run keeps to and the
    version that runs it. Empty where that wasn't said, as in journals of earlier versions. `allocation` is what the
    amount is taken from."""

    key: str
    owner: Owner
    policy_digest: str
    release_id: str
    path: str | None
    max_attempts: int
    events: str = "[]"
    plan_digest: str = ""
    code: str = ""
    allocation: Allocation = UNALLOCATED

    def __post_init__(self) -> None:
        super().__post_init__()
        parsed(self.events, list)
        for name in ("key", "policy_digest", "release_id"):
            check_text(name, getattr(self, name), most=256)
        if self.path is not None:
            check_text("path", self.path, most=MAX_TEXT)
        check_whole("max_attempts", self.max_attempts, least=1)
        for name, said in self.made_by.items():
            check_text(name, said, most=256)

    @property
    def made_by(self) -> dict[str, str]:
        """What was said of the plan and the code."""
        return {name: said for name in ("plan_digest", "code") if (said := getattr(self, name)) != ""}


@dataclass(frozen=True, kw_only=True)
class Started(OfCharge):
    """The amount is spent for good."""


@dataclass(frozen=True, kw_only=True)
class Refunded(OfCharge):
    """What was held is given back, for nothing was read."""


@dataclass(frozen=True, kw_only=True)
class AttemptFailed(OfCharge):
    """The charge's run says that this attempt is over. `told` is what it found with noise that the charge paid for, in
    words: it was shown, and is shown again to whoever asks for the same release."""

    attempt: int
    reason: Reason
    told: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("attempt", self.attempt, least=1)
        if self.reason not in REASONS:
            raise ValueError(f"reason must be one of {', '.join(REASONS)}")
        for line in self.told:
            check_text("told", line, most=MAX_TEXT, show=False)


@dataclass(frozen=True, kw_only=True)
class Retried(OfCharge):
    """Another attempt began, by another process."""

    attempt: int
    owner: Owner

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("attempt", self.attempt, least=1)


@dataclass(frozen=True, kw_only=True)
class Published(OfCharge):
    """The charge's release is out: where, and the digest of its manifest."""

    manifest_sha256: str
    path: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sha256("manifest_sha256", self.manifest_sha256)
        check_text("path", self.path, most=MAX_TEXT)


@dataclass(frozen=True, kw_only=True)
class Closed(OfCharge):
    """The run was given up; its amount stays spent, and nothing of it is published."""


ChargeFact = Reserved | Started | Refunded | AttemptFailed | Retried | Published | Closed
