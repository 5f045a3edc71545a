"""Takes an open CSV or Parquet file, gives its needed columns as raw Arrow batches, read a piece at a time.

Files come opened by the caller (binary, seekable) and stay the caller's to close. `inspect_file` looks at names and
types before anything is charged; `read_split` is the first to read values.

Nothing that a parser says about a value leaves this module: pyarrow's errors quote the row they fail on, so each is
replaced by one that names the file and the rule, outside its `except` block, with no context attached.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from dpbeam.errors import DataError, RunFailed, UsageError
from dpbeam.mechanisms.casting import accepts
from dpbeam.mechanisms.spec import Column, InputSpec

BATCH_ROWS = 1 << 17
BLOCK_BYTES = 8 << 20
"""How much of a CSV file is parsed at a time; the longest row may need `MAX_BLOCK_BYTES`."""
MAX_BLOCK_BYTES = 64 << 20
_HEADER_BYTES = 1 << 20
_BATCH_BYTES = 64 << 20
_NAMES_SHOWN = 30


@dataclass(frozen=True)
class Split:
    """A part of the source that one worker reads: a whole CSV file (`row_group` None) or one Parquet row group."""

    path: str
    row_group: int | None


def splits(spec: InputSpec, path: str, count: int) -> list[Split]:
    """The splits of a file for which `inspect_file` returned `count`, in the file's order."""
    return [Split(path, None if spec.format == "csv" else index) for index in range(count)]


def inspect_file(file: IO[bytes], spec: InputSpec, path: str) -> int:
    """Checks that the file has the columns of `spec`, readable as their types; returns its number of splits.

    Reads a CSV file's first line, or a Parquet file's footer, and no values. A CSV file is one split, a Parquet file
    one a row group (so 0 if it has none). A file that has a header and no rows is valid, and empty.

    Raises:
        UsageError: not such a file, or a column is lacking, doubled or of another type; says the remedy.
    """
    if not spec.columns:
        raise UsageError("columns must name at least one column: none is declared, so there is nothing to read.")
    try:
        if spec.format == "csv":
            _csv_header(file, spec, path)
            return 1
        return int(_parquet(file, spec, path).num_row_groups)
    except OSError as error:
        reason = type(error).__name__
    raise UsageError(f"{path} can't be read ({reason}). Check the file and its storage.")


