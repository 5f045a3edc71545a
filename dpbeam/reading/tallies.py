"""Tallies: of each privacy unit, how many of its rows were read in a block, and how many passed.

Rows that a rule or a condition drops leave nothing else behind. A run that buys its coverage needs to know how many
they were, unit by unit, before anything is added up over units.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.queries.source import InputSpec
from dpbeam.reading import rows

READ, PASSED = "__read", "__passed"
"""Columns of a unit's tally: its rows in the block, and those of them that no rule and no condition dropped."""


def prepare_counted(batch: pa.RecordBatch, spec: InputSpec, unit: str | None) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """What `rows.prepare` gives, and the tallies of the batch: a row a unit, of `unit`, `READ` and `PASSED` (int64);
    where rows are units of their own (None), one row without `unit` for all of them.

    Guarantee: a unit's tally depends on that unit's rows in the batch alone. Rows whose unit is missing or can't be
    read are nobody's, so no tally has them.

    Raises:
        DataError, KeyError, TypeError: as `rows.prepare`.
    """
    prepared, places = rows.prepare_placed(batch, spec)
    passed = np.zeros(batch.num_rows, dtype=np.int64)
    passed[places] = 1
    if unit is None:
        return prepared, pa.RecordBatch.from_pydict({READ: [batch.num_rows], PASSED: [len(places)]})
    values, unknown = rows.settled(batch, spec, unit)
    found = pa.table({unit: values, PASSED: pa.array(passed)})
    if unknown is not None:
        found = found.filter(pc.invert(unknown))
    # One thread, and so the same order each time: a block that is executed again sends the same messages.
    found = found.group_by(unit, use_threads=False).aggregate([(PASSED, "count"), (PASSED, "sum")])
    columns = [found.column(name).combine_chunks() for name in (unit, f"{PASSED}_count", f"{PASSED}_sum")]
    return prepared, pa.RecordBatch.from_arrays(columns, names=[unit, READ, PASSED])


def joined(prepared: pa.RecordBatch, tallies: pa.RecordBatch) -> pa.RecordBatch:
    """Rows and tallies as one batch, to be sent together: tallies are its last rows, with nulls where they have
    nothing; in other rows `READ` and `PASSED` are 0."""
    size, more = prepared.num_rows, tallies.num_rows
    schema = pa.schema([*prepared.schema, pa.field(READ, pa.int64()), pa.field(PASSED, pa.int64())])
    none = pa.array(np.zeros(size, dtype=np.int64))
    columns = []
    for field in schema:
        above = none if field.name in (READ, PASSED) else prepared.column(field.name)
        below = tallies.column(field.name) if field.name in tallies.schema.names else pa.nulls(more, field.type)
        columns.append(pa.concat_arrays([above, below.cast(field.type)]))
    return pa.RecordBatch.from_arrays(columns, schema=schema.with_metadata(prepared.schema.metadata))


def apart(batch: pa.RecordBatch, unit: str | None) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """What was `joined`, apart again: the rows without the columns of tallies, and the tallies."""
    rows_ = int(np.count_nonzero(batch.column(READ).to_numpy() == 0))
    names = [name for name in batch.schema.names if name not in (READ, PASSED)]
    own = [READ, PASSED] if unit is None else [unit, READ, PASSED]
    return batch.slice(0, rows_).select(names), batch.slice(rows_).select(own)


def is_tally(batch: pa.RecordBatch) -> bool:
    """Whether a batch holds tallies, and not rows."""
    return READ in batch.schema.names
