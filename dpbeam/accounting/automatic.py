"""Which bounds a run will find, and the noise that doesn't wait for them.

A plan is made for the most that such a bound may become. Contribution bounds only make its noise smaller; clipping
bounds scale it, so the noise of a sum is given against the most that one row may add, whatever that turns out to be.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpbeam.accounting.utility import AutomaticFigure, RelativeFigure, noise_of_quantities
from dpbeam.mechanisms.events import Mechanism
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.quantities import Summed
from dpbeam.queries.query import Query
from dpbeam.queries.sharing import quantities


def automatic_figures(query: Query) -> tuple[AutomaticFigure, ...]:
    """Every bound that the query leaves to the run, in its order."""
    return tuple(
        AutomaticFigure(stage=stage, metric=metric, parameter=parameter, most=most)
        for (stage, metric, parameter), most in query.automatic.items()
    )


def relative_figures(query: Query, mechanisms: Sequence[Mechanism]) -> tuple[RelativeFigure, ...]:
    """The noise of each sum whose clipping bounds the run finds. Nodes of a tree are counts: theirs isn't relative."""
    noise = noise_of_quantities(mechanisms)
    one_row = Bounds(l0=1, linf=1)
    return tuple(
        RelativeFigure(
            stage=stage.name,
            quantity=quantity.name,
            std=noise[stage.name, quantity.name].std / quantity.sensitivity(one_row)[0],
        )
        for stage in query.stages
        for quantity in quantities(stage.metrics)
        if isinstance(quantity, Summed) and quantity.auto
    )
