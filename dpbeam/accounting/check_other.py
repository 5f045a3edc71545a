"""Refuses noise on the others of hierarchical keys that is too little for what one unit may do to them.

Derived from the stage's own fields, by code that the plan doesn't use: the worst that one unit can do is searched, not
taken from a formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dpbeam.accounting.expectations import ExpectedQuantity
from dpbeam.errors import Refused
from dpbeam.mechanisms.events import Gaussian, Laplace, Mechanism, others_of
from dpbeam.queries.query import Stage

_CLOSE = 1e-9
_LESS = 0.999


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """What one unit does at its most: moves `count` leaves by `leaf` each, in l2; up to `most` of them fall into one
    `other`, and n of them move it by `together(n)` in l1 and l2. `rows` and `leaves` are what is to be stated.
    """

    leaves: int
    rows: int | None
    count: int
    most: int
    leaf: float
    together: Callable[[int], tuple[float, float]]


def by_leaves(stage: Stage, part: ExpectedQuantity) -> Leaves | None:
    """What one unit does to what a metric needs; None where the stage's keys aren't hierarchical."""
    if stage.selection is None or stage.selection.hierarchy is None:
        return None
    limits, l1, l2, max_values = stage.bounds, part.l1, part.l2, part.max_values
    l0, linf, all_rows = limits.l0, limits.linf, limits.l1
    count = l0 or all_rows or 0
    most = min(count, stage.selection.hierarchy.other_l0 or count)
    rows = all_rows if linf is None else most * linf

    def one_leaf_at_a_time(leaf: float, together: Callable[[int], tuple[float, float]]) -> Leaves:
        return Leaves(leaves=most, rows=rows, count=count, most=most, leaf=leaf, together=together)

    if part.moved_by == "unit":
        return one_leaf_at_a_time(1.0, lambda n: (1.0, 1.0))
    if max_values is not None:  # one unit counts once for a value in a cell
        in_leaf = 1 if all_rows else linf or max_values
        values = [min(max_values, n * in_leaf) for n in range(most + 1)]
        return one_leaf_at_a_time(min(max_values, in_leaf) ** 0.5, lambda n: (values[n], values[n] ** 0.5))
    if part.moved_by == "total":
        return one_leaf_at_a_time(l2, lambda n: (n * l1, n * l2))
    if all_rows is not None:  # they may be in one cell whatever is kept: as one leaf that holds them
        whole = (all_rows * l1, all_rows * l2)
        return Leaves(leaves=most, rows=rows, count=1, most=1, leaf=whole[1], together=lambda n: whole)
    if linf is None:
        raise Refused(f"stage {stage.name}: the rows of a unit aren't bounded: bounds.linf is missing")
    return one_leaf_at_a_time(linf * l2, lambda n: (n * linf * l1, n * linf * l2))


def check_other(where: str, want: Leaves | None, mechanism: Mechanism) -> None:
    """Refuses the mechanism unless it states what one unit adds to an `other`, and has noise enough for it.

    Guarantee: if it returns for Gaussian noise, no way to spread a unit's leaves over kept ones and others moves the
    values by more than the mechanism's `l2`, those of others divided by their noise factor.

    Raises:
        Refused: it doesn't.
    """
    stated = others_of(mechanism)
    if want is None or not isinstance(mechanism, Laplace | Gaussian):
        if stated is not None:
            raise Refused(f"{where}: keys aren't hierarchical, so the mechanism must have no other")
        return
    if stated is None:
        raise Refused(f"{where}: keys are hierarchical, so the mechanism must say what one unit adds to an other")
    in_l1, in_l2 = want.together(want.most)
    if stated.rows != want.rows:
        raise Refused(
            f"{where}: a unit's rows in an other must be {want.rows} by the stage's bounds, got {stated.rows}"
        )
    change = in_l2 if isinstance(mechanism, Gaussian) else in_l1
    for name, must, is_ in (
        ("leaves of a unit in an other", want.leaves, stated.leaves),
        ("a unit's change of an other", change, stated.most),
    ):
        if not math.isclose(must, is_, rel_tol=_CLOSE):
            raise Refused(f"{where}: {name} must be {must:.12g} by the stage's bounds, got {is_:.12g}")
    if isinstance(mechanism, Laplace):
        return
    squares = _worst_squares(want, stated.noise)
    if not squares <= mechanism.l2**2 * (1 + _CLOSE):
        raise Refused(
            f"{where}: with others at {stated.noise:.12g} times a leaf's noise a unit moves the values by "
            f"{math.sqrt(squares):.12g} in l2, more than the stated {mechanism.l2:.12g}"
        )
    if stated.noise > 1 and _worst_squares(want, stated.noise * _LESS) <= mechanism.l2**2 * (1 + _CLOSE):
        raise Refused(f"{where}: others have more noise than the policy's bounds ask for, {stated.noise:.12g} times")


def _worst_squares(want: Leaves, noise: float) -> float:
    """The largest change of all values in l2, squared, where a unit fills as many others as it can, one less, or none;
    of the leaves that are left, each is a kept one, or they are in one more `other`."""
    most = 0.0
    filled = (want.together(want.most)[1] / noise) ** 2
    for full in {0, max(0, want.count // want.most - 1), want.count // want.most}:
        left = want.count - full * want.most
        one_more = (want.together(min(left, want.most))[1] / noise) ** 2 if left else 0.0
        most = max(most, full * filled + left * want.leaf**2, full * filled + one_more)
    return most
