"""`dpbeam init`: a first policy for a data file or folder.

Reads a header or footer, and no values; of JSON Lines, which have neither, names and types of the first lines. Only
where it is asked to (`--sample`), the first rows: how they are written, and no value, gets into the policy.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.sampling import writings
from dpbeam.pipelines.lifecycle.listing import files_of
from dpbeam.policy.declarable import readable_text
from dpbeam.policy.starter import starter_policy
from dpbeam.policy.writings import Writing
from dpbeam.policy.yamltext import escaped
from dpbeam.queries.source import FORMATS, Compression, Format, InputSpec, format_of
from dpbeam.reading.formats import arrow, avro, delimited, header_line, parquet
from dpbeam.reading.formats.compression import Plain, codec_of, told_by
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


@dataclass(frozen=True, kw_only=True)
class Look:
    """What `init` is told beside the file: the delimiter of a CSV file (None: its first line tells), whether its first
    line is a header though it doesn't look so, and whether values may be looked at."""

    delimiter: str | None = None
    is_header: bool = False
    sample: bool = False


@dataclass(frozen=True, kw_only=True)
class _Structure:
    """What a file's structure tells. `text` are the columns whose values are written as text."""

    format: Format
    compression: Compression
    delimiter: str
    schema: pa.Schema

    @property
    def text(self) -> list[str]:
        names = self.schema.names
        return [each.name for each in self.schema if names.count(each.name) == 1 and readable_text(each)]


def starter(data: Path, *, folder: Path | None, look: Look = Look()) -> str:
    """The policy's text; its source path is relative to `folder` (default: the current one), where it will lie.

    Raises:
        UsageError: the file is missing, empty, not of its format, or its first line isn't one of names.
    """
    first, in_path = _first_file(data)
    if first.exists() and not first.is_file():
        raise UsageError(f"{data} is not a regular file, nor a folder of them. Name one, or copy the data into one")
    found = _structure(data, first, look)
    if look.delimiter is not None and found.format != "csv":
        raise UsageError(
            f"--delimiter is for CSV files, and {data} is {FORMATS[found.format].label} file; leave it out"
        )
    read: Mapping[str, Writing] = {}
    if look.sample:
        read = writings(
            first,
            found.text,
            format=found.format,
            delimiter=found.delimiter,
            compression=found.compression,
            is_header=look.is_header,
        )
    fields = [*found.schema, *(pa.field(name, pa.string()) for name in in_path)]
    name = data.name.split(".")[0] if data.is_file() else data.resolve().name
    text = starter_policy(
        pa.schema(fields),
        path=os.path.relpath(data, folder or Path.cwd()),
        format=found.format,
        dataset=re.sub(r"[^a-z0-9_-]", "-", name.lower()).strip("-_")[:64] or "my-data",
        path_columns=in_path,
        delimiter=found.delimiter,
        compression=found.compression,
        read=read if look.sample else None,
    )
    # What can't be seen stands within double quotes there, or in a comment.
    return "\n".join("".join(c if visible(c) == c else escaped(c) for c in line) for line in text.split("\n"))


def _first_file(data: Path) -> tuple[Path, list[str]]:
    """The file, or the first in the folder, and the names `name=` of the folders that lead to it."""
    first = min(file.path for file in files_of(str(data)))
    if not data.is_dir():
        return data if data.exists() else Path(first), []
    between = Path(os.path.relpath(first, data.absolute())).parts[:-1]
    return Path(first), [part.partition("=")[0] for part in between if "=" in part]


def _structure(data: Path, first: Path, look: Look) -> _Structure:
    format: Format = format_of(first.name) or "csv"
    compression: Compression = "auto"
    found = None
    try:
        with first.open("rb") as file:
            head = file.read(8)
            _refuse_others(head, first)
            told = told_by(head)
            if told in FORMATS:
                format = cast(Format, told)
            elif told and FORMATS[format].packed_whole and codec_of(_spec(format, "auto"), str(first)) != told:
                compression = cast(Compression, told)
            found = _looked_at(file, format, compression, first, look)
    except OSError as error:
        raise UsageError(f"{data} can't be read ({error.strerror or 'not a data file'})") from None
    except RecursionError:
        raise UsageError(f"{data} nests too deep to be looked at. {_BY_HAND}") from None
    except UnicodeDecodeError:
        raise UsageError(
            f"{data}: its first line is not UTF-8 text. Convert the file, for instance `iconv -f LATIN1 -t UTF-8`, or "
            "export it as UTF-8"
        ) from None
    except (pa.ArrowException, EOFError, LookupError, ValueError, TypeError):
        pass
    if found is None:
        raise UsageError(f"{data} is not a {format} file with column names that can be read")
    return found


def _refuse_others(head: bytes, path: Path) -> None:
    """What people hand over that no format of ours reads, by first bytes that are no values."""
    if head.startswith(b"PK\x03\x04"):
        raise UsageError(f"{path} is a ZIP archive or an Excel workbook: unpack it, or save the sheet as CSV")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{path} is UTF-16 text: convert it, for instance `iconv -f UTF-16 -t UTF-8`")


def _spec(format: Format, compression: Compression) -> InputSpec:
    return InputSpec(format=format, paths=(), columns=(), compression=compression)


def _looked_at(file: IO[bytes], format: Format, compression: Compression, path: Path, look: Look) -> _Structure:
    if not FORMATS[format].packed_whole:
        schema = _STATED[format](file, str(path))
        return _Structure(format=format, compression="auto", delimiter=",", schema=_flat_schema(schema))
    plain = Plain(file, codec_of(_spec(format, compression), str(path)))
    head = _head(plain)
    if not head.removeprefix(_BOM).strip():
        raise UsageError(f"{path} is empty: it has no column names")
    if format == "csv":
        line = head.removeprefix(_BOM).lstrip(b"\r\n").splitlines()[0]
        line.decode("utf-8")
        delimiter = look.delimiter or header_line.delimiter_of(line, str(path))
        names = delimited.header_names(line, delimiter)
        if not look.is_header:
            header_line.check_names(names, str(path))
        # Every column as text: a CSV file states no types, and guessing them would read values.
        schema = pa.schema([(name, pa.string()) for name in names])
        return _Structure(format=format, compression=compression, delimiter=delimiter, schema=schema)
    if len(head) == _FIRST_BYTES and b"\n" not in head.strip():
        raise UsageError(f"{path} starts with a line longer than {_FIRST_BYTES >> 20} MiB. {_BY_HAND}")
    whole = head[: head.rfind(b"\n")] if len(head) == _FIRST_BYTES else head
    schema = _json_schema(whole.removeprefix(_BOM))
    return _Structure(format=format, compression=compression, delimiter=",", schema=_flat_schema(schema))


def _flat_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema(_flat(schema, ""))


def _head(plain: Plain) -> bytes:
    stream, head = plain.start(), b""
    while len(head) < _FIRST_BYTES and (part := stream.read(_FIRST_BYTES - len(head))):
        head += part
    plain.take_back()
    return bytes(head)


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
