"""What each mechanism of a query's plan must be, whatever its noise.

It is derived here a second time, from the stage's own fields, so that a slip in the plan (a forgotten mechanism, a
swapped pair, a wrong l0) can't hide behind itself. This repeats what the plan knows, on purpose: nothing here uses the
quantities, requests or sensitivities that the plan is made from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpbeam.accounting.check_other import Leaves, by_leaves
from dpbeam.accounting.expectations import ExpectedQuantity, expected_quantities
from dpbeam.errors import Refused
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.query import Stage
from dpbeam.queries.selections import DpSips, Mad, Mad2r, TruncatedGeometric


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a mechanism must be, whatever its noise. `weight` is up to a factor common to the whole plan."""

    stage: str
    metric: str
    kind: str
    l1: float
    l2: float
    l0: int
    pre_threshold: int
    weight: float
    strategy: str | None = None
    least_bias: float = 1.0
    leaves: Leaves | None = None


def expected(stages: Sequence[Stage]) -> list[Expected]:
    """What the plan must consist of, in order.

    Guarantee: each noisy quantity, private selection and histogram of the stages is in it, with the most that one
    privacy unit can do to it within the stage's bounds.

    Raises:
        Refused: a metric isn't bounded, or no mechanism is known for it.
    """
    return [mechanism for stage in stages for mechanism in _from_stage(stage)]


def _from_stage(stage: Stage) -> Iterator[Expected]:
    l0 = stage.bounds.l0 or stage.bounds.l1 or 0
    searches = _searches(stage)
    rows: list[tuple[str, str, float, float, float, int, int]] = []
    private = stage.selection
    noisy = _noisy(stage)
    # The private selection shares the stage's weight with all else, whether it is one mechanism or several.
    selected = [private.weight] if private is not None else []
    covering = _coverage_weight(stage, [*searches.values()], {name: weight for name, (*_, weight) in noisy.items()})
    total = math.fsum([*selected, *searches.values(), *(weight for *_, weight in noisy.values()), covering])
    for (name, metric), weight in searches.items():
        # A unit counts in one bin of a histogram, once.
        yield Expected(
            stage=name,
            metric=metric,
            kind=stage.noise or "no noise",
            l1=1,
            l2=1,
            l0=1,
            pre_threshold=1,
            weight=stage.weight * weight / total,
        )
    if private is not None and isinstance(private, DpSips | Mad | Mad2r):
        yield from _rounds(stage, private, l0, stage.weight * private.weight / total)
    elif private is not None:
        selecting = private.weight
        if not isinstance(private, TruncatedGeometric) and private.hierarchy is None and "privacy_id_count" in noisy:
            # A threshold is on a noisy unit count: where one is released, it is that one; but hierarchical keys are
            # selected as leaves, and counted in other cells.
            selecting += noisy.pop("privacy_id_count")[2]
        rows.append(("partitions", private.strategy, l0, l0**0.5, selecting, private.pre_threshold, l0))
    kept, leaves = _kept_values(stage), _leaves(stage)
    for name, (l1, l2, weight) in noisy.items():
        if name in kept:
            # Values come from the data: a threshold on the noisy count of each (partition, value) pair keeps them.
            pairs, least = kept[name]
            rows.append((name, f"{stage.noise}_thresholding", pairs, pairs**0.5, weight, least, pairs))
        else:
            rows.append((name, stage.noise or "no noise", l1, l2, weight, 1, l0))
    for name, kind, l1, l2, weight, pre_threshold, counted_in in rows:
        yield Expected(
            stage=stage.name,
            metric=name,
            kind=kind,
            l1=l1,
            l2=l2,
            l0=counted_in,
            pre_threshold=pre_threshold,
            weight=stage.weight * weight / total,
            leaves=None if name == "partitions" or name in kept else leaves[name],
        )
    if covering:
        # Each unit spreads one vote over what became of its rows, however many they are.
        yield Expected(
            stage=f"{stage.name}.coverage",
            metric="rows",
            kind=stage.noise or "no noise",
            l1=1,
            l2=1,
            l0=1,
            pre_threshold=1,
            weight=stage.weight * covering / total,
        )


def _coverage_weight(stage: Stage, searches: list[float], noisy: dict[str, float]) -> float:
    """The weight at which coverage costs its share of the stage: of all ε where noise is Laplace, else of all ρ, which
    grow with the squares of weights. 0 where none is bought."""
    if stage.coverage is None:
        return 0.0
    spent, private = [*searches, *noisy.values()], stage.selection
    if private is not None:
        counts = not isinstance(private, DpSips | Mad | Mad2r | TruncatedGeometric) and private.hierarchy is None
        shared = noisy.get("privacy_id_count", 0.0) if counts else 0.0
        spent += [private.weight + shared]
        if shared:
            spent.remove(shared)
    power = 1 if stage.noise == "laplace" else 2
    others = math.fsum(weight**power for weight in spent)
    return float((others * stage.coverage / (1 - stage.coverage)) ** (1 / power))


