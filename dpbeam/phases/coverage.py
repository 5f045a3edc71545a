"""The coverage of a run's stages: what is counted for it in the main job, and what follows from the noisy numbers.

It is counted in the same job as the results, by the bounds and among the partitions that earlier phases left the stages
with: so it is about the very rows that the results are made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from dpbeam.engine.stage import Flat, Hierarchical, StageSpec, Votes
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace
from dpbeam.mechanisms.shares import nested, share
from dpbeam.mechanisms.targets import OfCoverage, coverage_stage, target_of
from dpbeam.phases.phase import Parameters
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.coverage import CUT, FATES, KEPT, votes
from dpbeam.reporting.manifest import Coverage


def counting(known: Parameters) -> Parameters:
    """The parameters of a main job that counts coverage as well, for each stage that buys it.

    Guarantee: in each internal stage a unit counts with one row, its vote, whose l1 norm is at most 1; its noise is
    that of the plan, whose certificate has counted it beside all else.
    """
    noises = _noises(known)
    counted = tuple(
        StageSpec(
            name=coverage_stage(spec.name),
            unit=spec.unit,
            keys=(),
            key_types=(),
            bounds=Bounds(l0=1, linf=1),
            metrics=(votes(),),
            noise={votes().name: noises[spec.name]},
            selection=None,
            mode=Votes(
                stage=spec.name,
                keys=spec.leaf_keys,
                key_types=spec.key_types[: len(spec.leaf_keys)],
                bounds=spec.bounds,
                placed=spec.placed,
                mode_of_input=spec.mode if isinstance(spec.mode, Hierarchical) else Flat(),
            ),
        )
        for spec in known.stages
        if spec.name in noises
    )
    return replace(known, stages=(*known.stages, *counted))


def learn(known: Parameters, tables: Mapping[str, pa.Table]) -> Parameters:
    """The parameters without what counted coverage, and with the coverage that its noisy tables tell.

    Guarantee: post-processing of noisy numbers and public parameters.
    """
    noises = _noises(known)
    stages = tuple(spec for spec in known.stages if not spec.votes)
    found = tuple(
        _coverage(spec.name, tables[coverage_stage(spec.name)], noises[spec.name])
        for spec in stages
        if spec.name in noises
    )
    return replace(known, stages=stages, coverage=found)


def _coverage(stage: str, table: pa.Table, noise: Additive) -> Coverage:
    noisy = [float(table.column(name)[0].as_py()) for name in votes().released]
    kept, passed = nested(
        share(noisy, [fate == KEPT for fate in range(FATES)], noise),
        share(noisy, [fate in (CUT, KEPT) for fate in range(FATES)], noise),
    )
    return Coverage(
        stage=stage,
        rows_passed=passed.value,
        rows_passed_low=passed.low,
        rows_passed_high=passed.high,
        rows_kept=kept.value,
        rows_kept_low=kept.low,
        rows_kept_high=kept.high,
        privacy_units=sum(noisy),
    )


def _noises(known: Parameters) -> dict[str, Additive]:
    """The noise of each stage's coverage, by the stage's name."""
    return {
        target.stage: mechanism
        for mechanism in known.plan.mechanisms
        if isinstance(target := target_of(mechanism), OfCoverage) and isinstance(mechanism, Laplace | Gaussian)
    }
