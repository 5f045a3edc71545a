"""What the engine knows of each family of metrics: the kernels of its quantities, and how its results are made."""

from __future__ import annotations

from dpbeam.engine.aggregation.kernels import KERNELS, Kernel, Q
from dpbeam.engine.metrics.base import Drawn, result_columns
from dpbeam.queries import metrics

metrics.load(__name__)

__all__ = ["Drawn", "kernel_of", "result_columns"]


def kernel_of(quantity: Q) -> Kernel[Q]:
    """How a quantity is held, filled, merged and given noise.

    Raises:
        KeyError: the engine has no kernel for its type.
    """
    return KERNELS[type(quantity)]
