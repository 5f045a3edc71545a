"""The noise of a stage: each quantity's mechanism, ready to be drawn."""

from __future__ import annotations

from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.queries.quantities import Values


def noises(spec: StageSpec) -> dict[str, AdditiveNoise]:
    """The noise of every quantity of a stage that has its own, by the quantity's name; not of those that a threshold
    keeps, whose noise is in the threshold.

    Raises:
        ValueError: a quantity without a mechanism.
    """
    needed = spec.with_own_noise
    additive = [quantity for quantity in needed if not isinstance(quantity, Values)]
    for quantity in needed:
        if quantity.name not in (spec.noise if quantity in additive else spec.thresholds):
            raise ValueError(
                f"stage {spec.name}: quantity {quantity.name} has no noise; a plan must give it a mechanism"
            )
    return {quantity.name: AdditiveNoise(mechanism=spec.noise[quantity.name]) for quantity in additive}
