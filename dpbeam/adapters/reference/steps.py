"""The steps, whole numbers, in which PipelineDP's engine adds up, so that its noise can be added to exact sums.

PyDP's Gaussian on floats rounds each sample by the sample's own exponent, so that the last bits of value + sample tell
of the value. Noise that is drawn apart from any value, and rounded to a step that follows from the plan, tells of none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from dpbeam.adapters.reference.params import ReferenceCall
from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, LaplaceThresholding, Mechanism
from dpbeam.mechanisms.float_grid import vector_step
from dpbeam.mechanisms.noise_width import std
from dpbeam.queries.quantities import Count, Quantity, Squares, Sum, Total, Tree, UnitCount, Vector
from dpbeam.queries.sharing import quantities

COARSEST_BITS = 20
"""A step is at most 2**-20 of the noise's standard deviation, or what values are whole numbers of, if that is less."""
MOST_STEPS = 2.0**39
"""A standard deviation in steps. PyDP's Laplace noise has steps of its own of up to 2**-39 of its scale, so that it is
even in finer ones, and its Gaussian samples are rounded to 2**-49 of themselves at worst."""


def steps(stage: str, call: ReferenceCall, mechanisms: Iterable[Mechanism]) -> Mapping[str, float]:
    """The step of each kind of quantity that a stage adds noise to: a power of two, of which values are multiples.

    Trees of quantiles have none: PyDP adds whole numbers to their counts.

    Raises:
        UsageError: some noise is so large that its low bits would show on values as fine as these.
    """
    by_kind: dict[str, float] = {}
    by_name = {mechanism.metric: mechanism for mechanism in mechanisms}
    for quantity in quantities(call.folded):
        noise = by_name.get(quantity.name, by_name.get("partitions") if isinstance(quantity, UnitCount) else None)
        if isinstance(quantity, Tree) or not isinstance(
            noise, Laplace | Gaussian | LaplaceThresholding | GaussianThresholding
        ):
            continue
        width, finest = std(noise), _finest(quantity, call)
        if not 0 < width <= MOST_STEPS * finest:
            raise UsageError(
                f"stage {stage}: the noise of {quantity.name} would be {width:.4g}, more than PipelineDP's engine can "
                f"add to values in steps of {finest:.4g}; lower the bounds, raise run.epsilon, or run without "
                "--engine=pipelinedp"
            )
        by_kind[quantity.kind] = min(finest, math.ldexp(1.0, math.frexp(width)[1] - 1 - COARSEST_BITS))
    return by_kind


def _finest(quantity: Quantity, call: ReferenceCall) -> float:
    """What PipelineDP's exact sums are whole numbers of."""
    match quantity:
        case Count() | UnitCount():
            return 1.0
        case Vector():
            return vector_step(quantity.max_norm)
        case Sum() | Total() if call.grid is not None:  # the middle of the bounds may lie at half a step
            return call.grid.step / 2
        case Squares() if call.grid is not None:
            return (call.grid.step / 2) ** 2
    raise ValueError(f"PipelineDP adds up no {quantity.kind}")
