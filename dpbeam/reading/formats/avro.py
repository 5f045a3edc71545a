"""Avro container files, read a few blocks at a time.

The container is taken apart here: header, and blocks of packed records. Polars unpacks the records where it can read
the schema (about ten times as fast as record by record); where it can't (maps, unions of several types), fastavro does.
Which of them reads a file is decided by its schema alone.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.queries.source import InputSpec
from dpbeam.reading.formats import base
from dpbeam.reading.formats.avro_schema import Unusable, arrow_type, at, at_path, expanded, is_columnar, stored
from dpbeam.reading.formats.avro_values import stored_type, typed
from dpbeam.reading.formats.base import Split, attempt, damaged, still
from dpbeam.reading.formats.fields import Path, as_hex, extract, locate

_MAGIC = b"Obj\x01"
_SYNC = 16
_CODECS = ("null", "deflate", "snappy", "bzip2", "xz", "zstandard")
_MOST_HEADER = 4 << 20


@dataclass(frozen=True, kw_only=True)
class _Header:
    schema: Any
    arrow: pa.Schema
    codec: str
    sync: bytes
    end: int


def inspect(file: IO[bytes], spec: InputSpec, path: str, size: int) -> list[Split]:
    """One split. Reads the header: the schema, and no record.

    Raises:
        UsageError: not an Avro container, or a column is lacking or of another type.
    """
    header, paths = _open(file, spec, path)
    return [Split(path, size=size, as_hex=as_hex(spec.columns, header.arrow, paths))]


def read(file: IO[bytes], spec: InputSpec, split: Split, path: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The file's needed columns, in Arrow's types for the file's own.

    Guarantee: a record becomes one row, whatever the others hold. A block whose size, count or end isn't as it says
    fails the run; so does one that can't be unpacked. (But under snappy, bzip2 and xz, Avro has no checksums: a bit
    that flips inside a value makes another value, and one that flips in a block's count may lose rows.)

    Raises:
        RunFailed: the file is damaged or cut short, or another than `inspect` saw.
    """
    header, paths = still(lambda: _open(file, spec, path), path)
    names = [column.name for column in spec.columns]
    file.seek(header.end)
    while True:
        packed = attempt(lambda: _next_blocks(file, header))
        if packed == (0, b""):
            return
        columns = None if packed is None else _unpack(header, paths, *packed)
        if columns is None:
            raise damaged(path)
        yield pa.RecordBatch.from_arrays(columns, names=names)


def file_schema(file: IO[bytes], path: str) -> pa.Schema:
    """The Arrow types of the file's fields, as its header states them and `read` gives them.

    Raises:
        UsageError: not an Avro container, or one that can't be read.
    """
    return _usable(file, path).arrow


def _open(file: IO[bytes], spec: InputSpec, path: str) -> tuple[_Header, list[Path]]:
    header = _usable(file, path)
    return header, [locate(column, header.arrow, path, "Avro") for column in spec.columns]


def _usable(file: IO[bytes], path: str) -> _Header:
    header: _Header | None
    reason = ""
    try:
        header = attempt(lambda: _header(file), passing=Unusable)
    except Unusable as error:
        header, reason = None, str(error)
    if reason:
        raise UsageError(f"{path}: the schema of this Avro file can't be read: {reason}. Write it with another one.")
    if header is None:
        raise UsageError(
            f"{path} is not an Avro container file: its header can't be read. It may be empty, truncated or of another "
            "format; write it again, or correct source.format."
        )
    if header.codec not in _CODECS:
        raise UsageError(f"{path} is packed by another codec than {', '.join(_CODECS)}. Write it with one of those.")
    return header


def _header(file: IO[bytes]) -> _Header:
    file.seek(0)
    if file.read(4) != _MAGIC:
        raise ValueError("no Avro file")
    metadata: dict[str, bytes] = {}
    while (count := _long(file)) != 0:
        if count < 0:
            _long(file)
        for _ in range(abs(count)):
            name = _exactly(file, _long(file)).decode("utf-8")
            metadata[name] = _exactly(file, _long(file))
    sync = _exactly(file, _SYNC)
    schema = expanded(json.loads(metadata["avro.schema"]))
    kind = arrow_type(schema)
    if not pa.types.is_struct(kind):
        raise ValueError("no records")
    codec = metadata.get("avro.codec", b"null").decode("ascii")
    return _Header(schema=schema, arrow=pa.schema(list(kind)), codec=codec, sync=sync, end=file.tell())