def _rounds(stage: Stage, private: DpSips | Mad | Mad2r, l0: int, weight: float) -> Iterator[Expected]:
    """The rounds of a selection by weights, in root-square `weight`: each has three times the weight of the one before,
    in MAD2R twice."""
    count = (private.rounds or 3) if isinstance(private, DpSips) else 2 if isinstance(private, Mad2r) else 1
    growth = 2.0 if isinstance(private, Mad2r) else 3.0
    length = math.sqrt(math.fsum(growth ** (2 * place) for place in range(count)))
    for place in range(count):
        yield Expected(
            stage=stage.name,
            metric=f"partitions.round{place + 1}",
            kind="weighted_thresholding",
            l1=l0**0.5,
            l2=1.0,
            l0=l0,
            pre_threshold=private.pre_threshold,
            weight=weight * growth**place / length,
            strategy=private.strategy,
            least_bias=0.5 if isinstance(private, Mad2r) and place == 1 else 1.0,
        )


def _searches(stage: Stage) -> dict[tuple[str, str], float]:
    """The weights of the histograms that the stage's bounds are found by, in order, by internal stage and metric."""
    search_weights: dict[tuple[str, str], float] = {}
    for metric in (metric for metric in stage.metrics if isinstance(metric, Clipped)):
        for _, search in metric.searches:
            key = (f"{stage.name}.values", metric.column)
            search_weights[key] = max(search_weights.get(key, 0.0), search.weight)
    for name, bound in stage.searches:
        search_weights[f"{stage.name}.units", name] = bound.weight
    return search_weights


def _noisy(stage: Stage) -> dict[str, tuple[float, float, float]]:
    """What gets noise in a stage, in order of first use: its change by one unit in l1 and in l2, and its weight."""
    changes: dict[str, tuple[float, float, float]] = {}
    known: dict[tuple[object, ...], str] = {}
    for part in _quantities(stage):
        name = known.setdefault(part.what, part.name)
        if part.max_values is not None:
            pairs = _pairs(stage.bounds, part.max_values)
            in_l1, in_l2 = float(pairs), pairs**0.5
        else:
            in_l1, in_l2 = _times(stage.bounds, by_partition=part.moved_by in ("unit", "total"))
        before = changes.get(name, (0.0, 0.0, 0.0))[2]
        changes[name] = (in_l1 * part.l1, in_l2 * part.l2, part.weight + before)
    return changes


def _leaves(stage: Stage) -> dict[str, Leaves | None]:
    """What one unit does to each quantity by leaves of hierarchical keys; None where keys aren't."""
    by_quantity: dict[str, Leaves | None] = {}
    for part in _quantities(stage):
        if part.name not in by_quantity:
            by_quantity[part.name] = by_leaves(stage, part)
    return by_quantity


def _kept_values(stage: Stage) -> dict[str, tuple[int, int]]:
    """Of each quantity that keeps values by a threshold: the (partition, value) pairs one unit is in, and the least
    units."""
    return {
        part.name: (_pairs(stage.bounds, part.max_values or 0), part.least_units)
        for part in _quantities(stage)
        if part.least_units is not None
    }


def _quantities(stage: Stage) -> Iterator[ExpectedQuantity]:
    """All that the stage's metrics need, each as it is derived from the metric's own fields."""
    for metric in stage.metrics:
        for part in expected_quantities(metric, stage):
            if stage.counted_by is not None and part.moved_by not in ("unit", "total"):
                raise Refused(f"stage {stage.name}: {metric.kind} can't be bounded on rows that are aggregated already")
            yield part


def _pairs(bounds: Bounds, most: int) -> int:
    """The (partition, value) pairs that one unit counts in; each of its rows is in one."""
    if bounds.l1 is not None:
        return bounds.l1
    if bounds.l0 is None:
        raise Refused("the partitions of a unit aren't bounded: bounds.l0 is missing")
    return bounds.l0 * min([most, *([] if bounds.linf is None else [bounds.linf])])


def _times(bounds: Bounds, *, by_partition: bool) -> tuple[float, float]:
    """What one row's, or one partition's, change is multiplied by, in l1 and in l2, for all that a unit may do."""
    if bounds.l1 is not None:
        return bounds.l1, bounds.l1**0.5 if by_partition else bounds.l1
    linf = 1 if by_partition else bounds.linf
    if bounds.l0 is None or linf is None:
        raise Refused("the rows of a unit aren't bounded: bounds.linf is missing")
    return bounds.l0 * linf, bounds.l0**0.5 * linf
