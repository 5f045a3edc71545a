"""A policy and its planned mechanisms in; which bounds the run will find, and noise that doesn't wait for them, out.

A plan is made for the most that such a bound may become. Contribution bounds only make its noise smaller; clipping
bounds scale it, so the noise of a sum is given against the most that one row may add, whatever that turns out to be.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpbeam.accounting.utility import AutomaticFigure, RelativeFigure, noise_of_quantities
from dpbeam.mechanisms.events import Mechanism
from dpbeam.policy.chosen import automatic
from dpbeam.policy.compile import metrics
from dpbeam.policy.schema import auto
from dpbeam.policy.schema.policy import Policy
from dpbeam.query.bounds import Bounds
from dpbeam.query.quantities import quantities


def automatic_figures(policy: Policy) -> tuple[AutomaticFigure, ...]:
    """Every bound that the policy leaves to the run, in its order."""
    stages = {stage.name: stage for stage in policy.stages}
    found = []
    for name, metric, parameter in automatic(policy):
        stage = stages[name]
        if metric is None:
            most: float = auto.count(getattr(stage.bounds, parameter)) or 0
        else:
            args = next(choice.args for choice in stage.metrics if choice.result_name == metric)
            most = auto.number(getattr(args, parameter), "low" if parameter == "low" else "high")
        found.append(AutomaticFigure(stage=name, metric=metric, parameter=parameter, most=most))
    return tuple(found)


def relative_figures(policy: Policy, mechanisms: Sequence[Mechanism]) -> tuple[RelativeFigure, ...]:
    """The noise of each sum whose clipping bounds the run finds. Nodes of a tree are counts: theirs isn't relative."""
    noise = noise_of_quantities(mechanisms)
    one_row = Bounds(l0=1, linf=1)
    return tuple(
        RelativeFigure(
            stage=stage.name,
            quantity=quantity.name,
            std=noise[stage.name, quantity.name].std / quantity.sensitivity(one_row)[0],
        )
        for stage in policy.stages
        for quantity in quantities(metrics(stage))
        if quantity.auto and quantity.kind in ("sum", "squares")
    )
