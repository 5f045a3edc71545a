"""Charges: what pays for one release that is made in somebody's own pipeline, and publishes it when that is done.

The steps are those of `dpbeam run` (`dpbeam.pipelines.lifecycle`), of which somebody else runs the job in the middle.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import apache_beam as beam
from apache_beam.runners.runner import PipelineState

from dpbeam.errors import DataError, DpbeamError, RunFailed, Spent, UsageError
from dpbeam.ledger import Ledger, open_ledger
from dpbeam.pipelines.jobs import runners
from dpbeam.pipelines.library.plans import policy_of
from dpbeam.pipelines.library.releases import Release, read_release
from dpbeam.pipelines.lifecycle import charging, release, stopping
from dpbeam.pipelines.lifecycle.attempts import STAGING_NAME, fail, journalled, settle_stopped
from dpbeam.pipelines.lifecycle.inputs import PipelineRows
from dpbeam.pipelines.lifecycle.naming import ReleaseName
from dpbeam.pipelines.lifecycle.values import Charged, Checked, Published, Request, Staged
from dpbeam.policy.builder import QueryBuilder
from dpbeam.policy.schema.policy import Policy
from dpbeam.queries.query import Query
from dpbeam.transforms.wire.containment import ours
from dpbeam.transforms.wire.control import Shuffle
from dpbeam.transforms.wire.staging import make_private

Question = Policy | QueryBuilder
"""A policy as `load_policy` gives it, or what `dpbeam.query` builds."""


class Charge:
    """Pays for one release made by one transform of a pipeline, once, and publishes it when the pipeline is done.

    Use it around the pipeline: leaving it publishes, or, after an error, settles what was charged. Or call `finish`.

    Args:
        ledger: an open ledger, or the URL of one. The dataset's budget must be there: `dpbeam budget create`.
        output: the folder of releases, which all workers must see under this path.
        name: names this release: the same query on the same source under the same name is the same release, which
            comes back at no cost. Name the version of the rows, for nobody can tell it from them.
        period: what the release is about, such as 2026-W48; stands in the name where that says `{period}`, and in the
            manifest.
        source: how the rows' source is called, for the ledger binds a dataset's budget to it; the query's own paths if
            None.
        refresh: make a new release, charged anew, though there is one.
        accept_source: the dataset's budget is meant for this source, new to it, as well.
    """

    def __init__(
        self,
        *,
        ledger: Ledger | str,
        output: str | os.PathLike[str],
        name: str,
        period: str | None = None,
        source: str | None = None,
        refresh: bool = False,
        accept_source: bool = False,
    ) -> None:
        if "://" in str(output):
            raise UsageError(f"output must be a folder that this machine and all workers see, got {str(output)!r}")
        self._ledger = open_ledger(ledger) if isinstance(ledger, str) else ledger
        self._output = Path(output).absolute()
        self._name, self._source = ReleaseName.of(name, period), source
        self._refresh, self._accept_source = refresh, accept_source
        self._lock = threading.Lock()
        self._used = False
        self._charged: Charged | None = None
        self._shuffles: tuple[Shuffle, ...] = ()
        self._result: Any = None
        self._published: Published | None = None

    @property
    def published(self) -> Release:
        """What was published, verified: where it lies (`folder`), its tables, whether it was there before (`cached`).

        Raises:
            UsageError: nothing is, yet.
            Uncertified: it was changed since; see `read_release`.
        """
        if self._published is None:
            raise UsageError(
                "nothing is published under this charge yet: that is done when what it was entered for is left, or by "
                "finish(result) after the pipeline has run"
            )
        return replace(read_release(self._published.folder), cached=self._published.cached)

    def pay(self, question: Question, rows: beam.PCollection[Any], *, within: bool) -> Charged | Published:
        """Plans, checks and charges, for the transforms of this package; or finds the release published already.

        `within` says that results go on within the pipeline: then they are drawn in one attempt only.

        Raises:
            UsageError: something is asked for, or of a pipeline, that can't be kept; nothing was charged.
            Refused: the budget, or a run of the same release that isn't finished, says no; nothing was charged.
        """
        with self._lock, stopping.untorn():
            if self._used:
                raise UsageError(
                    "this charge pays for one transform, applied once: a second would draw again. Make another charge, "
                    "under another name. Nothing more was charged"
                )
            reserved = charging.reserve(self._checked(question, rows, within=within))
            self._used = True
            if isinstance(reserved, Published):
                self._published = reserved
                return reserved
            charged = self._charged = charging.start(reserved)
        with journalled(self._ledger, charged.charge, "staging"):
            charged.area.create()
        return charged

    def built(self, shuffles: tuple[Shuffle, ...]) -> None:
        """Notes the shuffles whose control totals must agree before anything is published."""
        self._shuffles = shuffles

    def finish(self, result: Any = None) -> Release:
        """Waits for the pipeline whose `result` this is, verifies what it staged, and publishes it at once and whole.

        Call it when the pipeline is done; without `result`, it must be. Called again, it returns the same.

        Raises:
            UsageError: no transform was applied under this charge.
            RunFailed: the pipeline failed, or wasn't run, or what it staged isn't whole: nothing was published, what it
                cost stays spent.
        """
        if self._published is None and self._charged is None:
            raise UsageError("no transform was applied under this charge, so there is nothing to publish")
        if result is not None:
            self._await(result)
        if self._published is None and self._charged is not None:
            charged = self._charged
            staged = Staged(charged=charged, parameters=charged.planned.parameters, shuffles=self._shuffles)
            try:
                assembled = release.assemble(release.verify(staged))
            except BaseException as error:
                if isinstance(error, Exception):  # the step has settled what it was charged for
                    self._charged = None
                self.settle(error)
                raise
            with stopping.untorn():
                self._charged = None  # from here on publishing settles what it was charged for
                self._published = release.commit(assembled)
        return self.published

    def __del__(self) -> None:
        if getattr(self, "_charged", None) is not None:
            logging.getLogger("dpbeam").warning(
                "a release that was charged was never published, since nobody said that its pipeline is done: enter it "
                "around the pipeline, or call finish(result). `dpbeam recover` settles it"
            )

    def _await(self, result: Any) -> None:
        try:
            state = result.wait_until_finish()
        except BaseException as error:
            self.settle(error)
            raise
        if state != PipelineState.DONE:
            failure = RunFailed(f"the pipeline ended as {state}; nothing was published")
            self.settle(failure)
            raise failure

    def settle(self, error: BaseException) -> None:
        """Clears what a pipeline that failed has staged, and journals it: what it cost stays spent.

        Raises:
            RunFailed: the pipeline failed in a step of ours, with what that says, and what stays spent.
        """
        charged, self._charged = self._charged, None
        if charged is None:
            return
        if not isinstance(error, Exception):
            with suppress(DpbeamError):  # else `dpbeam recover` settles it
                settle_stopped(self._ledger, charged.charge)
            return
        failure = error if isinstance(error, RunFailed) else ours(error)
        spent: Spent | None = None
        unsaid: tuple[str, ...] = ()
        try:
            spent = fail(self._ledger, charged.charge, "data_rule" if isinstance(failure, DataError) else "pipeline")
        except DpbeamError as unsettled:
            unsaid = (
                f"{charged.charge.amount} of dataset {charged.charge.dataset} stays spent; what it began is left as it "
                f"was ({unsettled}), and `dpbeam recover` settles it.",
            )
        if failure is not None:
            raise failure.knowing(spent=spent).saying(*unsaid) from None

    def __enter__(self) -> Charge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.settle(error)
        elif self._charged is not None:
            self.finish()

    def _checked(self, question: Question, rows: beam.PCollection[Any], *, within: bool) -> Checked:
        """What `plan` and `guard` of `dpbeam run` do, of rows that lie in no files."""
        _check_rows(rows)
        runners.check_pipeline(rows.pipeline)
        request = self._request(question, rows.pipeline, within=within)
        _check_query(request.query)
        planned = release.plan(request)
        release.check_release(planned)
        _check_links(self._output / STAGING_NAME)
        return Checked(
            planned=planned, inputs=PipelineRows(source=self._source, ends="pipeline" if within else "release")
        )

    def _request(self, question: Question, pipeline: beam.Pipeline, *, within: bool) -> Request:
        if isinstance(question, QueryBuilder) and question.table is not None:
            raise UsageError(
                "the query's source is a frame in memory, and the rows are the pipeline's: begin the query with a path "
                "as source, and the columns' types. Nothing was charged"
            )
        made = Request.of(
            policy_of(question),
            release_name=self._name.text,
            period=self._name.period,
            ledger=self._ledger,
            options=pipeline.options,
            output=self._output,
            refresh=self._refresh,
            accept_source=self._accept_source,
        )
        return replace(made, max_attempts=1) if within else made


def _check_rows(rows: beam.PCollection[Any]) -> None:
    if not isinstance(rows, beam.PCollection):
        raise UsageError("rows must be a collection of a pipeline. Nothing was charged")
    if not rows.is_bounded or not rows.windowing.is_default():
        raise UsageError(
            "the rows must end, and be in the global window: a guarantee for each window is none for all of them. "
            "Nothing was charged"
        )


def _check_query(query: Query) -> None:
    """Refuses what needs more than one pass over rows that stay the same, or that nothing tells apart."""
    if query.unit is None:
        raise UsageError(
            "the privacy unit can't be the row within a pipeline of your own: a runner may read a row twice, and "
            "nothing tells that from two rows. Name a column that tells whose row it is, or write the rows to files "
            "and use `dpbeam run`. Nothing was charged"
        )
    if any(stage.coverage is not None for stage in query.stages):
        raise UsageError(
            "coverage is counted where dpbeam reads rows, and these come from a pipeline of your own: leave it out of "
            "the query, or write the rows to files and use `dpbeam run`. Nothing was charged"
        )
    if release.phases(query):
        raise UsageError(
            "bounds that the run finds (auto), selections in rounds (mad, mad2r, dp_sips) and hierarchical keys go "
            "over the rows several times, which a pipeline of your own can't be relied on to give again. State the "
            "bounds and select by a strategy of one pass, or write the rows to files and use `dpbeam run`. Nothing was "
            "charged"
        )


def _check_links(staging: Path) -> None:
    """Sees to it that a name can be given to a file there, and is given once (`Area.freeze`).

    Raises:
        UsageError: the file system has no hard links.
    """
    one, other = (staging / f"link-{secrets.token_hex(8)}" for _ in range(2))
    try:
        make_private(str(staging))
        one.touch(exist_ok=False)
        os.link(one, other)
    except OSError as error:
        raise UsageError(
            f"the file system of {staging.parent} has no hard links ({error.strerror}), by which one draw is told from "
            "another; name an output folder on one that has. Nothing was charged"
        ) from None
    finally:
        for made in (one, other):
            with suppress(OSError):
                made.unlink()
        with suppress(OSError):  # other runs may be at work there
            staging.rmdir()
