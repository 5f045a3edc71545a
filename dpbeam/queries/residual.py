"""What one privacy unit may do to one `other` of hierarchical keys.

Bounds are on leaves: a unit counts in at most `l0` leaves, with at most `linf` rows in each. Only then are the leaves
that aren't kept added up in an `other`. So one `other` may hold several leaves of a unit, m at most.
"""

from __future__ import annotations

from typing import Literal

from dpbeam.mechanisms.events import Other
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.quantities import Quantity


def other_leaves(bounds: Bounds, other_l0: int | None) -> int:
    """The most leaves of one unit that count in one `other`; without `other_l0`, as many as the bounds let in."""
    return min(bounds.partitions, other_l0 or bounds.partitions)


def effect_on_residual(quantity: Quantity, bounds: Bounds, leaves: int, noise: Literal["laplace", "gaussian"]) -> Other:
    """What one unit may do to one `other` if at most `leaves` of its leaves count there.

    Guarantee: over all cells, leaves and others together, a unit moves the quantity by no more than
    `quantity.sensitivity(bounds)`: in l1 as it is; in l2 where values of others are divided by `Other.noise`.

    In l1 nothing changes: each row, total or (unit, cell) counts in one cell, as it did in one leaf.

    In l2, let a row move a cell by a, and let the factor be f = `Other.noise`. A unit has s kept leaves, and nⱼ ≤ m
    leaves in the `other` j, with s + Σnⱼ ≤ l0. The squares of what it moves add up to at most
    s·(linf·a)² + Σ(nⱼ·linf·a)²/f². With f² = m that is at most (s + Σnⱼ)·(linf·a)² ≤ l0·(linf·a)².

    - With `l1`, all rows of a unit may be in one cell anyway: f = 1.
    - What counts a unit once in a cell (privacy_id_count), or once for each value there, moves an `other` no further
      than a leaf: f = 1.
    - A total is bounded leaf by leaf. It moves an `other` as rows do; where the bound is `l1`, by `l1` leaves at most.

    Raises:
        ValueError: `leaves` is below 1 or above what the bounds allow; or rows aren't bounded and must be.
    """
    if not 1 <= leaves <= bounds.partitions:
        raise ValueError(f"an other takes 1 to {bounds.partitions} leaves of a unit by its bounds, got {leaves}")
    l1, l2, factor = quantity.effect_on_residual(bounds, leaves)
    laplace = noise == "laplace"
    return Other(
        leaves=leaves,
        rows=bounds.rows_in(leaves),
        most=l1 if laplace else l2,
        noise=1.0 if laplace else factor,
    )