def read_split(
    file: IO[bytes], split: Split, spec: InputSpec, *, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """The rows of one split as batches of at most `batch_rows`, with the columns of `spec` in its order, raw.

    CSV columns come as binary: an empty field is null, a quoted empty field is an empty text. A CSV row of the wrong
    width is left out, or fails the run if a column declares `on_invalid: fail`. Parquet columns come in the
    file's own types. Memory is bounded by the CSV block, or by the row group's needed columns as stored, plus a batch.

    The same file gives the same batches, so a bundle that is executed again samples the same rows.

    Guarantee: which rows come, and what is in them, is decided row by row, where a row is a record of the format. A
    CSV file whose quotes don't pair up has other records than its writer meant (docs/input.md).

    Raises:
        RunFailed: the file can't be read to its end, or is no longer what `inspect_file` saw.
        DataError: a CSV row of the wrong width under `on_invalid: fail`.
    """
    if split.row_group is None:
        batches = _read_csv(file, spec, split.path)
    else:
        batches = _read_row_group(file, spec, split.path, split.row_group, batch_rows)
    for batch in batches:
        step = max(1, min(batch_rows, batch.num_rows * _BATCH_BYTES // max(1, batch.nbytes)))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


# --- CSV ---------------------------------------------------------------------------------------------------------


def _csv_header(file: IO[bytes], spec: InputSpec, path: str) -> bool:
    """Checks the header; returns whether anything follows it."""
    file.seek(0)
    head = b""
    while len(head) < _HEADER_BYTES:
        part = file.read(min(1 << 16, _HEADER_BYTES - len(head)))
        head += part
        # Blank lines before the header are skipped, as pyarrow does when it reads the file.
        if not part or b"\n" in head.lstrip(b"\r\n") or b"\r" in head.lstrip(b"\r\n"):
            break
    body = head.lstrip(b"\r\n")
    if not body.removeprefix(b"\xef\xbb\xbf"):
        raise UsageError(f"{path} has no header: it is empty. A CSV file starts with a line of column names.")
    if body.startswith(b"PAR1"):
        raise UsageError(f"{path} is a Parquet file, but source.format is csv. Set source.format: parquet.")
    line = body.splitlines()[0]
    if len(line) >= _HEADER_BYTES:
        raise UsageError(f"{path} has no header: its first line is longer than 1 MiB. Is it a CSV file?")
    names = _attempt(lambda: _header_names(line, spec.delimiter))
    if names is None:
        raise UsageError(
            f"{path}: its first line is not a header: it is not UTF-8 text, or a quote in it is left open. Convert the "
            "file to plain UTF-8 (not compressed), or correct source.format."
        )
    for column in spec.columns:
        _check_named_once(column, names, path, is_metadata=any(c.name in names for c in spec.columns))
    return len(body) > len(line.rstrip(b"\r\n")) + 1 or bool(file.read(1))


def _header_names(line: bytes, delimiter: str) -> list[str]:
    line.decode("utf-8")
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    return list(pacsv.read_csv(io.BytesIO(line + b"\n"), parse_options=parse).column_names)


def _read_csv(file: IO[bytes], spec: InputSpec, path: str) -> Iterator[pa.RecordBatch]:
    if not _still(lambda: _csv_header(file, spec, path), path):
        return
    strict = next((column.name for column in spec.columns if column.on_invalid.action == "fail"), None)
    done_rows, block_bytes = 0, BLOCK_BYTES
    while block_bytes <= MAX_BLOCK_BYTES:
        file.seek(0)
        reading = _CsvReading(file, spec, block_bytes, strict=strict is not None)
        skip_rows = done_rows
        try:
            while (batch := reading.next_batch()) is not None:
                # A second reading, with bigger blocks, starts over: what was already given is passed by.
                fresh = batch.slice(skip_rows)
                skip_rows = max(0, skip_rows - batch.num_rows)
                done_rows += fresh.num_rows
                if fresh.num_rows:
                    yield fresh
        finally:
            reading.take_back()
        if reading.failure is None:
            return
        if reading.wrong_width and strict is not None:
            raise DataError(
                f"{path} has a row of the wrong width (more or fewer fields than the header), and column {strict} says "
                "on_invalid: fail. Correct the file, or declare on_invalid: drop for the column."
            )
        if reading.failure != "row too long":
            raise RunFailed(f"{path} could not be read to its end ({reading.failure}). Check the file and its storage.")
        block_bytes *= 8
    raise RunFailed(
        f"{path} has a row longer than {MAX_BLOCK_BYTES >> 20} MiB. Is a quote left open? Correct the file."
    )


class _CsvReading:
    """One pass over a CSV file. After `next_batch` gave None, `failure` says why it ended, or is None at the end."""

    def __init__(self, file: IO[bytes], spec: InputSpec, block_bytes: int, *, strict: bool) -> None:
        self.failure: str | None = None
        self.wrong_width = False
        self._strict = strict
        self._names = [column.name for column in spec.columns]
        self._options = {
            "read_options": pacsv.ReadOptions(block_size=block_bytes, use_threads=False),
            "parse_options": pacsv.ParseOptions(
                delimiter=spec.delimiter, newlines_in_values=True, invalid_row_handler=self._on_wrong_width
            ),
            "convert_options": pacsv.ConvertOptions(
                check_utf8=False,
                column_types={name: pa.binary() for name in self._names},
                include_columns=self._names,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        }
        self._lent = _Lent(file)
        self._reader: Any = None

    def next_batch(self) -> pa.RecordBatch | None:
        try:
            if self._reader is None:
                self._reader = pacsv.open_csv(pa.PythonFile(self._lent, mode="r"), **self._options)
            return self._reader.read_next_batch()
        except StopIteration:
            return None
        except Exception as error:
            # The text may quote a row: it is looked at here, and goes no further.
            self.failure = "row too long" if "straddl" in str(error) else type(error).__name__
            return None

    def take_back(self) -> None:
        """Ends the reading, so that the file is its owner's again."""
        self._lent.take_back()

    def _on_wrong_width(self, _row: object) -> str:
        self.wrong_width = True
        return "error" if self._strict else "skip"


class _Lent(io.RawIOBase):
    """A file lent to pyarrow, which may close this one and not the one beneath.

    pyarrow reads ahead on a thread of its own, also after it has failed: `take_back` ends that before the file beneath
    is read again.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._beneath: IO[bytes] | None = file
        self._lock = threading.Lock()

    def read(self, size: int = -1, /) -> bytes:
        with self._lock:
            return self._beneath.read(size) if self._beneath else b""

    def readable(self) -> bool:
        return True

    def take_back(self) -> None:
        with self._lock:
            self._beneath = None


# --- Parquet -----------------------------------------------------------------------------------------------------


def _parquet(file: IO[bytes], spec: InputSpec, path: str) -> pq.ParquetFile:
    file.seek(0, io.SEEK_END)
    if file.tell() == 0:
        raise UsageError(
            f"{path} is empty (0 bytes): not a Parquet file. Write it again, or leave it out of source.path."
        )
    file.seek(0)
    found = _attempt(lambda: pq.ParquetFile(file, page_checksum_verification=True))
    schema = None if found is None else _attempt(lambda: found.schema_arrow)
    if schema is None:
        raise UsageError(
            f"{path} is not a whole Parquet file: its footer can't be read. It may be truncated, encrypted or of "
            "another format; write it again, or correct source.format."
        )
    for column in spec.columns:
        _check_named_once(column, schema.names, path, is_metadata=True)
        arrow = schema.field(column.name).type
        if not accepts(arrow, column.type):
            raise UsageError(
                f"{path}: column {column.name} must be readable as {column.type}, found Parquet type {arrow}. "
                f"{_other_type(arrow)}"
            )
    return found


def _other_type(arrow: pa.DataType) -> str:
    fitting = [kind for kind in ("string", "int64", "float64", "bool", "date", "timestamp") if accepts(arrow, kind)]
    if fitting:
        return f"Declare type: {fitting[0]}, or convert the column in the source."
    return "No type of the policy holds it exactly: convert the column in the source."


def _read_row_group(
    file: IO[bytes], spec: InputSpec, path: str, row_group: int, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    found = _still(lambda: _parquet(file, spec, path), path)
    names = [column.name for column in spec.columns]
    # An error may quote a value: `_attempt` gives None for it, and False marks the end.
    batches = _attempt(lambda: found.iter_batches(batch_size=batch_rows, row_groups=[row_group], columns=names))
    while batches is not None:
        batch = _attempt(lambda: next(batches, False))
        if batch is False:
            return
        if batch is None:
            break
        yield batch.select(names)
    raise RunFailed(f"{path} could not be read to its end: a part of it is damaged or missing. Write the file again.")


# --- Both --------------------------------------------------------------------------------------------------------


def _check_named_once(column: Column, names: list[str], path: str, *, is_metadata: bool) -> None:
    """`is_metadata` says that `names` are surely names. A CSV file without a header has its first row there."""
    count = names.count(column.name)
    if count == 1:
        return
    if count > 1:
        raise UsageError(f"{path}: column {column.name} stands in the file {count} times. Rename all but one.")
    if not is_metadata:
        raise UsageError(
            f"{path} has no column {column.name}, nor any other that the policy declares. Its first line must be a "
            "header (it is not shown here, since it may be data); check that, and source.delimiter."
        )
    near = next((name for name in names if name.strip().casefold() == column.name.casefold()), None)
    near = near or next(iter(get_close_matches(column.name, names, n=1)), None)
    shown = ", ".join(names[:_NAMES_SHOWN]) + (f" and {len(names) - _NAMES_SHOWN} more" * (len(names) > _NAMES_SHOWN))
    hint = f"Did you mean {near}? " if near else ""
    raise UsageError(f"{path} has no column {column.name}. {hint}Its columns: {shown}.")


def _attempt(step: Callable[[], Any]) -> Any:
    """What `step` returns, or None if it raises: the error, which may quote data, is dropped here."""
    try:
        return step()
    except Exception:
        return None


def _still(check: Callable[[], Any], path: str) -> Any:
    """What `check` returns; what it refuses now it accepted before the run, so the file is another."""
    found = _attempt(check)
    if found is not None:
        return found
    raise RunFailed(f"{path} has changed since it was checked at the start of the run. Run again when it is settled.")
