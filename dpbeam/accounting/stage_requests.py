"""What a stage needs noise for, as requests for its mechanisms: the one rule by which all plans share out noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpbeam.accounting import rounds
from dpbeam.accounting.requests import Request
from dpbeam.errors import UsageError
from dpbeam.mechanisms.targets import PARTITIONS, coverage_stage
from dpbeam.queries import coverage, selections
from dpbeam.queries.automatic import Histogram
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.quantities import Quantity, Values
from dpbeam.queries.query import Noise, Stage
from dpbeam.queries.residual import effect_on_residual, other_leaves
from dpbeam.queries.sharing import quantities, with_own_noise

MOST_NUMBERS = 1 << 24
"""What one unit may move by one mechanism with Gaussian noise: for so many numbers what its sampler doesn't draw is
counted (docs/accounting.md, "What is really drawn")."""


def stage_requests(stage: Stage, needed: Sequence[Quantity] | None = None) -> tuple[Request, ...]:
    """One request for each histogram that bounds are found by, the private selection or each of its rounds, each
    quantity with noise of its own, and the stage's coverage, in this order.

    The weights of all histograms, the selection and all quantities are scaled to sum to the stage's: adding a metric to
    a stage makes that stage's results noisier, and (but for the common scale, which then has one more to carry) leaves
    the other stages alone. A selection that counts units where the quantities count them has the weight of a unit count
    that it serves, too; that of a selection in rounds is shared among them, in root-square. Coverage gets the share
    of the stage's budget that is stated for it: of its ε where noise is Laplace, of its ρ (which goes with the square
    of a weight) where it is Gaussian.

    `needed` stands in for the stage's own quantities, each of which then has noise of its own: what a plan would be
    that doesn't share them.

    Raises:
        UsageError: one unit moves more than `MOST_NUMBERS` by Gaussian noise.
        ValueError: metrics that can't be computed together.
    """
    private, limits = stage.selection, stage.bounds
    every = quantities(stage.metrics) if needed is None else tuple(needed)
    shares = stage.shares_count and needed is None
    weights = [q.weight for q in every] + [h.weight for h in stage.histograms]
    weights += [] if private is None else [private.weight]
    alone = with_own_noise(every, shares_count=shares)
    named = {quantity.name for quantity in alone}
    served = math.fsum(q.weight for q in every if q.name not in named)
    covering = 0.0
    if stage.coverage is not None:
        others = [q.weight for q in alone] + [h.weight for h in stage.histograms]
        others += [] if private is None else [private.weight + served]
        covering = _of_share(stage.coverage, others, _stated(stage))
    unit = stage.weight / math.fsum([*weights, covering])
    hierarchy = None if private is None else private.hierarchy
    leaves = None if hierarchy is None else other_leaves(limits, hierarchy.other_l0)
    return (
        *(_of_histogram(histogram, _stated(stage), unit) for histogram in stage.histograms),
        *(() if private is None else _of_selection(stage.name, private, limits, served, unit)),
        *(_of_quantity(stage.name, quantity, limits, leaves, _stated(stage), unit) for quantity in alone),
        *(_of_coverage(stage, covering * unit) if stage.coverage is not None else ()),
    )


def _of_share(share: float, others: Sequence[float], noise: Noise) -> float:
    """The weight beside `others` that has this share of what all of them cost."""
    rest = share / (1 - share)
    return rest * math.fsum(others) if noise == "laplace" else math.sqrt(rest * math.fsum(w * w for w in others))


def _of_coverage(stage: Stage, weight: float) -> Sequence[Request]:
    """A unit has one vote, which it spreads over what became of its rows: l1 and l2 of at most 1."""
    (votes,) = coverage.votes().quantities
    l1, l2 = votes.sensitivity(Bounds(l0=1, linf=1))
    name, metric = coverage_stage(stage.name), votes.name
    return [Request(stage=name, metric=metric, kind=_stated(stage), weight=weight, l1=l1, l2=l2)]


def _stated(stage: Stage) -> Noise:
    if stage.noise is None:
        raise UsageError(f"stage {stage.name}: noise must be laplace or gaussian where there are metrics, got none")
    return stage.noise


def _of_histogram(histogram: Histogram, noise: Noise, unit: float) -> Request:
    return Request(
        stage=histogram.stage, metric=histogram.metric, kind=noise, weight=histogram.weight * unit, l1=1.0, l2=1.0
    )


def _of_selection(
    stage: str, private: selections.Selection, limits: Bounds, served: float, unit: float
) -> Sequence[Request]:
    match private:
        case selections.DpSips() | selections.Mad() | selections.Mad2r():
            return rounds.requests(stage, private, limits.partitions, private.weight * unit)
        case selections.GaussianThresholding():
            _check_numbers(stage, "unit counts", limits.partitions, "laplace_thresholding")
    return [
        Request(
            stage=stage,
            metric=PARTITIONS,
            kind=private.strategy,
            weight=(private.weight + served) * unit,
            l0=limits.partitions,
            pre_threshold=private.pre_threshold,
        )
    ]


def _of_quantity(
    stage: str, quantity: Quantity, limits: Bounds, leaves: int | None, noise: Noise, unit: float
) -> Request:
    """`leaves` is how many leaves of one unit an `other` takes; None where keys aren't hierarchical."""
    weight = quantity.weight * unit
    if isinstance(quantity, Values):
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
        _check_numbers(stage, quantity.name, quantity.numbers(limits), "laplace noise")
    l1, l2 = quantity.sensitivity(limits)
    other = None if leaves is None else effect_on_residual(quantity, limits, leaves, noise)
    return Request(stage=stage, metric=quantity.name, kind=noise, weight=weight, l1=l1, l2=l2, other=other)


def _check_numbers(stage: str, what: str, count: int, instead: str) -> None:
    if count > MOST_NUMBERS:
        raise UsageError(
            f"stage {stage}: one unit moves up to {count} numbers of {what}; "
            f"with gaussian noise it may be {MOST_NUMBERS} at most: lower l0 or linf, or use {instead}"
        )
