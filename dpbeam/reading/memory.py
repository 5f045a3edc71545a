"""Tables that a program holds in memory, as sources: the bytes of a Parquet file each, under a path of its own.

Guarantee: what is held stays in this process: its rows are written to no disk, and a path leads to them nowhere else. A
path tells nothing but the name that the caller gave. What is held never changes, so it is the same whenever it is read.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from dpbeam.errors import UsageError

SCHEME = "memory://"
_ROWS_A_GROUP = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Held:
    """The bytes of a table, and a number that follows from all of them."""

    content: pa.Buffer
    digest: int


_held: dict[str, Held] = {}
_lock = threading.Lock()


def path_of(name: str) -> str:
    """The path under which the table of this name is held."""
    return SCHEME + name


def is_held(path: str) -> bool:
    """Whether a path is of a table in memory, of whatever process."""
    return path.startswith(SCHEME)


@contextmanager
def holding(name: str, table: pa.Table) -> Iterator[str]:
    """Holds the table under a path for as long as the block lasts; yields the path.

    The same rows in the same order make the same bytes, however they lay in chunks and dictionaries.

    Raises:
        UsageError: a table of this name is held by this process at this time.
    """
    path, sink = path_of(name), pa.BufferOutputStream()
    plain = _decoded(table).combine_chunks().replace_schema_metadata(None)
    content = _written(plain, sink)
    digest = int.from_bytes(hashlib.sha256(content).digest(), "big")
    with _lock:
        if path in _held:
            raise UsageError(f"a release of {name} from memory is under way in this process: wait for it")
        _held[path] = Held(content=content, digest=digest)
    try:
        yield path
    finally:
        with _lock:
            del _held[path]


def _decoded(table: pa.Table) -> pa.Table:
    """The table with every column that is a dictionary as its values."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
    return table


def _written(table: pa.Table, sink: pa.BufferOutputStream) -> pa.Buffer:
    try:
        pq.write_table(table, sink, row_group_size=_ROWS_A_GROUP, store_schema=False)
        return sink.getvalue()
    except (pa.ArrowException, ValueError, OverflowError):  # its text may quote a value
        failed = UsageError("a column holds values that Parquet can't: times beyond its range, or a type that it lacks")
    raise failed


def held(path: str) -> Held:
    """What is held under a path.

    Raises:
        UsageError: nothing is, in this process.
    """
    table = _held.get(path)
    if table is None:
        raise UsageError(f"{path} is held by no program here: another process can't read what lies in memory")
    return table


def opened(path: str) -> pa.BufferReader:
    """The bytes of the table under a path, as a file."""
    return pa.BufferReader(held(path).content)
