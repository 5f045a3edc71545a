"""The transforms that make a release of the rows of somebody's own pipeline, and let it go on with what is released.

See `dpbeam.beam` for what they guarantee, and why.
"""

from __future__ import annotations

import os
import secrets
from types import TracebackType
from typing import Any

import apache_beam as beam

from dpbeam.beam.charge import Charge, Question
from dpbeam.beam.read import ReadRelease
from dpbeam.errors import UsageError
from dpbeam.ledger import Ledger
from dpbeam.pipelines.jobs import aggregate, workers
from dpbeam.pipelines.jobs.options import settled
from dpbeam.pipelines.library.plans import policy_of
from dpbeam.pipelines.library.releases import Release
from dpbeam.pipelines.lifecycle.inputs import SHARDS_A_WORKER
from dpbeam.pipelines.lifecycle.values import Charged, Published
from dpbeam.transforms.sources.collection import CollectBlocks
from dpbeam.transforms.steps.freeze import FreezeStage

UNIT_SHARDS = 64
"""How many shards units are spread over, at least. Results don't depend on it."""

Rows = beam.PCollection[dict[str, Any]]


def _build(rows: beam.PCollection[Any], charge: Charge, charged: Charged) -> aggregate.Built:
    """Adds the main job to the pipeline, from these rows on."""
    known, request = charged.planned.parameters, charged.request
    shards = max(UNIT_SHARDS, SHARDS_A_WORKER * workers.workers(settled(request.options)))
    job = aggregate.Job(
        input=known.query.source,
        splits=None,
        stages=known.stages,
        public=known.public,
        earlier_rounds=known.earlier_rounds,
        user_shards=1 << (shards - 1).bit_length(),
        result_shards=request.shards,
        salt=secrets.token_bytes(16),
        area=charged.area,
    )
    built = aggregate.build_on(rows | "Rows" >> CollectBlocks(known.query.source), job)
    charge.built(built.shuffles)
    return built


class PrivateRelease(beam.PTransform[beam.PCollection[Any], beam.pvalue.PDone]):
    """A sink that makes a release of all stages of a query from rows, and publishes it when the pipeline is done.

    Use it around the pipeline, or call `finish(result)` after it; the arguments are those of `Charge`. A run that
    failed may be tried again under its charge, at no further cost, by the same program: what it drew was never seen.

    Args:
        query: what `dpbeam.query` builds, or a policy as `load_policy` gives it. Its columns say how rows are read and
            what happens to bad ones; its source isn't read.

    Raises:
        UsageError, Refused: (when it is applied) see `Charge.pay`.
    """

    def __init__(
        self,
        query: Question,
        *,
        ledger: Ledger | str,
        output: str | os.PathLike[str],
        name: str,
        period: str | None = None,
        source: str | None = None,
        refresh: bool = False,
        accept_source: bool = False,
    ) -> None:
        super().__init__()
        self.query = query
        self.charge = Charge(
            ledger=ledger,
            output=output,
            name=name,
            period=period,
            source=source,
            refresh=refresh,
            accept_source=accept_source,
        )

    def expand(self, rows: beam.PCollection[Any]) -> beam.pvalue.PDone:
        charged = self.charge.pay(self.query, rows, within=False)
        if not isinstance(charged, Published):
            _build(rows, self.charge, charged)
        return beam.pvalue.PDone(rows.pipeline)

    @property
    def published(self) -> Release:
        """See `Charge.published`."""
        return self.charge.published

    def finish(self, result: Any = None) -> Release:
        """See `Charge.finish`."""
        return self.charge.finish(result)

    def __enter__(self) -> PrivateRelease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.charge.__exit__(kind, error, trace)


class PrivateAggregate(beam.PTransform[beam.PCollection[Any], Rows]):
    """Releases the rows of the query's one stage within the pipeline, which goes on with them as dicts.

    They are also published, as `PrivateRelease` does, when the pipeline is done: so the release, its report and its
    manifest show what the pipeline went on with. However often a runner executes what, and however many steps read
    them, they are one draw. So that this holds for two runs, too, a charge is tried once: if the pipeline fails, what
    it cost is spent, and another draw costs anew.

    Args:
        query: as for `PrivateRelease`, with one stage, which has metrics. Of several stages: release them, and read
            them in another pipeline with `ReadRelease`.
        charge: pays for it.

    Raises:
        UsageError, Refused: (when it is applied) see `Charge.pay`.
    """

    def __init__(self, query: Question, *, charge: Charge) -> None:
        super().__init__()
        self._query, self._charge = query, charge

    def expand(self, rows: beam.PCollection[Any]) -> Rows:
        stage, metrics = _one_stage(self._query)
        if not metrics:
            raise UsageError(f"stage {stage} has no metrics: use PrivateKeys. Nothing was charged")
        return _within(rows, self._query, self._charge)


class PrivateKeys(beam.PTransform[beam.PCollection[Any], beam.PCollection[Any]]):
    """Selects the keys of the query's one stage, which has no metrics: each a value, or a tuple of them where the stage
    groups by several columns. In all else as `PrivateAggregate`."""

    def __init__(self, query: Question, *, charge: Charge) -> None:
        super().__init__()
        self._query, self._charge = query, charge

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        stage, metrics = _one_stage(self._query)
        if metrics:
            raise UsageError(f"stage {stage} has metrics: use PrivateAggregate. Nothing was charged")
        keys: beam.PCollection[Any] = _within(rows, self._query, self._charge) | "Keys" >> beam.Map(_key)
        return keys


def _key(row: dict[str, Any]) -> Any:
    values = tuple(row.values())
    return values[0] if len(values) == 1 else values


def _one_stage(question: Question) -> tuple[str, bool]:
    """The name of the one stage, and whether it has metrics."""
    stages = policy_of(question).stages
    if len(stages) != 1:
        raise UsageError(
            f"the query must have one stage here, got {len(stages)}; use PrivateRelease, and read each stage of "
            "the release with ReadRelease in a pipeline after it. Nothing was charged"
        )
    return stages[0].name, bool(stages[0].metrics)


def _within(rows: beam.PCollection[Any], query: Question, charge: Charge) -> Rows:
    charged = charge.pay(query, rows, within=True)
    if isinstance(charged, Published):
        read: Rows = rows.pipeline | "Published" >> ReadRelease(charged.folder)
        return read
    built = _build(rows, charge, charged)
    (spec,) = charged.planned.parameters.stages
    freeze = FreezeStage(
        stage=spec.name,
        keys=spec.keys,
        result_shards=charged.request.shards,
        shuffles=built.shuffles,
        area=charged.area,
    )
    released: Rows = (built.staged[spec.name], built.agreed) | "Released" >> freeze
    return released
