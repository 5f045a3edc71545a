"""Meters: how the losses of a dataset's runs add up to what its budget has spent. One type a meter.

A budget's meter is fixed when the budget is made. The ledger's rules ask of a meter's amounts that they can be added,
subtracted and compared (`Amount`), and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Basic:
    """Σε and Σδ: a run that is (ε, δ)-private spends ε and δ, and both are added up.

    Guarantee: of runs that spent (ε₁, δ₁), (ε₂, δ₂), … all that was released together is (Σε, Σδ)-private, also where
    a run was chosen after the results of earlier ones were seen (Dwork and Roth 2014, theorem 3.16; for ε and δ that
    are chosen so, too: Rogers, Roth, Ullman and Vadhan 2016, basic composition as a filter).
    """

    name: ClassVar[Literal["basic"]] = "basic"

    def __str__(self) -> str:
        return self.name


Meter = Basic
"""The meters: a union, when there is a second."""
BASIC = Basic()
METERS: dict[str, Meter] = {BASIC.name: BASIC}


def meter_named(name: str) -> Meter:
    """The meter that a ledger calls so.

    Raises:
        ValueError: there is none.
    """
    if not isinstance(name, str) or name not in METERS:
        raise ValueError(f"meter must be one of {', '.join(METERS)}, got {name!r}")
    return METERS[name]
