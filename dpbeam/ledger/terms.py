"""What a budget is held under beside its cap, and a charge beside its amount; each a value that is kept as JSON.

A ledger of an earlier version has neither: `Terms()` and `ChargeDetails()`, whose JSON is {}. A field is written only
where it isn't its default, so that what was stored before a field was there reads, and compares, as it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpbeam.ledger.allocation import UNALLOCATED, Allocation
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.governance.state import UNGOVERNED, Governance
from dpbeam.ledger.meters import BASIC, Meter, meter_named


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a dataset's budget is held under: its policies' versions, and the guardrails above them. `stated` is the cap
    in (ε, δ) that a cap in ρ or μ² was made from; None where nobody stated one, and of `basic`, whose cap it is.
    `moved_to` is where the ledger went on, if it did: then nothing is charged here."""

    governance: Governance = UNGOVERNED
    stated: Amount | None = None
    moved_to: str | None = None

    def __post_init__(self) -> None:
        if self.stated is not None and self.stated.meter != BASIC:
            raise ValueError("stated must be an amount of ε and δ")
        if not isinstance(self.moved_to, str | None):
            raise ValueError("moved_to must be text")

    def to_json(self) -> dict[str, Any]:
        units = self.stated
        said: dict[str, Any] = {} if self.governance == UNGOVERNED else {"governance": self.governance.to_json()}
        if units is not None:
            said["stated"] = {"epsilon_units": units.epsilon, "delta_units": units.delta}
        return said if self.moved_to is None else said | {"moved_to": self.moved_to}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Terms:
        """What `to_json` made. Raises ValueError of anything else."""
        if not isinstance(stored, Mapping):
            raise ValueError("terms are an object")
        stated = None
        if "stated" in stored:
            units = stored["stated"]
            if not isinstance(units, Mapping) or units.keys() != {"epsilon_units", "delta_units"}:
                raise ValueError("a stated cap has epsilon_units and delta_units")
            stated = Amount(epsilon=units["epsilon_units"], delta=units["delta_units"])
        governance = Governance.from_json(stored.get("governance", {}))
        terms = cls(governance=governance, stated=stated, moved_to=stored.get("moved_to"))
        if terms.to_json() != stored:
            raise ValueError("terms that this version doesn't know")
        return terms


@dataclass(frozen=True, kw_only=True)
class ChargeDetails:
    """What a charge's columns don't say: the meter of its amount, and what it is taken from."""

    meter: Meter = BASIC
    allocation: Allocation = UNALLOCATED

    def to_json(self) -> dict[str, Any]:
        said: dict[str, Any] = {} if self.meter == BASIC else {"meter": self.meter.name}
        return said if self.allocation == UNALLOCATED else said | {"allocation": self.allocation.to_json()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ChargeDetails:
        """What `to_json` made. Raises ValueError of anything else."""
        if not isinstance(stored, Mapping):
            raise ValueError("details are an object")
        details = cls(
            meter=meter_named(stored["meter"]) if "meter" in stored else BASIC,
            allocation=Allocation.from_json(stored.get("allocation", {})),
        )
        if details.to_json() != stored:
            raise ValueError("details that this version doesn't know")
        return details


NO_TERMS = Terms()
NO_DETAILS = ChargeDetails()
