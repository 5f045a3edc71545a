"""The first rows of a file, for `dpbeam init --sample`: how the text of each column is written.

Guarantee: values stay in here. What comes out is a `Writing` a column, which holds none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.errors import DpbeamError, UsageError
from dpbeam.policy.writings import Writing, writing_of
from dpbeam.queries.source import Column, Compression, Format, InputSpec
from dpbeam.reading.casting import trimmed
from dpbeam.reading.formats import inspect_file, read_split

ROWS = 10_000
"""At most so many are looked at."""


def writings(
    path: Path,
    columns: Sequence[str],
    *,
    format: Format,
    delimiter: str,
    compression: Compression,
    is_header: bool = False,
) -> Mapping[str, Writing]:
    """How these columns, all of text, are written in the file's first rows. `is_header` is somebody's word that the
    first line of a CSV file is one.

    Raises:
        UsageError: the file can't be read; or its first line stands among its values, so that it is no header.
    """
    spec = InputSpec(
        format=format,
        paths=(),
        columns=tuple(Column(name=name, type="string") for name in columns),
        delimiter=delimiter,
        compression=compression,
    )
    raw = _first_rows(path, spec)
    if format == "csv" and not is_header and any(_has(raw[name], name) for name in columns):
        raise UsageError(
            f"{path} seems to have no header: a name in its first line is also a value below it, and a policy would "
            "show it. Put a line of column names on top of the file; if that is what these are, say --header"
        )
    return {name: writing_of(raw[name]) for name in columns}


def _first_rows(path: Path, spec: InputSpec) -> dict[str, pa.Array]:
    found: list[pa.RecordBatch] = []
    rows, trouble = 0, ""
    try:
        with pa.OSFile(str(path)) as file:
            for split in inspect_file(file, spec, str(path)):
                for batch in read_split(file, split, spec, batch_rows=ROWS):
                    found.append(batch.slice(0, ROWS - rows))
                    rows += found[-1].num_rows
                    if rows >= ROWS:
                        break
                if rows >= ROWS:
                    break
    except DpbeamError as error:
        trouble = str(error)
    except (pa.ArrowException, OSError, ValueError) as error:
        trouble = f"{path} can't be read ({type(error).__name__})"
    if trouble:
        raise UsageError(f"--sample: {trouble}")
    return {column.name: _joined([batch.column(column.name) for batch in found]) for column in spec.columns}


def _joined(parts: Sequence[pa.Array]) -> pa.Array:
    plain = [each.dictionary_decode() if pa.types.is_dictionary(each.type) else each for each in parts]
    return pa.concat_arrays([each.cast(pa.binary()) for each in plain]) if plain else pa.array([], pa.binary())


def _has(values: pa.Array, name: str) -> bool:
    return bool(pc.any(pc.equal(trimmed(values).cast(pa.binary()), name.strip().encode())).as_py())
