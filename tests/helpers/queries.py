"""Queries from policies as plain data, or from policy files, for tests that plan them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpbeam.policy.compile import query
from dpbeam.policy.load import load_policy
from dpbeam.policy.public import public_table
from dpbeam.policy.schema.policy import Policy
from dpbeam.policy.schema.resolved import PublicPartitions, Resolved
from dpbeam.queries.query import Query


def query_of(plain: dict[str, Any]) -> Query:
    """What a policy asks whose parts fit together: only single fields are checked, as no file is read."""
    policy = Policy.model_validate(plain)
    tables = {
        stage.name: public_table(
            stage.partitions.public,
            stage.group_by,
            ["string" if key in policy.derive else policy.columns[key].value_type for key in stage.group_by],
            Path(),
            (),
        )[0]
        for stage in policy.stages
        if stage.partitions is not None and stage.partitions.public is not None
    }
    return query(Policy.model_validate(plain, context=Resolved(public=PublicPartitions(tables=tables))))


def load_query(path: str | Path) -> Query:
    """What a policy file asks."""
    return query(load_policy(path))
