"""Meters: how the losses of a dataset's runs add up to what its budget has spent. One type a meter.

A budget's meter is fixed when the budget is made. Each adds up one loss and a δ, both kept as whole numbers (`Amount`).
What a run costs in a meter, and what a cap in (ε, δ) is in it, is derived in `dpbeam.accounting.metering`; why the sums
hold is proved in docs/accounting.md, "Meters".
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
    symbol: ClassVar[str] = "ε"
    field: ClassVar[str] = "epsilon"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Zcdp:
    """Σρ and Σδ: a run that is ρ-zCDP but for a failure of probability δ spends ρ and δ.

    Guarantee: of runs that spent (ρ₁, δ₁), … all that was released together is Σρ-zCDP but for Σδ, also where runs and
    what they spend are chosen after earlier results were seen (Whitehouse, Ramdas, Rogers and Wu, ICML'23, theorem 1).
    """

    name: ClassVar[Literal["zcdp"]] = "zcdp"
    symbol: ClassVar[str] = "ρ"
    field: ClassVar[str] = "rho"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Gdp:
    """Σμ² and Σδ: a run that is no easier to tell than N(0, 1) from N(μ, 1), but for a failure of probability δ, spends
    μ² and δ.

    Guarantee: of runs that spent (μ₁², δ₁), … all that was released together is √Σμ²-GDP but for Σδ, also where runs
    and what they spend are chosen after earlier results were seen (Smith and Thakurta, NeurIPS'22).
    """

    name: ClassVar[Literal["gdp"]] = "gdp"
    symbol: ClassVar[str] = "μ²"
    field: ClassVar[str] = "mu_squared"

    def __str__(self) -> str:
        return self.name


Meter = Basic | Zcdp | Gdp
BASIC = Basic()
ZCDP = Zcdp()
GDP = Gdp()
METERS: dict[str, Meter] = {BASIC.name: BASIC, ZCDP.name: ZCDP, GDP.name: GDP}


def meter_named(name: str) -> Meter:
    """The meter that a ledger calls so.

    Raises:
        ValueError: there is none.
    """
    if not isinstance(name, str) or name not in METERS:
        raise ValueError(f"meter must be one of {', '.join(METERS)}, got {name!r}")
    return METERS[name]
