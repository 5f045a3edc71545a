"""The phases of stages that select their partitions in rounds: one Beam job a round, for all such stages together.

What a round keeps is public. The next round looks at the rest alone, and after the last the main job aggregates over
what was kept as over public partitions: rows of others go before bounding, so no unit spends its `l0` on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from dpbeam.accounting.rounds import STRATEGIES, round_weights
from dpbeam.mechanisms import rounds
from dpbeam.mechanisms.quantities import Bounds
from dpbeam.mechanisms.spec import StageSpec
from dpbeam.policy.schema import Policy
from pipelines.phases import Parameters, Phase


def phases(policy: Policy) -> tuple[Phase, ...]:
    """As many phases as the stage with the most rounds has."""
    counts = [
        len(round_weights(strategy, stage.private.rounds))
        for stage in policy.stages
        for strategy in STRATEGIES
        if stage.private and stage.private.strategy == strategy
    ]
    return tuple(_phase(number) for number in range(1, max(counts, default=0) + 1))


def _phase(number: int) -> Phase:
    def stages(known: Parameters) -> tuple[StageSpec, ...]:
        return tuple(_round(spec, number) for spec in known.stages if len(spec.rounds) >= number)

    def learn(known: Parameters, tables: Mapping[str, pa.Table]) -> Parameters:
        public, found = dict(known.public), dict(known.found)
        for spec in known.stages:
            if len(spec.rounds) < number:
                continue
            told = tables[_round(spec, number).name]
            kept = told.filter(told.column(rounds.KEPT))
            before = known.found.get(spec.name)
            if before is not None:
                told = pa.concat_tables([before.filter(before.column(rounds.KEPT)), told])
            found[spec.name] = told
            all_kept = [public[spec.name]] if spec.name in public else []
            public[spec.name] = pa.concat_tables([*all_kept, kept.select(list(spec.keys))])
        return replace(known, public=public, found=found)

    return Phase(name=f"selecting partitions, round {number}", stages=stages, learn=learn)


def _round(spec: StageSpec, number: int) -> StageSpec:
    """The stage's round: it counts units in at most `l0` partitions each, and nothing else."""
    return replace(
        spec,
        name=f"{spec.name}.round{number}",
        bounds=Bounds(l0=spec.bounds.partitions),
        metrics=(),
        noise={},
        round=number,
    )


def known_to(spec: StageSpec, found: Mapping[str, pa.Table]) -> pa.Table | None:
    """What the rounds before this one found for its stage."""
    return found.get(spec.name.rpartition(".")[0])
