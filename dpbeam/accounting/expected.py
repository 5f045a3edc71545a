"""A policy, or requests, in: what each mechanism of its plan must be, whatever its noise, goes out.

Of a policy it is derived here a second time, from the policy's own fields, so that a slip in the plan (a forgotten
mechanism, a swapped pair, a wrong l0) can't hide behind itself. This repeats what the plan knows, on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpbeam.accounting.check_other import Leaves, by_leaves
from dpbeam.accounting.requests import Request
from dpbeam.errors import Refused
from dpbeam.policy.schema.auto import AutoClip, AutoCount
from dpbeam.policy.schema.metrics import (
    ColumnArgs,
    CustomArgs,
    HistogramArgs,
    MetricChoice,
    SumArgs,
    TopKArgs,
    ValueArgs,
    VectorSumArgs,
)
from dpbeam.policy.schema.policy import Bounds, Policy, Private, Stage


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


def expected(asked: Policy | Sequence[Request]) -> list[Expected]:
    """What the plan must consist of, in order.

    Guarantee: each noisy quantity, private selection and histogram of the policy is in it, with the most that one
    privacy unit can do to it within the policy's bounds.

    Raises:
        Refused: a metric isn't bounded, or no mechanism is known for it.
    """
    return list(_from_policy(asked) if isinstance(asked, Policy) else _from_requests(asked))


def _from_requests(requests: Sequence[Request]) -> Iterator[Expected]:
    for request in requests:
        yield Expected(
            stage=request.stage,
            metric=request.metric,
            kind=request.kind,
            l1=request.sensitivity[0],
            l2=request.sensitivity[1],
            l0=request.l0,
            pre_threshold=request.pre_threshold,
            weight=request.weight,
            strategy=request.strategy,
            least_bias=request.least_bias,
        )


def _from_policy(policy: Policy) -> Iterator[Expected]:
    for stage in policy.stages:
        l0 = _whole(stage.bounds.l0) or _whole(stage.bounds.l1) or 0
        searches = _searches(stage)
        rows: list[tuple[str, str, float, float, float, int, int]] = []
        private = stage.private
        noisy = _noisy(stage)
        # The private selection shares the stage's weight with all else, whether it is one mechanism or several.
        selected = [private.weight] if private is not None else []
        total = math.fsum([*selected, *searches.values(), *(weight for *_, weight in noisy.values())])
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
        if private is not None and private.strategy in ("dp_sips", "mad", "mad2r"):
            yield from _rounds(stage, private, l0, stage.weight * private.weight / total)
        elif private is not None:
            selecting = private.weight
            if private.strategy != "truncated_geometric" and not private.hierarchical and "privacy_id_count" in noisy:
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


def _rounds(stage: Stage, private: Private, l0: int, weight: float) -> Iterator[Expected]:
    """The rounds of a selection by weights, in root-square `weight`: each has three times the weight of the one before,
    in MAD2R twice."""
    count = {"dp_sips": private.rounds or 3, "mad": 1, "mad2r": 2}[private.strategy]
    growth = 2.0 if private.strategy == "mad2r" else 3.0
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
            least_bias=0.5 if private.strategy == "mad2r" and place == 1 else 1.0,
        )


def _searches(stage: Stage) -> dict[tuple[str, str], float]:
    """The weights of the histograms that the stage's bounds are found by, in order, by internal stage and metric."""
    found: dict[tuple[str, str], float] = {}
    for choice in stage.metrics:
        args = choice.args
        if isinstance(args, SumArgs | ValueArgs):
            for clip in (args.low, args.high):
                if isinstance(clip, AutoClip):
                    key = (f"{stage.name}.values", args.column)
                    found[key] = max(found.get(key, 0.0), clip.auto.weight)
    for name, bound in (("l0", stage.bounds.l0), ("linf", stage.bounds.linf), ("l1", stage.bounds.l1)):
        if isinstance(bound, AutoCount):
            found[f"{stage.name}.units", name] = bound.auto.weight
    return found


