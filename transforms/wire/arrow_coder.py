"""A Beam coder for Arrow record batches, as IPC streams.

Beam would pickle a batch, which ships a slice's whole parent buffer (2 MB for 100 rows). IPC writes only the rows
of the slice, and keeps the schema's metadata, which carries a block's place in the input.
"""

from __future__ import annotations

import pyarrow as pa
from apache_beam import coders
from apache_beam.coders import typecoders

MAX_MESSAGE_BYTES = 4 << 20
"""Largest batch sent through a shuffle. Flink passed 8 MB and failed at 64 MB."""


class ArrowBatchCoder(coders.Coder):
    """Encodes one `pyarrow.RecordBatch` as an IPC stream of one batch. Not for keys: equal batches may differ."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_batch(value)
        encoded: bytes = sink.getvalue().to_pybytes()
        return encoded

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(pa.py_buffer(encoded)) as reader:
            return reader.read_next_batch()

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        batches: type = pa.RecordBatch
        return batches


def register() -> None:
    """Makes Beam use the coder for every element typed `pyarrow.RecordBatch`. Safe to call again."""
    typecoders.registry.register_coder(pa.RecordBatch, ArrowBatchCoder)


def sized(batch: pa.RecordBatch, max_bytes: int = MAX_MESSAGE_BYTES) -> list[pa.RecordBatch]:
    """Cuts a batch into slices of at most `max_bytes` each (one row may be larger), in order, all rows kept."""
    pieces, todo = [], [batch]
    while todo:
        piece = todo.pop()
        if piece.nbytes <= max_bytes or piece.num_rows <= 1:
            pieces.append(piece)
        else:
            half = piece.num_rows // 2
            todo += [piece.slice(half), piece.slice(0, half)]
    return pieces
