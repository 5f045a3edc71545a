"""`dpbeam init`: a first policy for a data file or folder.

Reads a header or footer, and no values; of JSON Lines, which have neither, names and types of the first lines.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.pipelines.lifecycle.listing import files_of
from dpbeam.policy.starter import escaped, starter_policy
from dpbeam.queries.source import FORMATS, Format, InputSpec, format_of
from dpbeam.reading.formats import arrow, avro, delimited, parquet
from dpbeam.reading.formats.compression import Plain, codec_of
from dpbeam.reporting.visible import visible

_STATED: dict[Format, Callable[[IO[bytes], str], pa.Schema]] = {
    "parquet": parquet.file_schema,
    "avro": avro.file_schema,
    "arrow": arrow.file_schema,
}
"""How to read the schema of files that state one."""
_FIRST_BYTES = 1 << 20
_FIRST_LINES = 100
_BOM = b"\xef\xbb\xbf"
_BY_HAND = "Write the policy's columns yourself: see docs/input.md"
_JSON_TYPES: dict[type, pa.DataType] = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
_NUMBERS = pa.list_(pa.float64())


def starter(data: Path, *, folder: Path | None) -> str:
    """The policy's text; its source path is relative to `folder` (default: the current one), where it will lie.

    Raises:
        UsageError: the file is missing, empty, or not of its format.
    """
    first, in_path = _first_file(data)
    format = format_of(first.name) or "csv"
    if first.exists() and not first.is_file():
        raise UsageError(f"{data} is not a regular file, nor a folder of them. Name one, or copy the data into one")
    schema = None
    try:
        with first.open("rb") as file:
            schema = _schema(file, format, first)
    except OSError as error:
        raise UsageError(f"{data} can't be read ({error.strerror or 'not a data file'})") from None
    except RecursionError:
        raise UsageError(f"{data} nests too deep to be looked at. {_BY_HAND}") from None
    except (pa.ArrowException, EOFError, LookupError, ValueError, TypeError):
        pass
    if schema is None:
        raise UsageError(f"{data} is not a {format} file with column names that can be read")
    fields = [*_flat(schema, ""), *(pa.field(name, pa.string()) for name in in_path)]
    name = data.name.split(".")[0] if data.is_file() else data.resolve().name
    dataset = re.sub(r"[^a-z0-9_-]", "-", name.lower()).strip("-_")[:64] or "my-data"
    path = os.path.relpath(data, folder or Path.cwd())
    text = starter_policy(pa.schema(fields), path=path, format=format, dataset=dataset, path_columns=in_path)
    # What can't be seen stands within double quotes there, or in a comment.
    return "\n".join("".join(c if visible(c) == c else escaped(c) for c in line) for line in text.split("\n"))


def _first_file(data: Path) -> tuple[Path, list[str]]:
    """The file, or the first in the folder, and the names `name=` of the folders that lead to it."""
    first = min(file.path for file in files_of(str(data)))
    if not data.is_dir():
        return data if data.exists() else Path(first), []
    between = Path(os.path.relpath(first, data.absolute())).parts[:-1]
    return Path(first), [part.partition("=")[0] for part in between if "=" in part]


def _schema(file: IO[bytes], format: Format, path: Path) -> pa.Schema:
    if not FORMATS[format].packed_whole:
        return _STATED[format](file, str(path))
    plain = Plain(file, codec_of(InputSpec(format=format, paths=(), columns=()), str(path)))
    head = _head(plain)
    if not head.strip():
        raise UsageError(f"{path} is empty: it has no column names")
    if format == "csv":
        return _csv_schema(head.removeprefix(_BOM))
    if len(head) == _FIRST_BYTES and b"\n" not in head.strip():
        raise UsageError(f"{path} starts with a line longer than {_FIRST_BYTES >> 20} MiB. {_BY_HAND}")
    whole = head[: head.rfind(b"\n")] if len(head) == _FIRST_BYTES else head
    return _json_schema(whole.removeprefix(_BOM))


def _head(plain: Plain) -> bytes:
    stream, head = plain.start(), b""
    while len(head) < _FIRST_BYTES and (part := stream.read(_FIRST_BYTES - len(head))):
        head += part
    plain.take_back()
    return bytes(head)


def _csv_schema(head: bytes) -> pa.Schema:
    """Every column as text: a CSV file states no types, and guessing them would read values."""
    line = head.lstrip(b"\r\n").splitlines()[0]
    return pa.schema([(name, pa.string()) for name in delimited.header_names(line, ",")])


def _json_schema(head: bytes) -> pa.Schema:
    """The keys of the first lines, with the types that their values have in all of them."""
    found: dict[str, pa.DataType] = {}
    for line in [line for line in head.splitlines() if line.strip()][:_FIRST_LINES]:
        row = json.loads(line, parse_int=lambda _digits: 0)  # Python refuses one of more than 4,300 digits
        if not isinstance(row, dict):
            raise TypeError("a line is not an object")
        for path, value in _leaves(row, ""):
            kind = _NUMBERS if _is_numbers(value) else _JSON_TYPES.get(type(value), pa.list_(pa.null()))
            known = found.get(path, kind)
            numbers = {pa.int64(), pa.float64()}
            found[path] = known if known == kind else pa.float64() if {known, kind} == numbers else pa.list_(pa.null())
    return pa.schema(list(found.items()))


def _is_numbers(value: Any) -> bool:
    """Whether a value is a list of numbers; null stands for one that is missing."""
    inner = value if isinstance(value, list) else []
    return {type(each) for each in inner} - {int, float, type(None)} == set() and any(
        each is not None for each in inner
    )


def _leaves(value: Any, prefix: str) -> list[tuple[str, Any]]:
    """(path, value) of each value in an object that is neither null nor an object."""
    found = []
    for name, inner in value.items():
        if "." not in name and isinstance(inner, dict):
            found += _leaves(inner, f"{prefix}{name}.")
        elif "." not in name and inner is not None:
            found.append((prefix + name, inner))
    return found


def _flat(schema: pa.Schema, prefix: str) -> list[pa.Field]:
    """The fields, those inside structs by their path."""
    found = []
    for field in schema:
        if pa.types.is_struct(field.type) and "." not in field.name:
            found += _flat(pa.schema(list(field.type)), f"{prefix}{field.name}.")
        else:
            found.append(field.with_name(prefix + field.name))
    return found
