"""JSON Lines files: each line is one object, each column a value at a path in it.

pyarrow parses whole blocks under a fixed schema, so nothing is inferred from other lines. A block that it refuses is
searched for the lines at fault, by halves; what it says of a line by itself is what counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from dpbeam.array_types import I64, Mask
from dpbeam.errors import DataError, UsageError
from dpbeam.queries.column_types import DeclaredType
from dpbeam.queries.source import Column, InputSpec
from dpbeam.reading.formats.base import Split, attempt
from dpbeam.reading.formats.compression import Plain, check_magic, codec_of
from dpbeam.reading.formats.fields import Path, extract
from dpbeam.reading.formats.lines import Lines, line_blocks, next_block, ranges

_BOM = b"\xef\xbb\xbf"
_KINDS: dict[DeclaredType, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.string(),
    "timestamp": pa.string(),
    "vector": pa.list_(pa.float64()),
}
_OTHERS = (pa.string(), pa.float64(), pa.bool_(), pa.struct([]))
"""One type for each kind of JSON value but lists; a value has one kind."""
_FEW_LINES = 128
_PART_LINES = 1024
_INFINITY = "Inf(?:inity)?"
_INVALID = b"\xff"
"""Stands for a value that isn't of its column's type: no text, so no value of any type."""


def inspect(file: IO[bytes], spec: InputSpec, path: str, size: int) -> list[Split]:
    """One split for each range of the file, one if it is compressed. Reads no line: a JSON file has no header.

    Raises:
        UsageError: compressed otherwise than said, of another format, or two columns that can't both be read.
    """
    for index, one in enumerate(spec.columns):
        for other in spec.columns[:index]:
            short, long = sorted((_path(one), _path(other)), key=len)
            if long[: len(short)] == short:
                raise UsageError(
                    f"columns {other.name} and {one.name} lie in one another, so a line of JSON can't hold both: "
                    f"correct columns.{one.name}.field."
                )
    if size:
        check_magic(file, spec, path)
    elif codec_of(spec, path) is not None:
        raise UsageError(f"{path} is empty (0 bytes): not a compressed file. Write it again, or leave it out.")
    if codec_of(spec, path) is not None:
        return [Split(path, size=size)]
    return [
        Split(path, start=start, end=end, size=(size if end is None else end) - start) for start, end in ranges(0, size)
    ]


def read(file: IO[bytes], spec: InputSpec, split: Split, path: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The split's rows. A lacking field is null; a line that isn't one JSON object is left out, or fails the run under
    `on_invalid: fail`.

    Guarantee: a line's fate, and each of its values, depends on that line alone: see `_rows`.

    Raises:
        RunFailed: the file can't be read to its end.
        DataError: a line that isn't a JSON object under `on_invalid: fail`.
    """
    strict = next((column.name for column in spec.columns if column.on_invalid.action == "fail"), None)
    plain = Plain(file, codec_of(spec, path))
    try:
        blocks = line_blocks(plain, 0, split.start, split.end)
        first = split.start == 0
        while (block := next_block(blocks, path, spec.format)) is not None:
            batches, malformed = _rows(block.removeprefix(_BOM) if first else block, spec.columns)
            first = False
            if malformed and strict is not None:
                raise DataError(
                    f"{path} has a line that is not one JSON object, and column {strict} says on_invalid: fail. "
                    "Correct the file, or declare on_invalid: drop for the column."
                )
            yield from batches
    finally:
        plain.take_back()


