"""Phases: jobs before the main one, each of which turns a run's parameters into what the next works with.

Some of what a query asks for is found privately before the main job: a phase is one such Beam job. Its result is
noisy, staged and taken like that of the main job, and only then does the next begin, so that all later jobs build on
the same draw, whatever a runner repeats. What it cost is in the plan: every noise multiplier is fixed before the run,
so the plan's composition holds for parameters found on the way (adaptive composition of fixed privacy losses).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from dpbeam.accounting.plan import Plan
from dpbeam.engine.stage import StageSpec
from dpbeam.queries.query import Query
from dpbeam.reporting.manifest import ChosenBound, Coverage


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What a job works with. `public` are the partitions known to it, by stage; a phase may add some to them."""

    query: Query
    plan: Plan
    stages: tuple[StageSpec, ...]
    public: Mapping[str, pa.Table]
    earlier_rounds: Mapping[str, pa.Table] = field(default_factory=dict)
    """What the rounds of a stage's selection found so far, for the next of them alone; by stage."""
    chosen: tuple[ChosenBound, ...] = ()
    """Bounds that a phase found; `query` then stands for them."""
    coverage: tuple[Coverage, ...] = ()
    """What became of the rows of stages that bought to know it."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One Beam job before the main one.

    `stages` gives its stages, whose names must be none of the query's (`by_ngram.bounds`); `learn` gives the
    parameters that follow from their result tables.

    Guarantee: `learn` sees noisy results alone, so what follows from it is post-processing; it may change no noise
    multiplier, weight or δ of a mechanism (`dpbeam.accounting.check` looks again before the main job).
    """

    name: str
    stages: Callable[[Parameters], tuple[StageSpec, ...]]
    learn: Callable[[Parameters, Mapping[str, pa.Table]], Parameters]
