"""What a computation randomises, as values: mechanisms, and events made of them. `dpbeam.certify` says what they cost
together (docs/python.md, "What something else costs")."""

from __future__ import annotations

from dpbeam.mechanisms.cost_events import Composed, Event, PoissonSampled, Repeated, from_json, to_json
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
    WeightedThresholding,
)

__all__ = [
    "Composed",
    "Event",
    "Gaussian",
    "GaussianThresholding",
    "Laplace",
    "LaplaceThresholding",
    "Mechanism",
    "PoissonSampled",
    "Repeated",
    "TruncatedGeometric",
    "WeightedThresholding",
    "from_json",
    "to_json",
]
