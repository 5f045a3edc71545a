"""What a stage needs noise for in, the requests for its mechanisms out, by the rule that all plans share out noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from dpbeam.accounting import rounds
from dpbeam.accounting.requests import Request
from dpbeam.errors import UsageError
from dpbeam.policy.schema.auto import Histogram
from dpbeam.policy.schema.policy import Private
from dpbeam.query.bounds import Bounds
from dpbeam.query.quantities import Quantity, noisy_by_themselves, numbers
from dpbeam.query.residual import in_one_other, other_leaves

_Noise = Literal["laplace", "gaussian"]

MOST_NUMBERS = 1 << 24
"""What one unit may move by one mechanism with Gaussian noise: for so many numbers what its sampler doesn't draw is
counted (docs/accounting.md, "What is really drawn")."""


def stage_requests(
    stage: str,
    needed: Sequence[Quantity],
    limits: Bounds,
    *,
    noise: _Noise | None,
    private: Private | None,
    counting: str | None,
    weight: float,
    searches: Sequence[Histogram] = (),
) -> tuple[Request, ...]:
    """One request for each histogram that bounds are found by, the private selection or each of its rounds, and each
    quantity with noise of its own, in this order.

    The weights of all histograms, the selection and all quantities are scaled to sum to `weight`. A selection that
    counts units where the quantities count them (by the strategy `counting`; None where there is none) has the weight
    of a unit count that it serves, too; that of a selection in rounds is shared among them, in root-square.

    Raises:
        UsageError: something needs noise, and `noise` is None; or one unit moves more than `MOST_NUMBERS` by Gaussian
            noise.
    """
    weights = [*(q.weight for q in needed), *(h.weight for h in searches), *([private.weight] if private else [])]
    unit = weight / math.fsum(weights)
    alone = noisy_by_themselves(needed, counting)
    named = {quantity.name for quantity in alone}
    served = math.fsum(q.weight for q in needed if q.name not in named)
    leaves = other_leaves(limits, private.other_l0) if private and private.hierarchical else None
    return (
        *(_of_histogram(histogram, _stated(noise, stage), unit) for histogram in searches),
        *(_of_selection(stage, private, limits, served, unit) if private else ()),
        *(_of_quantity(stage, quantity, limits, leaves, _stated(noise, stage), unit) for quantity in alone),
    )


def _stated(noise: _Noise | None, stage: str) -> _Noise:
    if noise is None:
        raise UsageError(f"stage {stage}: noise must be laplace or gaussian where there are metrics, got none")
    return noise


def _of_histogram(histogram: Histogram, noise: _Noise, unit: float) -> Request:
    return Request(
        stage=histogram.stage, metric=histogram.metric, kind=noise, weight=histogram.weight * unit, l1=1.0, l2=1.0
    )


def _of_selection(stage: str, private: Private, limits: Bounds, served: float, unit: float) -> Sequence[Request]:
    match private.strategy:
        case "truncated_geometric" | "laplace_thresholding" | "gaussian_thresholding" as kind:
            if kind == "gaussian_thresholding":
                _check_numbers(stage, "unit counts", limits.partitions, "laplace_thresholding")
            return [
                Request(
                    stage=stage,
                    metric="partitions",
                    kind=kind,
                    weight=(private.weight + served) * unit,
                    l0=limits.partitions,
                    pre_threshold=private.pre_threshold,
                )
            ]
        case "dp_sips" | "mad" | "mad2r":
            return rounds.requests(stage, private, limits.partitions, private.weight * unit)
        case other:
            raise ValueError(f"strategy {other} has no request")


def _of_quantity(
    stage: str, quantity: Quantity, limits: Bounds, leaves: int | None, noise: _Noise, unit: float
) -> Request:
    """`leaves` is how many leaves of one unit an `other` takes; None where keys aren't hierarchical."""
    weight = quantity.weight * unit
    if quantity.kind == "values":
        # A threshold on the noisy unit counts of all (partition, value) pairs: of those, l0 is what one unit is in.
        if noise == "gaussian":
            _check_numbers(stage, quantity.name, limits.of_values(quantity.max_values), "laplace noise")
        return Request(
            stage=stage,
            metric=quantity.name,
            kind="laplace_thresholding" if noise == "laplace" else "gaussian_thresholding",
            weight=weight,
            l0=limits.of_values(quantity.max_values),
            pre_threshold=quantity.pre_threshold,
        )
    if noise == "gaussian":
        _check_numbers(stage, quantity.name, numbers(quantity, limits), "laplace noise")
    l1, l2 = quantity.sensitivity(limits)
    other = None if leaves is None else in_one_other(quantity, limits, leaves, noise)
    return Request(stage=stage, metric=quantity.name, kind=noise, weight=weight, l1=l1, l2=l2, other=other)


def _check_numbers(stage: str, what: str, count: int, instead: str) -> None:
    if count > MOST_NUMBERS:
        raise UsageError(
            f"stage {stage}: one unit moves up to {count} numbers of {what}; "
            f"with gaussian noise it may be {MOST_NUMBERS} at most: lower l0 or linf, or use {instead}"
        )