def _next_blocks(file: IO[bytes], header: _Header) -> tuple[int, bytes]:
    """(records, their bytes) of the next few blocks; (0, b"") at the end of the file."""
    records, blocks, size = 0, [], 0
    while size < base.BLOCK_BYTES:
        first = file.read(1)
        if not first:
            break
        count, length = _long(file, first), _long(file)
        data = _exactly(file, length, base.MAX_BLOCK_BYTES)
        if count < 0 or _exactly(file, _SYNC) != header.sync:
            raise ValueError("not a block")
        plain = _decompressed(data, header.codec)
        # A record of no bytes (nulls alone) would let a count of any size through.
        if count > len(plain):
            raise ValueError("more records than bytes")
        records, size = records + count, size + len(plain)
        blocks.append(plain)
        if not count and plain:
            raise ValueError("bytes without records")
    return records, b"".join(blocks)


def _decompressed(data: bytes, codec: str) -> bytes:
    match codec:
        case "null":
            return data
        case "snappy":
            return _snappy(data)
        case "zstandard":
            with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
                plain = bytes(stream.read(base.MAX_BLOCK_BYTES))
                if stream.read(1):
                    raise ValueError("too long")
            return plain
        case "deflate":
            unpacking: Any = zlib.decompressobj(-15)
        case "bzip2":
            unpacking = bz2.BZ2Decompressor()
        case "xz":
            unpacking = lzma.LZMADecompressor()
        case _:
            raise ValueError(f"unknown codec {codec!r}")
    plain = unpacking.decompress(data, base.MAX_BLOCK_BYTES)
    # Python's Avro writers leave three bytes of zlib's checksum behind deflated data.
    if not unpacking.eof or len(unpacking.unused_data) > (3 if codec == "deflate" else 0):
        raise ValueError("too long, cut short, or more than one")
    return bytes(plain)


def _snappy(data: bytes) -> bytes:
    """Avro appends the CRC-32 of the plain bytes; Snappy's own block starts with their number as a varint."""
    body, checksum = data[:-4], data[-4:]
    length = shift = 0
    for byte in body[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    else:
        raise ValueError("no length")
    if not 0 <= length <= base.MAX_BLOCK_BYTES:
        raise ValueError("too long")
    plain = bytes(pa.Codec("snappy").decompress(body, decompressed_size=length, asbytes=True))
    if zlib.crc32(plain).to_bytes(4, "big") != checksum:
        raise ValueError("damaged")
    return plain


def _unpack(header: _Header, paths: list[Path], records: int, packed: bytes) -> list[pa.Array] | None:
    """The columns of some records, None if they can't be unpacked to exactly that many."""
    container = _container(header, records, packed)
    read = _by_columns if is_columnar(header.schema) else _by_records
    try:
        columns = read(container, header, paths)
    # A panic of Polars is no Exception; the process's own signals go on.
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:
        return None
    return columns if all(len(column) == records for column in columns) else None


def _by_columns(container: bytes, header: _Header, paths: list[Path]) -> list[pa.Array]:
    tops = list(dict.fromkeys(path[0] for path in paths))
    import polars as pl  # lazily, as fastavro: few sources are Avro

    table = pl.read_avro(io.BytesIO(container), columns=tops).to_arrow()
    batch = table.combine_chunks().to_batches()[0]
    return [typed(extract(batch, path), at(header.schema, path)) for path in paths]


def _by_records(container: bytes, header: _Header, paths: list[Path]) -> list[pa.Array]:
    import fastavro

    rows = list(fastavro.reader(io.BytesIO(container)))
    columns = []
    for path in paths:
        schema = at(header.schema, path)
        columns.append(typed(pa.array([at_path(row, path) for row in rows], type=stored_type(schema)), schema))
    return columns


def _container(header: _Header, records: int, packed: bytes) -> bytes:
    """The records as an Avro file of one plain block, for a reader of files."""
    schema = json.dumps(stored(header.schema)).encode()
    pairs = ((b"avro.schema", schema), (b"avro.codec", b"null"))
    head = b"".join(_varint(len(name)) + name + _varint(len(value)) + value for name, value in pairs)
    body = _varint(records) + _varint(len(packed)) + packed
    return _MAGIC + _varint(len(pairs)) + head + _varint(0) + header.sync + body + header.sync


def _long(file: IO[bytes], first: bytes = b"") -> int:
    """A zigzag varint."""
    number = shift = 0
    while shift < 70:
        byte = (first or file.read(1))[0]  # IndexError at the end of the file
        first = b""
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return (number >> 1) ^ -(number & 1)
    raise ValueError("not a number")


def _varint(number: int) -> bytes:
    number, out = number << 1, bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _exactly(file: IO[bytes], size: int, most: int = _MOST_HEADER) -> bytes:
    if not 0 <= size <= most:
        raise ValueError("not a size")
    data = file.read(size)
    if len(data) != size:
        raise EOFError
    return bytes(data)
