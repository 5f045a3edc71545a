"""The facts of a journal that are of the budget, and of no charge; those of charges are in `entries`."""

from __future__ import annotations

from dataclasses import dataclass

from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.checks import check_dataset, check_text
from dpbeam.ledger.meters import BASIC, Meter
from dpbeam.ledger.scope import MAX_TEXT, Protected
from dpbeam.ledger.terms import NO_TERMS, Terms


@dataclass(frozen=True, kw_only=True)
class BudgetCreated:
    """A dataset got its budget. `ledger` names the ledger that it was made in; `protected` is None if the first charge
    was to say so; `terms` are what it is held under beside its cap."""

    cap: Amount
    meter: Meter
    actor: str
    ledger: str
    protected: Protected | None
    terms: Terms = NO_TERMS

    def __post_init__(self) -> None:
        check_above_zero("cap", self.cap)
        if self.cap.meter != self.meter or self.cap.delta == 0:
            raise ValueError(f"cap must be of the meter {self.meter}, with a delta above 0, got {self.cap}")
        for name in ("actor", "ledger"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text")


@dataclass(frozen=True, kw_only=True)
class UnitBound:
    """From now on the budget protects one unit, and no other."""

    protected: Protected


@dataclass(frozen=True, kw_only=True)
class SourceAccepted:
    """From now on the dataset's name stands for these sources as well. `also_of` are other datasets that read them;
    `asked`: somebody said that they are meant."""

    sources: tuple[str, ...]
    also_of: tuple[str, ...]
    asked: bool

    def __post_init__(self) -> None:
        if not self.sources or len(set(self.sources)) < len(self.sources):
            raise ValueError("sources must be one or more, each named once")
        for source in self.sources:
            check_text("source", source, most=MAX_TEXT, show=False)
        for dataset in self.also_of:
            check_dataset(dataset)
        if not isinstance(self.asked, bool):
            raise ValueError("asked must be true or false")


def check_above_zero(name: str, amount: Amount) -> None:
    """Raises ValueError of an amount of nothing; a δ of 0 is one of other meters than `basic`."""
    if not (amount.epsilon > 0 and (amount.delta > 0 or amount.meter != BASIC)):
        raise ValueError(f"{name} must be above 0 in {amount.meter.field} and delta, got {amount}")
