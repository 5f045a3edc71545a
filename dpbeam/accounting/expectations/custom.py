"""Custom metrics, derived again from the bound that they declare for a row."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, expected_quantities, row_count
from dpbeam.queries.metrics.custom import Custom
from dpbeam.queries.query import Stage


@expected_quantities.register
def _(metric: Custom, stage: Stage) -> Iterator[ExpectedQuantity]:
    bound, shares = metric.custom.row_bound, 2 if metric.custom.needs_count else 1
    root, widest = float(bound.size) ** 0.5, float(bound.most)
    l1 = widest * {"l1": 1.0, "l2": root, "linf": float(bound.size)}[bound.norm]
    l2 = widest * {"l1": 1.0, "l2": 1.0, "linf": root}[bound.norm]
    share = metric.weight / shares
    yield ExpectedQuantity(
        what=("custom", metric.custom, *metric.columns), name=metric.name, l1=l1, l2=l2, weight=share
    )
    if metric.custom.needs_count:
        yield row_count(share)