def _rows(block: bytes, columns: Sequence[Column]) -> tuple[list[pa.RecordBatch], bool]:
    """The rows of a block of lines, and whether a line was left out because it isn't one JSON object.

    Guarantee: as if each line were read by itself. Only lines that start with { and end with } reach the parser. Then
    no object can go on in a later line: it would be cut after a }, where the next line's { is no JSON; nor can a text,
    for JSON allows no line break in one. So the parser reads line by line, and a block that it accepts, with as many
    objects as lines, has one in each; one that it refuses has a line that it refuses alone.
    """
    lines, malformed = _objects(Lines.of(block))
    schema = _schema([(_path(column), _KINDS[column.type]) for column in columns])
    # A block that isn't right as a whole is tried again in parts, so that few of its lines need a search.
    whole = _parse(lines, 0, len(lines), schema)
    batches = []
    for part in lines.parts(_PART_LINES) if whole is None else [lines]:
        table = whole if whole is not None else _parse(part, 0, len(part), schema)
        if table is None:
            arrays, left_out = _searched(part, columns)
            malformed = malformed or left_out
        else:
            arrays = [
                _marked(values, ~_too_large(part, path, kind, values))
                for path, kind in ((_path(column), _KINDS[column.type]) for column in columns)
                for values in (extract(table, path),)
            ]
        batches.append(pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns]))
    return [batch for batch in batches if batch.num_rows], malformed


def _searched(lines: Lines, columns: Sequence[Column]) -> tuple[list[pa.Array], bool]:
    """The columns of lines that the parser refuses together, and whether one is refused whatever the columns."""
    empty = pa.schema([])
    bad = _search(0, len(lines), lambda low, high: None if _parse(lines, low, high, empty) is None else _NONE)
    good = np.ones(len(lines), dtype=np.bool_)
    good[bad] = False
    kept = lines.where(good)
    return [_column(kept, _path(column), _KINDS[column.type]) for column in columns], len(bad) > 0


_NONE: I64 = np.empty(0, dtype=np.int64)


def _column(lines: Lines, path: Path, kind: pa.DataType) -> pa.Array:
    """The values at a path. Where any isn't of the type, they are binary with `_INVALID` in its place; lists are lists,
    with an empty one there, which is a vector of no length."""
    schema = _schema([(path, kind)])

    def wrong(low: int, high: int) -> I64 | None:
        """The lines of a range whose value is invalid; None if they must be looked for in smaller ranges."""
        if _parse(lines, low, high, schema) is not None:
            return _NONE
        if high - low < _FEW_LINES:
            return None
        for other in _OTHERS:
            # Numbers that aren't whole are of the same kind as those that are.
            if other == kind or (other == pa.float64() and kind == pa.int64()):
                continue
            table = _parse(lines, low, high, _schema([(path, other)]))
            if table is not None:
                return np.flatnonzero(extract(table, path).is_valid().to_numpy(zero_copy_only=False))
        return None

    invalid = _search(0, len(lines), wrong)
    valid = np.ones(len(lines), dtype=np.bool_)
    valid[invalid] = False
    kept = lines.where(valid)
    table = _parse(kept, 0, len(kept), schema)
    if table is None:
        raise ValueError("lines that were read one by one can't be read together")
    values = extract(table, path)
    spread = values.take(pa.array(np.where(valid, np.cumsum(valid) - 1, 0), mask=~valid)) if len(invalid) else values
    valid[valid] = ~_too_large(kept, path, kind, values)
    return _marked(spread, valid)


def _marked(values: pa.Array, valid: Mask) -> pa.Array:
    """The values, with what stands for an invalid one where they aren't valid."""
    if valid.all():
        return values
    if pa.types.is_list(values.type):
        return pc.if_else(pa.array(valid), values, pa.scalar([], values.type))
    text = values if pa.types.is_string(values.type) else values.cast(pa.string())
    return pc.if_else(pa.array(valid), text.cast(pa.binary()), pa.scalar(_INVALID, pa.binary()))


def _too_large(lines: Lines, path: Path, kind: pa.DataType, values: pa.Array) -> Mask:
    """A mask of the values, one a line, that have a number which is infinite though it isn't written so.

    The parser makes numbers that no float64 holds infinite. Where a line gives an infinity, it is read again with NaN
    for what is written as one (in its texts and names, too, so in the path): what is infinite still was a number.

    Guarantee: each line's fate is its own, for lines that can't be read together are read alone.
    """
    large = _infinite(values)
    if not large.any():
        return large
    there = np.flatnonzero(large)
    again = Lines.from_array(pc.replace_substring_regex(lines.array().take(pa.array(there)), _INFINITY, "NaN"))
    renamed = tuple(re.sub(_INFINITY, "NaN", name) for name in path)
    schema = _schema([(renamed, kind)])

    def at_fault(low: int, high: int) -> I64 | None:
        table = _parse(again, low, high, schema)
        if table is None:
            return None
        second = extract(table, renamed)
        return np.flatnonzero(_infinite(second) | second.is_null().to_numpy(zero_copy_only=False))

    large[:] = False
    large[there[_search(0, len(there), at_fault)]] = True
    return large


