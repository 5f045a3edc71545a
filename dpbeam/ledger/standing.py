"""Where a dataset stands after an entry of its journal: all that a later charge depends on.

The journal states it every `EVERY` entries or so (`Anchored`), so that a charge is verified from there on and costs the
same after 1,000 entries and after 1,000,000.

Guarantee: what a charge is checked against follows, entry by entry, from a state that was verified when it was written
down, and that is an entry of the hash chain itself: to change it, every entry after it has to be forged up to the head,
just as if an amount were changed. A whole replay (`dpbeam budget verify`) compares each with what the entries before
it amount to. Assumes no more than the chain does: that nobody rewrites all of it. Who can is stopped by signed
checkpoints and a witness, and not by reading the history once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpbeam.ledger.accounts import OPEN, Balance, Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.meters import Meter, meter_named
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import Protected
from dpbeam.ledger.terms import ChargeDetails, Terms

EVERY = 256
"""The entries between two statements of where a dataset stands; more where as many charges are open, each of which is
written out, so that this stays a fixed share of the journal."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A dataset's balance, whom it protects, its sources, terms and highest fence, the public key that its checkpoints
    are signed with ("": none), and the charges that aren't finished, by increasing fence."""

    balance: Balance
    fence: int
    protected: Protected | None
    sources: tuple[str, ...]
    terms: Terms
    key: str
    open: tuple[Charge, ...]

    def __post_init__(self) -> None:
        if type(self.fence) is not int or self.fence < 0 or not isinstance(self.key, str):
            raise ValueError("fence must be a whole number, key must be text")
        fences = [charge.fence for charge in self.open]
        if fences != sorted(set(fences)) or any(charge.state not in OPEN for charge in self.open):
            raise ValueError("open must be unfinished charges by increasing fence")

    def to_json(self) -> dict[str, Any]:
        balance = self.balance
        return {
            "meter": balance.meter.name,
            "cap": _units(balance.cap),
            "spent": _units(balance.spent),
            "held": _units(balance.held),
            "fence": self.fence,
            "protected": None if self.protected is None else self.protected.to_json(),
            "sources": list(self.sources),
            "terms": self.terms.to_json(),
            "key": self.key,
            "open": [_charge_json(charge) for charge in self.open],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Standing:
        """What `to_json` made. Raises ValueError, KeyError or TypeError of anything else."""
        whom, meter = stored["protected"], meter_named(stored["meter"])
        return cls(
            balance=Balance(meter=meter, **{name: _amount(stored[name], meter) for name in ("cap", "spent", "held")}),
            fence=stored["fence"],
            protected=None if whom is None else Protected(unit=whom["privacy_unit"], neighbours=whom["neighbours"]),
            sources=tuple(stored["sources"]),
            terms=Terms.from_json(stored["terms"]),
            key=stored["key"],
            open=tuple(_charge(each) for each in stored["open"]),
        )


def _charge_json(charge: Charge) -> dict[str, Any]:
    return charge.to_json() | {"amount": _units(charge.amount), "details": charge.details.to_json()}


def _charge(stored: Mapping[str, Any]) -> Charge:
    details = ChargeDetails.from_json(stored["details"])
    parts = {
        "amount": _amount(stored["amount"], details.meter),
        "owner": Owner(**stored["owner"]),
        "details": details,
    }
    return Charge(**{**stored, **parts})


def _units(amount: Amount) -> list[int]:
    return [amount.epsilon, amount.delta]


def _amount(units: list[int], meter: Meter) -> Amount:
    epsilon, delta = units
    return Amount(epsilon=epsilon, delta=delta, meter=meter)