def _whole(bound: int | AutoCount | None) -> int | None:
    """The bound; where the run chooses it, what was chosen, or else the most that may be."""
    return bound.value if isinstance(bound, AutoCount) else bound


def _clip(args: SumArgs | ValueArgs) -> tuple[float, float, str]:
    """The clipping bounds, and which of them the run chooses: what it chooses is shared with its like alone."""
    low, high, chosen = args.low, args.high, ""
    if isinstance(low, AutoClip):
        low, chosen = low.value("low"), "low"
    if isinstance(high, AutoClip):
        high, chosen = high.value("high"), chosen + "high"
    if low is None or high is None:
        raise Refused("the values of a metric must be bounded")
    return low, high, chosen


def _noisy(stage: Stage) -> dict[str, tuple[float, float, float]]:
    """What gets noise in a stage, in order of first use: its change by one unit in l1 and in l2, and its weight."""
    found: dict[str, tuple[float, float, float]] = {}
    known: dict[tuple[object, ...], str] = {}
    for choice in stage.metrics:
        for what, own_name, l1, l2, weight in _aggregated(choice, stage) if stage.counted_by else _parts(choice, stage):
            name = known.setdefault(what, own_name)
            if isinstance(choice.args, TopKArgs):
                pairs = _pairs(stage.bounds, choice.args.max_values)
                in_l1, in_l2 = float(pairs), pairs**0.5
            else:
                in_l1, in_l2 = _times(stage.bounds, by_partition=what[0] in ("privacy_id_count", "total"))
            before = found.get(name, (0.0, 0.0, 0.0))[2]
            found[name] = (in_l1 * l1, in_l2 * l2, weight + before)
    return found


def _leaves(stage: Stage) -> dict[str, Leaves | None]:
    """What one unit does to each quantity by leaves of hierarchical keys; None where keys aren't."""
    found: dict[str, Leaves | None] = {}
    for choice in stage.metrics:
        most = choice.args.max_values if isinstance(choice.args, TopKArgs) else None
        for what, name, l1, l2, _ in _aggregated(choice, stage) if stage.counted_by else _parts(choice, stage):
            if name not in found:
                found[name] = by_leaves(stage, str(what[0]), l1, l2, most)
    return found


def _kept_values(stage: Stage) -> dict[str, tuple[int, int]]:
    """Of each quantity that keeps values by a threshold: the (partition, value) pairs one unit is in, and the least
    units."""
    found: dict[str, tuple[int, int]] = {}
    for choice in stage.metrics:
        if isinstance(choice.args, TopKArgs) and choice.args.candidates is None:
            for _, name, *_ in _parts(choice, stage):
                found[name] = (_pairs(stage.bounds, choice.args.max_values), choice.args.pre_threshold)
    return found


def _pairs(bounds: Bounds, most: int) -> int:
    """The (partition, value) pairs that one unit counts in; each of its rows is in one."""
    l0, linf, l1 = _whole(bounds.l0), _whole(bounds.linf), _whole(bounds.l1)
    if l1 is not None:
        return l1
    if l0 is None:
        raise Refused("the partitions of a unit aren't bounded: bounds.l0 is missing")
    return l0 * min([most, *([] if linf is None else [linf])])


def _times(bounds: Bounds, *, by_partition: bool) -> tuple[float, float]:
    """What one row's, or one partition's, change is multiplied by, in l1 and in l2, for all that a unit may do."""
    l1 = _whole(bounds.l1)
    if l1 is not None:
        return l1, l1**0.5 if by_partition else l1
    l0, linf = _whole(bounds.l0), 1 if by_partition else _whole(bounds.linf)
    if l0 is None or linf is None:
        raise Refused("the rows of a unit aren't bounded: bounds.linf is missing")
    return l0 * linf, l0**0.5 * linf


