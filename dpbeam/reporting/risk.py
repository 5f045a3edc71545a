"""What a guarantee of some ε means for one person, in plain words; the larger ε is, the plainer they get.

The bound is that of a hypothesis test under differential privacy: whatever somebody knows beforehand, a release of ε
moves their odds that one unit is in the data by a factor of at most e^ε, but for an event of probability δ (Wasserman
and Zhou 2010). That up to 1 is strong and beyond 10 hardly a guarantee are the tiers of Ponomareva et al.
2023 ("How to DP-fy ML"); theirs from 1 to 10 is parted at 3, from where on even odds may become 95 %.
"""

from __future__ import annotations

import math
from typing import Literal

from markupsafe import Markup

from dpbeam.reporting.numbers import about, exact

Tone = Literal["strong", "moderate", "weak", "hardly any"]
_TONES: tuple[tuple[float, Tone], ...] = ((1.0, "strong"), (3.0, "moderate"), (10.0, "weak"))
_EXPONENTS = 700.0
"""Beyond it e^ε overflows a double."""

_WORDS: dict[Tone, str] = {
    "strong": (
        "Somebody who gave it even odds (50 %) that a certain {unit} is in the data can be led by this release to a "
        "belief of about {belief} at most, whatever else they know (but for that extra probability)."
    ),
    "moderate": (
        "This is a moderate guarantee: in the worst case somebody who gave it even odds (50 %) that a certain {unit} "
        "is in the data is led by this release to a belief of about {belief}, whatever else they know (but for that "
        "extra probability). That is a good guess, and no certainty."
    ),
    "weak": (
        "This is a weak guarantee: in the worst case somebody who gave it even odds (50 %) that a certain {unit} is in "
        "the data is led by this release to a belief of about {belief}, which is close to certainty. Attacks seen in "
        "practice seldom reach this bound, but nothing here proves that none does."
    ),
    "hardly any": (
        "This is hardly a guarantee: in the worst case somebody who gave it even odds (50 %) that a certain {unit} is "
        "in the data learns from this release whether it is, but for one chance in {factor}. Treat the release as if a "
        "determined reader could find that out."
    ),
}
_TOGETHER: dict[Tone, str] = {
    "strong": "that is still a strong guarantee: even odds can become a belief of about {belief} at most",
    "moderate": "that is a moderate guarantee: even odds may become a belief of about {belief}",
    "weak": "that is a weak guarantee: even odds may become a belief of about {belief}, which is close to certainty",
    "hardly any": "that is hardly a guarantee: even odds may become as good as certainty",
}


def tone_of(epsilon: float) -> Tone:
    """How strong a guarantee of `epsilon` is, in a word."""
    return next((tone for most, tone in _TONES if epsilon <= most), "hardly any")


def risk(epsilon: float, unit: str) -> Markup:
    """What the release alone may tell about one `unit`, a column's name or `row`, as a sentence or two."""
    return Markup(_WORDS[tone_of(epsilon)]).format(
        unit=Markup("<bdi>{}</bdi>").format(unit), belief=_belief(epsilon), factor=odds_factor(epsilon)
    )


def risk_of_all(epsilon: float) -> str:
    """What all that was charged to the budget, `epsilon` in sum, may tell together, as a sentence."""
    ending = _TOGETHER[tone_of(epsilon)].format(belief=_belief(epsilon))
    return (
        f"All that was charged to this data set’s budget adds up to ε = {exact(epsilon)}, this release included. Taken "
        f"together {ending}."
    )


def odds_factor(epsilon: float) -> str:
    """e^ε, by which odds move at most."""
    return about(math.exp(min(epsilon, _EXPONENTS)))


def _belief(epsilon: float) -> str:
    """What even odds become, in percent: 73 %, 99.97 %. Its distance from 100 keeps a digit."""
    rest = 100 / (1 + math.exp(min(epsilon, _EXPONENTS)))
    if rest >= 1:
        return f"{about(100 - rest)} %"
    places = math.ceil(-math.log10(rest))
    return f"{100 - rest:.{places}f} %"