def _infinite(values: pa.Array) -> Mask:
    """A mask of the values that are an infinite number, or a list with one in it."""
    infinite = np.zeros(len(values), dtype=np.bool_)
    if pa.types.is_floating(values.type):
        infinite |= pc.is_inf(values).fill_null(False).to_numpy(zero_copy_only=False)
    elif pa.types.is_list(values.type):
        inside = pc.is_inf(values.flatten()).fill_null(False)
        infinite[pc.list_parent_indices(values).filter(inside).to_numpy()] = True
    return infinite


def _search(low: int, high: int, at_fault: Callable[[int, int], I64 | None]) -> I64:
    """The lines at fault in [low, high): `at_fault` names those of a range, by their place in it, or None to go on by
    halves; a range of one line for which it gives None is at fault."""
    if low == high:
        return _NONE
    here = at_fault(low, high)
    if here is not None:
        return here + low
    if high - low == 1:
        return np.array([low])
    middle = (low + high) // 2
    return np.concatenate((_search(low, middle, at_fault), _search(middle, high, at_fault)))


def _objects(lines: Lines) -> tuple[Lines, bool]:
    """The lines that start with { and end with }, blanks around them aside; whether any other isn't blank."""
    data = np.frombuffer(lines.data, dtype=np.uint8)
    starts, ends = lines.offsets[:-1], lines.offsets[1:] - 2
    ends = ends - ((ends >= starts) & (data[np.maximum(ends, 0)] == ord("\r")))
    plain: Mask = (ends > starts) & (data[starts] == ord("{")) & (data[np.maximum(ends, 0)] == ord("}"))
    if plain.all():
        return lines, False
    odd = lines.array().filter(pa.array(~plain))
    bare = pc.replace_substring_regex(odd, r"\A[ \t\r\n]+|[ \t\r\n]+\z", "")
    object_like = pc.and_(pc.starts_with(bare, "{"), pc.ends_with(bare, "}"))
    plain[~plain] = object_like.to_numpy(zero_copy_only=False)
    malformed = pc.any(pc.and_not(pc.greater(pc.binary_length(bare), 0), object_like)).as_py()
    return lines.where(plain), bool(malformed)


def _parse(lines: Lines, low: int, high: int, schema: pa.Schema) -> pa.RecordBatch | None:
    """One row for each of the lines [low, high); None if they aren't that, under `schema`."""
    if low == high:
        return pa.RecordBatch.from_pylist([], schema=schema)
    text = lines.text(low, high)
    read_options = pj.ReadOptions(use_threads=False, block_size=text.size + 1)
    parse_options = pj.ParseOptions(
        explicit_schema=schema, newlines_in_values=False, unexpected_field_behavior="ignore"
    )
    table = attempt(lambda: pj.read_json(pa.BufferReader(text), read_options, parse_options))
    if table is None or table.num_rows != high - low:
        return None
    if not schema.names:
        return pa.RecordBatch.from_pylist([], schema=schema)
    return table.combine_chunks().to_batches()[0]


def _path(column: Column) -> Path:
    field = column.name if column.field is None else column.field
    return tuple(field.split(".")) if isinstance(field, str) else field


def _schema(leaves: Sequence[tuple[Path, pa.DataType]]) -> pa.Schema:
    """The schema with a leaf at each path, and no field besides."""
    tree: dict[str, Any] = {}
    for path, kind in leaves:
        level = tree
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = kind

    def fields(level: dict[str, Any]) -> list[pa.Field]:
        return [pa.field(n, pa.struct(fields(k)) if isinstance(k, dict) else k) for n, k in level.items()]

    return pa.schema(fields(tree))
