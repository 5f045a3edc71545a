"""Coverage: what became of a stage's rows, as noisy figures that a run buys at a stated share of the stage's budget.

Each privacy unit has one vote, and spreads it over the three fates of its rows: `DROPPED` by a column's rule or by
`where`; `CUT`, since they are in no partition that is known beforehand, or beyond the stage's bounds; `KEPT`. A unit
with 8 rows, of which one is dropped and three are cut, votes (1/8, 3/8, 4/8). So a share of the votes is the share of a
unit's rows, averaged over units: whoever has a million rows weighs no more than whoever has one.

Guarantee: one unit more is one vote more, of l1 norm 1, however many rows it has and whatever is wrong with them. That
is all that the sensitivity rests on: votes are cut to that norm where they are added up. Rows whose privacy unit is
missing or can't be read are nobody's, so they have no vote.
"""

from __future__ import annotations

from dpbeam.mechanisms.targets import ROWS
from dpbeam.queries.metrics.vectors import VectorSum

VOTES = "__votes"
"""The column of units' votes."""
DROPPED, CUT, KEPT = range(3)
FATES = 3


def votes() -> VectorSum:
    """The sum of all units' votes: three numbers."""
    return VectorSum(name=ROWS, columns=(VOTES,), length=FATES, norm="l1", max_norm=1.0)
