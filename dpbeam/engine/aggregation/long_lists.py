"""Long lists in accumulators, cut into several rows of their partition for transport; merging makes them whole.

A batch is cut into messages between its rows, so one row must not be larger than a message; but a partition's set of
distinct values, or its counts by value, may be.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

I64 = npt.NDArray[np.int64]

PIECE_BYTES = 1 << 20
"""A row's list gets a new piece where this many bytes are full; one entry may be larger."""


def spread(batch: pa.RecordBatch, piece_bytes: int = PIECE_BYTES) -> pa.RecordBatch:
    """The batch with each row as one row or more, their lists cut into consecutive pieces.

    The first row of a partition carries its numbers; the others carry zeros, and the keys. So adding up numbers and
    uniting lists by partition gives what it gave before.
    """
    lists = [i for i, field in enumerate(batch.schema) if pa.types.is_list(field.type)]
    if not lists or batch.nbytes <= piece_bytes:
        return batch
    pieces = {i: _piece_of_entry(batch.column(i), piece_bytes) for i in lists}
    pieces_of_row = np.max([1 + last for _, last in pieces.values()], axis=0)
    if (pieces_of_row == 1).all():
        return batch
    row = np.repeat(np.arange(batch.num_rows), pieces_of_row)
    part = np.arange(len(row)) - np.repeat(np.cumsum(pieces_of_row) - pieces_of_row, pieces_of_row)
    columns = []
    for i, column in enumerate(batch.columns):
        if i in pieces:
            columns.append(_cut(column, pieces[i][0], np.cumsum(pieces_of_row) - pieces_of_row, len(row)))
        elif batch.schema.field(i).name.startswith("__"):
            columns.append(_first(column, row, part == 0))
        else:
            columns.append(column.take(pa.array(row)))
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _piece_of_entry(column: pa.Array, piece_bytes: int) -> tuple[I64, I64]:
    """For each entry of the lists the piece of its row that it is in, and for each row its last piece."""
    sizes = np.diff(column.offsets.to_numpy()).astype(np.int64)
    entry_bytes = _entry_bytes(column.flatten())
    ends = np.cumsum(sizes)
    before = np.concatenate(([0], np.cumsum(entry_bytes)))
    within = before[:-1] - np.repeat(before[ends - sizes], sizes)  # bytes of the row before this entry
    piece = within // piece_bytes
    last = np.zeros(len(sizes), dtype=np.int64)
    filled = sizes > 0
    last[filled] = piece[ends[filled] - 1]
    return piece, last


def _entry_bytes(entries: pa.Array) -> I64:
    if not pa.types.is_struct(entries.type):
        return np.full(len(entries), 8, dtype=np.int64)
    texts = entries.flatten()[0]
    _, offsets, _ = texts.buffers()
    edges = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1] if len(texts) else [0]
    return np.diff(edges).astype(np.int64) + 16


def _cut(column: pa.Array, piece: I64, first_row: I64, rows: int) -> pa.Array:
    """The list column with entry i in row (first row of its partition) + `piece[i]`."""
    sizes = np.diff(column.offsets.to_numpy())
    row = np.repeat(first_row, sizes) + piece
    offsets = np.searchsorted(row, np.arange(rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, column.flatten())


def _first(column: pa.Array, row: I64, first: npt.NDArray[np.bool_]) -> pa.Array:
    """The numbers, or fixed-size lists of them, in the first row of each partition; zeros in the others."""
    if pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        numbers = np.where(first[:, np.newaxis], column.flatten().to_numpy().reshape(-1, size)[row], 0)
        return pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), size)
    return pa.array(np.where(first, column.to_numpy()[row], 0))
