"""Small pipelines of somebody's own, with `dpbeam.beam` in them, and a place where their steps note what they see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from dpbeam.beam import Charge, PrivateRelease
from dpbeam.policy.load import load_policy
from dpbeam.policy.schema.policy import Policy

HERE = "--runner=FnApiRunner"
SEEN: dict[str, list[Any]] = defaultdict(list)
"""What `see` was given, by name; begun anew by `public_policy`."""


def visits(people: int = 60) -> list[dict[str, Any]]:
    return [
        {"person": f"p{i}", "place": place, "amount": float((i * 7 + j) % 11)}
        for i in range(people)
        for j, place in enumerate(("inn", "zoo", f"x{i % 3}"))
    ]


def pipeline(*flags: str) -> beam.Pipeline:
    return beam.Pipeline(options=PipelineOptions([HERE, *flags]))


def public_policy(workspace) -> Callable[[], Policy]:
    """Gives the policy as it then is, with public places, so that every value is released; the budget is there."""
    SEEN.clear()
    (only,) = workspace.policy["stages"]
    only["partitions"] = {"public": {"values": ["inn", "zoo", "x0", "x1", "x2"]}}
    workspace.create_budget()
    return lambda: load_policy(workspace.policy_path)


def charge_of(workspace, **how) -> Charge:
    return Charge(**{"ledger": workspace.ledger, "output": workspace.output, "name": "default", **how})


def release_of(workspace, asked, **how) -> PrivateRelease:
    return PrivateRelease(asked, **{"ledger": workspace.ledger, "output": workspace.output, "name": "default", **how})


def published(workspace) -> list[dict[str, Any]]:
    return pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()


def see(row: Any, name: str) -> Any:
    SEEN[name].append(row)
    return row