def _aggregated(choice: MetricChoice, stage: Stage) -> Iterator[tuple[tuple[object, ...], str, float, float, float]]:
    """As `_parts`, where the source's rows are aggregated already: all that is found of a unit in one partition is one
    total, cut to its bounds, and `linf` is the bound of its rows' number."""
    args = choice.args
    match choice.kind, args:
        case "count", _:
            most = _whole(stage.bounds.linf)
            if most is None or stage.bounds.l0 is None:
                raise Refused(f"stage {stage.name}: counts aggregated already need bounds.l0 and bounds.linf")
            yield ("total", stage.counted_by, 0.0, float(most)), "count", float(most), float(most), args.weight
        case "privacy_id_count", _:
            yield ("privacy_id_count",), "privacy_id_count", 1.0, 1.0, args.weight
        case "sum", SumArgs(low=None):
            yield from _parts(choice, stage)
        case kind, _:
            raise Refused(f"stage {stage.name}: {kind} can't be bounded on rows that are aggregated already")


def _parts(choice: MetricChoice, stage: Stage) -> Iterator[tuple[tuple[object, ...], str, float, float, float]]:
    """(what it is, its name, its change by one row in l1 and in l2, its weight) of all that a metric needs."""
    args, name = choice.args, choice.result_name
    weight = args.weight
    match choice.kind, args:
        case (("count" | "privacy_id_count"), _):
            yield (choice.kind,), choice.kind, 1.0, 1.0, weight
        case "sum", SumArgs():
            if args.low_total is not None and args.high_total is not None:
                largest = max(abs(args.low_total), abs(args.high_total))
                yield ("total", args.column, args.low_total, args.high_total), name, largest, largest, weight
                return
            low, high, chosen = _clip(args)
            largest = max(abs(low), abs(high))
            yield ("sum", args.column, low, high, chosen or 0.0), name, largest, largest, weight
        case (("mean" | "variance" | "stddev"), ValueArgs()):
            low, high, chosen = _clip(args)
            # Far from 0 the middle is rounded, so one end may be further from it than the other.
            middle = low + (high - low) / 2
            half = max(high - middle, middle - low)
            share = weight / (2 if choice.kind == "mean" else 3)
            centre = f"centre of {chosen}" if chosen else middle
            yield ("sum", args.column, low, high, centre), f"{name}.sum", half, half, share
            if choice.kind != "mean":
                yield ("squares", args.column, low, high, chosen), f"{name}.squares", half**2 / 2, half**2 / 2, share
            yield ("count",), "count", 1.0, 1.0, share
        case (("quantiles" | "median" | "min" | "max"), ValueArgs()):
            # A row is counted once in each of the tree's four levels.
            yield ("tree", args.column, *_clip(args)), f"{name}.tree", 4.0, 2.0, weight
        case "histogram", HistogramArgs():
            yield ("bins", args.column, *args.edges), name, 1.0, 1.0, weight
        case "vector_sum", VectorSumArgs():
            length = sum(stage.vector_lengths.get(column, 1) for column in args.columns)
            most, root = args.max_norm, length**0.5
            l1 = most * {"l1": 1.0, "l2": root, "linf": root**2}[args.norm]
            l2 = most * {"l1": 1.0, "l2": 1.0, "linf": root}[args.norm]
            yield ("vector", *args.columns, args.norm, most), name, l1, l2, weight
        case "distinct_count", ColumnArgs():
            # A row adds at most one value to those seen.
            yield ("distinct", args.column), name, 1.0, 1.0, weight
        case "top_k", TopKArgs():
            listed = args.candidates or ()
            yield ("top_k", args.column, args.max_values, args.pre_threshold, *listed), name, 1.0, 1.0, weight
        case "custom", CustomArgs():
            made = args.build()
            bound, shares = made.row_bound, 2 if made.needs_count else 1
            root, widest = float(bound.size) ** 0.5, float(bound.most)
            l1 = widest * {"l1": 1.0, "l2": root, "linf": float(bound.size)}[bound.norm]
            l2 = widest * {"l1": 1.0, "l2": 1.0, "linf": root}[bound.norm]
            yield ("custom", made, *args.columns), name, l1, l2, weight / shares
            if made.needs_count:
                yield ("count",), "count", 1.0, 1.0, weight / shares
        case kind, _:
            raise Refused(f"stage metric {name}: no mechanism is known for {kind}")
