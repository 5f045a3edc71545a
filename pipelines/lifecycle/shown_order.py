"""In which order people expect a stage's partitions: that of their keys, or of the policy's list.

Guarantee: the order follows from keys that are released and from the policy, never from a noisy value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.engine.stage import StageSpec
from dpbeam.queries.source import Bin, Derived, Truncate
from dpbeam.reading.derive import bin_labels
from dpbeam.reporting.stage_page import MAX_BARS_IN_ORDER

_ORDERED_TYPES = frozenset({"int64", "date", "timestamp"})


def ordered(
    spec: StageSpec, table: pa.Table, derived: Sequence[Derived], public: pa.Table | None
) -> tuple[pa.Table, Literal["keys", "policy"] | None]:
    """The stage's result `table` in the order that people expect, and which one that is.

    Numbers, dates and intervals have an order of their own, whether they are read or derived. A short list of `public`
    partitions comes as the policy writes it. Other keys have none: their table stays as it is.
    """
    cut = {each.name: each for each in derived if isinstance(each, Bin | Truncate)}
    kinds = [cut.get(key, kind) for key, kind in zip(spec.leaf_keys, spec.key_types, strict=False)]
    if not spec.keys or spec.hierarchical:
        return table, None
    if all(isinstance(kind, Bin | Truncate) or kind in _ORDERED_TYPES for kind in kinds):
        places = {f"{i}": _places(table[key], kind) for i, (key, kind) in enumerate(zip(spec.keys, kinds, strict=True))}
        return _sorted(table, pa.table(places)), "keys"
    if public is not None and public.num_rows <= MAX_BARS_IN_ORDER:
        listed = {_joined(row, spec.keys): i for i, row in enumerate(public.to_pylist())}
        rows = table.select(spec.keys).to_pylist()
        ranks = [listed.get(_joined(row, spec.keys), len(listed)) for row in rows]
        return _sorted(table, pa.table({"0": ranks})), "policy"
    return table, None


def _places(keys: pa.ChunkedArray, kind: object) -> pa.ChunkedArray:
    """What a column of keys sorts by: intervals by their edges, all else by itself (dates cut to a month are text in
    ISO 8601)."""
    return pc.index_in(keys, value_set=pa.array(bin_labels(kind.edges))) if isinstance(kind, Bin) else keys


def _sorted(table: pa.Table, places: pa.Table) -> pa.Table:
    order = pc.sort_indices(places, sort_keys=[(name, "ascending") for name in places.column_names])
    return table.take(order)


def _joined(row: dict[str, object], keys: Sequence[str]) -> tuple[object, ...]:
    return tuple(row[key] for key in keys)
