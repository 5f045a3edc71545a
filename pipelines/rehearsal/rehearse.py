"""The whole path of a run, on made-up data and under a throw-away ledger: what a policy's release would be like.

Guarantee: neither the policy's source nor a ledger of anybody's is opened. All that is written lies in a temporary
folder of mode 0700, and is removed before the end, also when the rehearsal fails or a signal stops it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from dpbeam.ledger import open_ledger
from dpbeam.ledger.amounts import Amount
from dpbeam.pipelines.jobs.options import beam_options
from dpbeam.pipelines.lifecycle import identity
from dpbeam.pipelines.lifecycle.release import make_release
from dpbeam.pipelines.lifecycle.steps import Progress
from dpbeam.pipelines.lifecycle.values import Published, Request
from dpbeam.pipelines.rehearsal.made_up import made_up
from dpbeam.policy.compile import query as compile_query
from dpbeam.policy.schema.policy import Policy, Source
from dpbeam.reporting.certify import certify
from dpbeam.reporting.manifest import MANIFEST_NAME


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """A release of made-up rows, published and certified. Its files are there as long as `rehearsed` lasts."""

    published: Published
    rows: int


@contextmanager
def rehearsed(policy: Policy, units: int, progress: Progress = lambda says: None) -> Iterator[Rehearsed]:
    """Rehearses a policy on so many made-up units. The budget is the policy's own, or what one run costs.

    Raises:
        UsageError, Refused, RunFailed: as the run of the policy would; or no data can be made up.
        Uncertified: the release doesn't certify.
    """
    with tempfile.TemporaryDirectory(prefix="dpbeam-rehearsal-") as name, _temporary_files_in(name):
        folder = Path(name)
        table = made_up(compile_query(policy), units)
        pq.write_table(table, folder / "made-up.parquet")
        standing_in = _reading(policy, folder / "made-up.parquet")
        stated = policy.budget or policy.run
        ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}", create=True)
        cap = Amount.cap(stated.epsilon, stated.delta)
        ledger.create_budget(policy.dataset, cap, protected=identity.protected(standing_in))
        request = Request.of(
            standing_in, release_name="rehearsal", ledger=ledger, options=beam_options([]), output=folder / "releases"
        )
        published = make_release(request, progress)
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


def _reading(policy: Policy, path: Path) -> Policy:
    """The policy with a Parquet file as its source, whose columns have the policy's own names."""
    source = Source(format="parquet", path=(str(path),), pre_aggregated=policy.source.pre_aggregated)
    columns = {name: rules.model_copy(update={"field": None}) for name, rules in policy.columns.items()}
    return policy.model_copy(update={"source": source, "columns": columns})
