"""The phases of stages that select partitions before the main job, in rounds or as the leaves of hierarchical keys: one
Beam job a round, for all such stages together.

What a round keeps is public. The next round looks at the rest alone, and after the last the main job aggregates over
what was kept as over public partitions: rows of others go before bounding, so no unit spends its `l0` on them.
MAD2R's first round also hands the second the partitions that have a prospect, 16 % of all or more, with their biases:
they pass through staging and this process, within the trust zone, and are never published unless they are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from dpbeam.accounting.rounds import round_weights
from dpbeam.engine.bounding import hierarchy
from dpbeam.engine.rounds.earlier_rounds import KEPT
from dpbeam.engine.stage import LEVEL, Flat, Round, StageSpec
from dpbeam.phases.phase import Parameters, Phase
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.query import Query
from dpbeam.queries.selections import InRounds


def phases(query: Query) -> tuple[Phase, ...]:
    """As many phases as the stage with the most rounds has."""
    selections = [stage.selection for stage in query.stages if stage.selection is not None]
    counts = [len(round_weights(selection)) for selection in selections if isinstance(selection, InRounds)]
    counts += [1 for selection in selections if selection.hierarchy is not None]
    return tuple(_phase(number) for number in range(1, max(counts, default=0) + 1))


def _phase(number: int) -> Phase:
    def stages(known: Parameters) -> tuple[StageSpec, ...]:
        return tuple(_round(spec, number) for spec in known.stages if _rounds_of(spec) >= number)

    def learn(known: Parameters, tables: Mapping[str, pa.Table]) -> Parameters:
        public, earlier_rounds = dict(known.public), dict(known.earlier_rounds)
        stages = []
        for spec in known.stages:
            stages.append(spec)
            if _rounds_of(spec) < number:
                continue
            table = tables[_round(spec, number).name]
            if not spec.rounds:
                table = table.append_column(KEPT, pa.array([True] * table.num_rows, pa.bool_()))
            kept = table.filter(table.column(KEPT))
            before = known.earlier_rounds.get(spec.name)
            if before is not None:
                table = pa.concat_tables([before.filter(before.column(KEPT)), table])
            earlier_rounds[spec.name] = table
            all_kept = [public[spec.name]] if spec.name in public else []
            leaves = pa.concat_tables([*all_kept, kept.select(list(spec.keys))])
            public[spec.name] = leaves
            if spec.hierarchical and number == _rounds_of(spec):
                stages[-1] = _rolled(spec)
                public[spec.name], earlier_rounds[spec.name] = hierarchy.cells(leaves, spec.keys), leaves
        return replace(known, stages=tuple(stages), public=public, earlier_rounds=earlier_rounds)

    return Phase(name=f"selecting partitions, round {number}", stages=stages, learn=learn)


def _round(spec: StageSpec, number: int) -> StageSpec:
    """The stage's round: units in at most `l0` partitions each, and nothing else. A selection without rounds decides
    here as it would in the main job."""
    return replace(
        spec,
        name=f"{spec.name}.round{number}",
        bounds=spec.bounds if spec.unit is None else Bounds(l0=spec.bounds.partitions),
        metrics=(),
        noise={},
        mode=Round(number=number, stage=spec.name) if spec.rounds else Flat(),
    )


def _rounds_of(spec: StageSpec) -> int:
    """How many phases come before the stage's own job."""
    return len(spec.rounds) or int(spec.hierarchical)


def _rolled(spec: StageSpec) -> StageSpec:
    """The stage over the cells of its kept leaves, all of which are public."""
    return replace(spec, keys=(*spec.keys, LEVEL), key_types=(*spec.key_types, "int64"), selection=None)


def known_to(spec: StageSpec, earlier_rounds: Mapping[str, pa.Table]) -> pa.Table | None:
    """What the rounds before this one found for its stage."""
    return earlier_rounds.get(spec.mode.stage) if isinstance(spec.mode, Round) else None
