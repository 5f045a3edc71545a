"""Arrow arrays of the values that Avro stores, by the types that its schema states."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.reading.formats.avro_schema import arrow_type

_WIDTH = 32
"""Bytes of Arrow's decimal256."""


def stored_type(schema: Any) -> pa.DataType:
    """The Arrow type of values of an expanded schema as `avro_schema.stored` has them read."""
    match schema:
        case {"logicalType": "decimal"} | {"type": "fixed"} | "string":
            return pa.binary()
        case {"type": "enum"} | {"type": "int" | "long"} | "int":
            return pa.int64()
        case {"type": "array", "items": items}:
            return pa.list_(stored_type(_branch(items)))
    return arrow_type(schema)


def typed(values: pa.Array, schema: Any) -> pa.Array:
    """Stored values as what an expanded schema (of a column that the policy may read) says. Text stays bytes: whether
    they are UTF-8 is told value by value.

    Guarantee: element i of the result depends on element i of `values` and on `schema` alone.

    Raises:
        pa.ArrowException, ValueError, OverflowError: one of them is none of the schema's.
    """
    match schema:
        case {"logicalType": "decimal", "scale": scale}:
            return _decimals(values.cast(pa.binary()), scale)
        case {"type": "fixed", "logicalType": "uuid", "size": size}:
            return pa.ExtensionArray.from_storage(pa.uuid(), values.cast(pa.binary()).cast(pa.binary(size)))
        case {"type": "fixed", "size": size}:
            return values.cast(pa.binary()).cast(pa.binary(size))
        case {"type": "enum", "symbols": symbols}:
            encoded = [symbol.encode("utf-8", "surrogatepass") for symbol in symbols]
            return pa.array(encoded, pa.binary()).take(values)
        case {"logicalType": "date"}:
            return values.cast(pa.int32()).cast(pa.date32())
        case {"type": "array", "items": items}:
            values = values.cast(pa.list_(values.type.value_type))
            inner = typed(values.values, _branch(items))
            missing = values.is_null() if values.null_count else None
            return pa.ListArray.from_arrays(values.offsets, inner, mask=missing)
        case "string":
            return values.cast(pa.binary())
    return values.cast(arrow_type(schema))


def _branch(items: Any) -> Any:
    """The schema of an array's items, null aside."""
    if isinstance(items, list):
        return next((branch for branch in items if branch != "null"), "null")
    return items


def _decimals(unscaled: pa.Array, scale: int) -> pa.Array:
    """Whole numbers, as two's complement with the highest byte first, divided by 10**scale."""
    kind, rows = pa.decimal256(76, scale), len(unscaled)
    if not rows:
        return pa.array([], kind)
    ends = np.frombuffer(unscaled.buffers()[1], dtype=np.int32)[unscaled.offset : unscaled.offset + rows + 1]
    data = np.frombuffer(unscaled.buffers()[2] or b"", dtype=np.uint8)
    missing = unscaled.is_null().to_numpy(zero_copy_only=False)
    sizes = np.where(missing, 0, np.diff(ends))
    made: npt.NDArray[np.uint8] = np.zeros((rows, _WIDTH), dtype=np.uint8)
    for size in np.unique(sizes[sizes > 0]):
        which = np.flatnonzero(sizes == size)
        numbers = data[ends[which][:, np.newaxis] + np.arange(size)]
        sign = np.where(numbers[:, 0] & 0x80, 0xFF, 0).astype(np.uint8)[:, np.newaxis]
        kept = numbers[:, -_WIDTH:]
        # Bytes that are cut off may only say the sign once more.
        if (numbers[:, :-_WIDTH] != sign).any() or (size > _WIDTH and ((kept[:, :1] ^ sign) & 0x80).any()):
            raise OverflowError
        made[which, : kept.shape[1]] = kept[:, ::-1]
        made[which, kept.shape[1] :] = sign
    decimals = pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(made)])
    decimals.validate(full=True)  # more digits than decimals have
    return pc.if_else(pa.array(missing), pa.scalar(None, kind), decimals) if missing.any() else decimals
