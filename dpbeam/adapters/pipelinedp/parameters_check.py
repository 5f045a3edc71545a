"""PipelineDP's parameters and the requests made from them in: refuses them unless they are all there must be.

What one privacy id moves each noisy sum by is derived here a second time, from the parameters themselves and from what
our engine adds up, so that a slip in the first derivation can't hide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dpbeam.accounting.requests import Request
from dpbeam.errors import Refused

_CLOSE = 1e-9
Moves = tuple[float, float]
"""By how much one privacy id moves the values of all partitions together, in l1 and in l2."""


def check_aggregate(params: Any, requests: Sequence[Request], *, public: bool) -> None:
    """Checks that an aggregation has exactly the mechanisms that its metrics need, each as sensitive as it is.

    Guarantee: if it returns, every figure of the `MetricsTuple` is made from sums whose noise is asked for at no less
    than what rows within the parameters' bounds can move them by; and private partitions are selected.

    Raises:
        Refused: a mechanism is missing, one too many, of another kind, or states another sensitivity.
    """
    noise = params.noise_kind.value
    strategy = None if public else _strategy(params)
    _check_selection(params, requests, strategy)
    expected = _moves(params, counted=strategy in ("laplace_thresholding", "gaussian_thresholding"))
    stated = [request.sensitivity for request in requests if not request.is_selection]
    if any(request.kind != noise for request in requests if not request.is_selection):
        raise Refused(f"every sum must have {noise} noise, as noise_kind says")
    left = list(stated)
    for moves in expected:
        same = next((move for move in left if _alike(move, moves)), None)
        if same is None:
            break
        left.remove(same)
    else:
        if not left:
            return
    raise Refused(
        f"the noise must be for changes (l1, l2) of {_text(expected)} by the parameters' bounds, got {_text(stated)}"
    )


def check_select(params: Any, requests: Sequence[Request]) -> None:
    """Checks that a selection of partitions is the one mechanism of `SelectPartitionsParams`.

    Raises:
        Refused: as `check_aggregate`.
    """
    if len(requests) != 1:
        raise Refused(f"selecting partitions takes one mechanism, got {len(requests)}")
    _check_selection(params, requests, params.partition_selection_strategy.name.lower())


def _check_selection(params: Any, requests: Sequence[Request], strategy: str | None) -> None:
    selections = [request for request in requests if request.is_selection]
    if [request.kind for request in selections] != ([] if strategy is None else [strategy]):
        raise Refused(f"partitions must be selected by {strategy or 'nothing'}, got {[r.kind for r in selections]}")
    partitions = getattr(params, "max_contributions", None) or params.max_partitions_contributed
    for request in selections:
        if (request.l0, request.pre_threshold) != (int(partitions), int(getattr(params, "pre_threshold", None) or 1)):
            raise Refused("the selection must have the parameters' bound on partitions and pre_threshold")


def _strategy(params: Any) -> str:
    if getattr(params, "post_aggregation_thresholding", False):
        return f"{params.noise_kind.value}_thresholding"
    return str(params.partition_selection_strategy.name.lower())


def _moves(params: Any, *, counted: bool) -> list[Moves]:
    """Of all sums that have noise of their own; `counted` if the selection counts units where they are shown."""
    asked = {metric.name for metric in params.metrics if not metric.is_percentile}
    rows, units = _times(params)
    moves: dict[str, Moves] = {}
    if asked & {"COUNT", "MEAN", "VARIANCE"}:
        moves["rows"] = rows
    if "PRIVACY_ID_COUNT" in asked and not counted:
        moves["units"] = units
    if any(metric.is_percentile for metric in params.metrics):  # a row is counted once in each of a tree's four levels
        moves["tree"] = (4 * rows[0], 2 * rows[1])
    if "VECTOR_SUM" in asked:
        moves["vector"] = _vector(params, rows)
    if params.min_sum_per_partition is not None:
        if "SUM" in asked:
            moves["total"] = _scaled(units, max(abs(params.min_sum_per_partition), abs(params.max_sum_per_partition)))
        return list(moves.values())
    if asked & {"SUM", "MEAN", "VARIANCE"}:
        low, high = float(params.min_value), float(params.max_value)
        middle, half = low + (high - low) / 2, (high - low) / 2
        if "SUM" in asked:
            moves["sum about 0"] = _scaled(rows, max(abs(low), abs(high)))
        if asked & {"MEAN", "VARIANCE"}:  # distances from the middle; where that is 0 they are the values
            moves["sum about 0" if middle == 0 else "sum about the middle"] = _scaled(rows, half)
        if "VARIANCE" in asked:  # (value − middle)² − half²/2 lies within ±half²/2
            moves["squares"] = _scaled(rows, half**2 / 2)
    return list(moves.values())


def _times(params: Any) -> tuple[Moves, Moves]:
    """What one row's change is multiplied by, and what one partition's is."""
    if params.max_contributions is not None:
        most = float(params.max_contributions)  # all rows may lie in one partition
        return (most, most), (most, math.sqrt(most))
    partitions, each = float(params.max_partitions_contributed), float(params.max_contributions_per_partition)
    return (partitions * each, math.sqrt(partitions) * each), (partitions, math.sqrt(partitions))


def _vector(params: Any, rows: Moves) -> Moves:
    """Of vectors within their norm: what that says of their l1 and l2 norms."""
    length, most = float(params.vector_size), float(params.vector_max_norm)
    norm = params.vector_norm_kind.name.lower()
    l1 = {"l1": most, "l2": most * math.sqrt(length), "linf": most * length}[norm]
    l2 = {"l1": most, "l2": most, "linf": most * math.sqrt(length)}[norm]
    return (rows[0] * l1, rows[1] * l2)


def _scaled(times: Moves, most: float) -> Moves:
    return (times[0] * most, times[1] * most)


def _alike(one: Moves, other: Moves) -> bool:
    return all(math.isclose(*pair, rel_tol=_CLOSE) for pair in zip(one, other, strict=True))


def _text(moves: Sequence[Moves]) -> str:
    return ", ".join(f"({l1:.12g}, {l2:.12g})" for l1, l2 in moves)
