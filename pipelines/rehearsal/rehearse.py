"""The whole path of a run, on made-up data and under a throw-away ledger: what a policy's release would be like.

Guarantee: neither the policy's source nor a ledger of anybody's is opened. All that is written lies in a temporary
folder of mode 0700, and is removed before the end, also when the rehearsal fails or a signal stops it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from dpbeam.errors import DpbeamError
from dpbeam.ledger import Safeguards, open_ledger
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.meters import BASIC, meter_named
from dpbeam.pipelines.jobs.options import beam_options
from dpbeam.pipelines.lifecycle import identity
from dpbeam.pipelines.lifecycle.metered import cap_in
from dpbeam.pipelines.lifecycle.release import make_release
from dpbeam.pipelines.lifecycle.steps import Progress
from dpbeam.pipelines.lifecycle.values import Published, Request
from dpbeam.pipelines.rehearsal.made_up import made_up
from dpbeam.policy.compile import query as compile_query
from dpbeam.policy.schema.policy import Policy
from dpbeam.queries.query import Query
from dpbeam.queries.source import InputSpec
from dpbeam.reporting.certify import certify
from dpbeam.reporting.manifest import MANIFEST_NAME


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """A release of made-up rows, published and certified. Its files are there as long as `rehearsed` lasts."""

    published: Published
    rows: int


@contextmanager
def rehearsed(policy: Policy, units: int, progress: Progress = lambda says: None) -> Iterator[Rehearsed]:
    """Rehearses a policy on so many made-up units. The budget is the policy's own, or what one run costs. How many
    made-up rows the bounds keep says nothing of the policy, so its floor of coverage isn't looked at.

    Raises:
        UsageError, Refused, RunFailed: as the run of the policy would; or no data can be made up.
        Uncertified: the release doesn't certify.
    """
    with tempfile.TemporaryDirectory(prefix="dpbeam-rehearsal-") as name, _temporary_files_in(name):
        folder = Path(name)
        source = folder / "made-up.parquet"
        query = _reading(compile_query(policy), source)
        table = made_up(query, units)
        pq.write_table(table, source)
        stated = policy.budget or policy.run
        ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}", create=True, safeguards=Safeguards())
        protected = identity.scope(query, [str(source)]).protected
        meter = meter_named(policy.budget.meter) if policy.budget else BASIC
        cap = Amount.cap(stated.epsilon, stated.delta)
        ledger.create_budget(
            policy.dataset, cap_in(meter, cap), stated=None if meter == BASIC else cap, protected=protected
        )
        asked = Request.of(
            policy, release_name="rehearsal", ledger=ledger, options=beam_options([]), output=folder / "releases"
        )
        try:
            published = make_release(replace(asked, query=query, min_coverage=None), progress)
        except DpbeamError as error:
            raise error.unspent().saying("This was a rehearsal on made-up data: nothing is charged.") from None
        certify(published.folder / MANIFEST_NAME)
        yield Rehearsed(published=published, rows=table.num_rows)


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Beam makes a temporary folder for each pipeline, and leaves it there."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def _reading(query: Query, path: Path) -> Query:
    """The query of a Parquet file, whose columns have the names that the policy gives them."""
    spec = query.source
    columns = tuple(replace(column, field=None) for column in spec.columns)
    stood_in = InputSpec(
        format="parquet",
        paths=(str(path),),
        columns=columns,
        derived=spec.derived,
        where=spec.where,
        unused=spec.unused,
    )
    return replace(query, source=stood_in)
