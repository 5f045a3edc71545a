"""The one place where a Parquet file of other people's is opened, so that whoever looks at one sees the same values.

INT96 is the timestamp of old writers (Impala, Hive, Spark before 3.0): a Julian day and nanoseconds of it. pyarrow
reads it in nanoseconds unless told otherwise, and years outside 1677 to 2262 wrap round to others, without an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpbeam.array_types import Mask
from dpbeam.reading.formats.fields import Path, extract

_SECONDS = 2**63 // 1_000_000 - 1
"""Seconds from 1970 that microseconds in an int64 reach: 292,000 years."""
_FAR = 2**63 - 1


def open_parquet(file: IO[bytes], *, metadata: Any = None, int96_unit: str = "us") -> pq.ParquetFile:
    """The file by its footer: INT96 in microseconds, pages' checksums verified, UUID and JSON told from plain bytes.

    Raises:
        pa.ArrowException, OSError: not a whole Parquet file.
    """
    return pq.ParquetFile(
        file,
        metadata=metadata,
        coerce_int96_timestamp_unit=int96_unit,
        page_checksum_verification=True,
        arrow_extensions_enabled=True,
    )


def columns_of(
    file: IO[bytes], parquet: pq.ParquetFile, row_group: int, paths: Sequence[Path], batch_rows: int
) -> Iterator[list[pa.Array]]:
    """The columns at `paths` (of `fields.locate`) of one row group, in batches of at most `batch_rows`.

    A moment of INT96 that microseconds don't hold comes as one past the year 9999, where none is a value. (One whose
    day is 0 comes as 1970: pyarrow takes it for what is stored where a value is missing.)

    Raises:
        pa.ArrowException, OSError: it is damaged; the text may quote a value.
    """
    beyond = _beyond_microseconds(file, parquet, row_group, paths)
    leaves = list(dict.fromkeys(".".join(path) for path in paths))
    first = 0
    for batch in parquet.iter_batches(batch_size=batch_rows, row_groups=[row_group], columns=leaves, use_threads=False):
        columns = [extract(batch, path) for path in paths]
        for place, mask in beyond.items():
            far = pa.scalar(_FAR, pa.int64()).cast(columns[place].type)
            columns[place] = pc.if_else(pa.array(mask[first : first + batch.num_rows]), far, columns[place])
        first += batch.num_rows
        yield columns


def _beyond_microseconds(
    file: IO[bytes], parquet: pq.ParquetFile, row_group: int, paths: Sequence[Path]
) -> dict[int, Mask]:
    """By place in `paths`, the rows of an INT96 column whose moment no int64 of microseconds holds; a column without
    such rows isn't named. Reads INT96 columns once more, in seconds, which hold every moment that INT96 does.
    """
    schema = parquet.metadata.schema
    old = {leaf.path for leaf in map(schema.column, range(len(schema))) if leaf.physical_type == "INT96"}
    places = [place for place, path in enumerate(paths) if ".".join(path) in old]
    if not places:
        return {}
    columns = list(dict.fromkeys(".".join(paths[place]) for place in places))
    table = open_parquet(file, metadata=parquet.metadata, int96_unit="s").read_row_group(row_group, columns=columns)
    masks = {}
    for place in places:
        masks_of_batches = [_beyond(extract(batch, paths[place])) for batch in table.to_batches()]
        if any(part.any() for part in masks_of_batches):
            masks[place] = np.concatenate(masks_of_batches)
    return masks


def _beyond(moments: pa.Array) -> Mask:
    seconds = moments.cast(pa.int64()).fill_null(0).to_numpy()
    beyond: Mask = (seconds > _SECONDS) | (seconds < -_SECONDS)
    return beyond
