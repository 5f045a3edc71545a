"""What coverage costs a stage, and how exact it will be: from the plan alone, before a row is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dpbeam.accounting.calibrate import calibrate
from dpbeam.accounting.stage_requests import stage_requests
from dpbeam.accounting.utility import CoverageFigure, noise_of_quantities
from dpbeam.mechanisms.events import Gaussian, Laplace, Mechanism
from dpbeam.mechanisms.moments import NoisyQuantity, half_width_of_sum
from dpbeam.mechanisms.noise_width import std
from dpbeam.mechanisms.targets import OfCoverage, target_of
from dpbeam.queries.coverage import votes
from dpbeam.queries.query import Query

_NONE = np.empty((0, 3))
POINTS = 0.05
"""How far off a share may be for a plan to say that so many privacy units are enough."""


def coverage_figures(query: Query, mechanisms: Sequence[Mechanism]) -> tuple[CoverageFigure, ...]:
    """The coverage of each stage that buys it, against the plan that the query would have without any."""
    bought = [stage for stage in query.stages if stage.coverage is not None]
    if not bought:
        return ()
    requests = [request for stage in query.stages for request in stage_requests(replace(stage, coverage=None))]
    without = noise_of_quantities(calibrate(requests, epsilon=query.epsilon, delta=query.delta))
    with_it = noise_of_quantities(mechanisms)
    noises = {
        target.stage: mechanism
        for mechanism in mechanisms
        if isinstance(target := target_of(mechanism), OfCoverage) and isinstance(mechanism, Laplace | Gaussian)
    }
    figures = []
    for stage in bought:
        key = next(key for key in without if key[0] == stage.name)
        noise = noises[stage.name]
        (part,) = (NoisyQuantity(quantity=q, noise=noise, noisy=_NONE) for q in votes().quantities)
        figures.append(
            CoverageFigure(
                stage=stage.name,
                share=stage.coverage or 0.0,
                std=std(noise),
                noise_growth=with_it[key].std / without[key].std,
                # The noise of a share of n units is that of two of the three numbers, or less, over n.
                units_5_points=math.ceil(half_width_of_sum([part, part], [1.0, 1.0]) / POINTS),
            )
        )
    return tuple(figures)
