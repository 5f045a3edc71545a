"""CSV files, whose columns come as binary: an empty field is null, a quoted empty field an empty text.

By default a quoted value may hold line breaks, so only reading from the start tells where rows begin, and a file is one
split. With `quoted_newlines: false` each line is a row, and a big file is many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from dpbeam.errors import DataError, RunFailed, UsageError
from dpbeam.queries.source import InputSpec
from dpbeam.reading.formats import base
from dpbeam.reading.formats.base import Split, attempt, damaged, still, too_long
from dpbeam.reading.formats.compression import Plain, check_magic, codec_of
from dpbeam.reading.formats.fields import check_named_once, field_of
from dpbeam.reading.formats.lines import Lines, line_blocks, next_block, ranges
from dpbeam.reading.formats.widened import (
    BOM,
    LentText,
    OnWrongWidth,
    contain,
    narrowed,
    narrowed_name,
    widen,
    widened_name,
)

_HEADER_BYTES = 1 << 20


def inspect(file: IO[bytes], spec: InputSpec, path: str, size: int) -> list[Split]:
    """One split, or one for each range where the file can be cut. Reads the header line.

    Raises:
        UsageError: no header, or a column is lacking or doubled.
    """
    check_magic(file, spec, path)
    plain = Plain(file, codec_of(spec, path))
    try:
        header = _Header(plain, spec, path)
    finally:
        plain.take_back()
    if spec.quoted_newlines or not plain.seekable:
        return [Split(path, size=size)]
    cuts = ranges(header.end, size)
    return [Split(path, start=start, end=end, size=(size if end is None else end) - start) for start, end in cuts]


def read(file: IO[bytes], spec: InputSpec, split: Split, path: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The split's rows. One of the wrong width is left out, or fails the run under `on_invalid: fail`.

    Raises:
        RunFailed: the file can't be read to its end, or is no longer what `inspect` saw.
        DataError: a row of the wrong width under `on_invalid: fail`.
    """
    plain = Plain(file, codec_of(spec, path))
    try:
        header = still(lambda: _Header(plain, spec, path), path)
        if spec.quoted_newlines:
            yield from _read_whole(plain, spec, path, header)
        else:
            yield from _read_lines(plain, spec, split, path, header)
    finally:
        plain.take_back()


class _Header:
    """The names in a file's first line that isn't blank, checked against the spec.

    `end` is where the line after it begins, `has_rows` whether anything does.
    """

    def __init__(self, plain: Plain, spec: InputSpec, path: str) -> None:
        stream, head = plain.start(), b""
        while len(head) < _HEADER_BYTES:
            part = self._read(stream, min(1 << 16, _HEADER_BYTES - len(head)), path)
            head += part
            # Blank lines before the header are skipped, as pyarrow does when it reads the file.
            if not part or b"\n" in head.lstrip(b"\r\n") or b"\r" in head.lstrip(b"\r\n"):
                break
        if head.endswith(b"\r"):
            head += self._read(stream, 1, path)
        body = head.lstrip(b"\r\n")
        if not body.removeprefix(b"\xef\xbb\xbf"):
            raise UsageError(f"{path} has no header: it is empty. A CSV file starts with a line of column names.")
        line = body.splitlines()[0]
        if len(line) >= _HEADER_BYTES:
            raise UsageError(f"{path} has no header: its first line is longer than 1 MiB. Is it a CSV file?")
        names = attempt(lambda: header_names(line, spec.delimiter))
        if names is None:
            raise UsageError(
                f"{path}: its first line is not a header: it is not UTF-8 text, or a quote in it is left open. Convert "
                "the file to plain UTF-8, or correct source.format."
            )
        self.names: list[str] = names
        self.fields = [field_of(column) for column in spec.columns]
        for column, name in zip(spec.columns, self.fields, strict=True):
            check_named_once(column, name, names, path, is_metadata=False)
        rest = body[len(line) :]
        self.end = len(head) - len(rest) + (2 if rest.startswith(b"\r\n") else 1)
        self.has_rows = len(rest) > 1 or bool(self._read(stream, 1, path))
        if not spec.quoted_newlines and rest.startswith(b"\r") and not rest.startswith(b"\r\n"):
            raise UsageError(
                f"{path}: its lines end with a carriage return alone. With source.quoted_newlines: false they must end "
                "with a line feed; convert the file, or leave the key out."
            )

    @staticmethod
    def _read(stream: Any, size: int, path: str) -> bytes:
        data = attempt(lambda: stream.read(size))
        if data is None:
            raise UsageError(f"{path} can't be read: it is damaged, or not compressed as it says.")
        return bytes(data)


def header_names(line: bytes, delimiter: str) -> list[str]:
    """The names in a header line, without its line break.

    Raises:
        ValueError: it isn't UTF-8, or a quote in it is left open.
    """
    text = line.removeprefix(BOM)
    if b'"' not in text:
        return text.decode("utf-8").split(delimiter)
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    # No thread of Arrow's may hold an object of ours as Python ends: it would abort the program.
    read = pacsv.ReadOptions(use_threads=False)
    names = pacsv.read_csv(pa.BufferReader(widen(text) + b"\n"), read_options=read, parse_options=parse).column_names
    return [narrowed_name(name) for name in names]


def all_as_text(file: IO[bytes], *, with_missing: bool = False) -> pa.Table:
    """Every column of a small CSV file as text; an empty field is an empty text, or `with_missing` a missing one.

    Guarantee: what stands in a row is read as `read` does. So a key in a list of public partitions is that of the data.

    Raises:
        ValueError, pa.ArrowException: it isn't such a file, or has a row of the wrong width. The error may quote a row.
    """

    def opened(lent: LentText, names: list[str]) -> Any:
        as_bytes = pacsv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(names, pa.binary()),
            null_values=[""],
            strings_can_be_null=with_missing,
            quoted_strings_can_be_null=False,
        )
        read_options = pacsv.ReadOptions(block_size=base.BLOCK_BYTES, use_threads=False)
        parse_options = pacsv.ParseOptions(newlines_in_values=True)
        return pacsv.open_csv(pa.PythonFile(lent, mode="r"), read_options, parse_options, as_bytes)

    with _lent(file) as lent:
        names = opened(lent, []).schema.names
    with _lent(file) as lent:
        wide = opened(lent, names).read_all()
    columns = [
        pa.chunked_array([narrowed(chunk) for chunk in column.chunks], pa.binary()).cast(pa.string())
        for column in wide.columns
    ]
    return pa.Table.from_arrays(columns, [narrowed_name(name) for name in names])


@contextmanager
def _lent(file: IO[bytes]) -> Iterator[LentText]:
    """The file from its start, lent until the block ends: pyarrow may be reading ahead of what it has given."""
    file.seek(0)
    lent = LentText(file, wide=True)
    try:
        yield lent
    finally:
        lent.take_back()


def _strict(spec: InputSpec) -> str | None:
    """The first column that wants the run to fail on an invalid row."""
    return next((column.name for column in spec.columns if column.on_invalid.action == "fail"), None)


def _wrong_width(path: str, column: str | None) -> DataError:
    return DataError(
        f"{path} has a row of the wrong width (more or fewer fields than the header), and column {column} says "
        "on_invalid: fail. Correct the file, or declare on_invalid: drop for the column."
    )


# --- Rows may span lines --------------------------------------------------------------------------------------------


def _read_whole(plain: Plain, spec: InputSpec, path: str, header: _Header) -> Iterator[pa.RecordBatch]:
    if not header.has_rows:
        return
    strict = _strict(spec)
    done_rows, block_bytes, wide = 0, base.BLOCK_BYTES, False
    while True:
        reading = _Reading(plain.start(), spec, header.fields, block_bytes, strict=strict is not None, wide=wide)
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
        if reading.wrong_width.called and strict is not None:
            raise _wrong_width(path, strict)
        if reading.failure != "row too long" and not wide:
            wide = True  # a NUL, or perhaps a row of the wrong width that isn't UTF-8
            continue
        if reading.failure != "row too long":
            raise RunFailed(f"{path} could not be read to its end ({reading.failure}). Check the file and its storage.")
        limit = base.MAX_BLOCK_BYTES * (2 if wide else 1)  # a widened row may be twice as long
        if block_bytes >= limit:
            raise too_long(path, spec.format)
        block_bytes = min(8 * block_bytes, limit)


class _Reading:
    """One pass over a CSV file, `wide` or as it is. After `next_batch` gave None, `failure` says why it ended, or is
    None at the end."""

    def __init__(
        self, stream: Any, spec: InputSpec, fields: list[str], block_bytes: int, *, strict: bool, wide: bool
    ) -> None:
        contain()
        self.failure: str | None = None
        self.wrong_width = OnWrongWidth("error" if strict else "skip")
        self._wide = wide
        self._names = [column.name for column in spec.columns]
        self._fields = [widened_name(name) for name in fields] if wide else fields
        self._options = {
            "read_options": pacsv.ReadOptions(block_size=block_bytes, use_threads=False),
            "parse_options": pacsv.ParseOptions(
                delimiter=spec.delimiter, newlines_in_values=True, invalid_row_handler=self.wrong_width
            ),
            "convert_options": _convert(self._fields),
        }
        self._lent = LentText(stream, wide=wide)
        self._reader: Any = None

    def next_batch(self) -> pa.RecordBatch | None:
        try:
            if self._reader is None:
                self._reader = pacsv.open_csv(pa.PythonFile(self._lent, mode="r"), **self._options)
            return _renamed(self._reader.read_next_batch(), self._fields, self._names, wide=self._wide)
        except StopIteration:
            return None
        except Exception as error:
            # The text may quote a row: it is looked at here, and goes no further.
            self.failure = "row too long" if "straddl" in str(error) else type(error).__name__
            # pyarrow's thread may be the last to let go of an error of the stream. Were this frame in it, and so the
            # reader, that thread would wait for itself, and the process for that thread as it ends.
            error.__traceback__ = None
            return None

    def take_back(self) -> None:
        """Ends the reading, so that the stream is its owner's again."""
        self._lent.take_back()


def _convert(fields: list[str]) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(
        check_utf8=False,
        column_types={name: pa.binary() for name in fields},
        include_columns=list(dict.fromkeys(fields)),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def _renamed(batch: pa.RecordBatch, fields: list[str], names: list[str], *, wide: bool) -> pa.RecordBatch:
    columns = [batch.column(field) for field in fields]
    return pa.RecordBatch.from_arrays([narrowed(column) for column in columns] if wide else columns, names=names)


# --- Each line is a row ---------------------------------------------------------------------------------------------


def _read_lines(plain: Plain, spec: InputSpec, split: Split, path: str, header: _Header) -> Iterator[pa.RecordBatch]:
    """The rows of the lines that begin in the split.

    Guarantee: a line's fate depends on that line alone. pyarrow carries an open quote over the end of a line, so lines
    whose quotes don't close are found here and left out before it sees them: of the others each field that starts with
    a quote ends with one, and the parser is at the start of a row wherever a line starts.
    """
    contain()
    strict = _strict(spec)
    names = [column.name for column in spec.columns]
    pattern = _line_pattern(spec.delimiter)

    blocks = line_blocks(plain, header.end, split.start, split.end)
    while True:
        block = next_block(blocks, path, spec.format)
        if block is None:
            return
        lines = Lines.of(block)
        whole = _whole_lines(lines, block, pattern)
        text = lines.where(whole).text()
        wrong_width = OnWrongWidth("skip")
        if text.size and text.to_pybytes().strip(b"\r\n"):
            table, wide = None, b"\0" in block
            if not wide:
                table = attempt(partial(_parsed, text, spec, header, wrong_width))
            if table is None:  # a NUL, or perhaps a row of the wrong width that isn't UTF-8
                wide_text = pa.py_buffer(widen(text.to_pybytes()))
                table, wide = attempt(partial(_parsed, wide_text, spec, header, wrong_width)), True
            if table is None:
                raise damaged(path)
            for batch in table.combine_chunks().to_batches():
                yield _renamed(batch, header.fields, names, wide=wide)
        if strict is not None and (wrong_width.called or not whole.all()):
            raise _wrong_width(path, strict)


def _parsed(text: pa.Buffer, spec: InputSpec, header: _Header, on_wrong_width: OnWrongWidth) -> pa.Table:
    if text.slice(0, min(text.size, len(BOM))).to_pybytes() == BOM:
        text = pa.py_buffer(b"\n" + text.to_pybytes())  # of a value: pyarrow takes it off where a file begins
    read_options = pacsv.ReadOptions(column_names=header.names, block_size=text.size + 1, use_threads=False)
    parse_options = pacsv.ParseOptions(
        delimiter=spec.delimiter, newlines_in_values=False, invalid_row_handler=on_wrong_width
    )
    return pacsv.read_csv(pa.BufferReader(text), read_options, parse_options, _convert(header.fields))


def _line_pattern(delimiter: str) -> str:
    """A line in which every field that starts with a quote ends with one, and no carriage return stands inside."""
    mark = re.escape(delimiter)
    quoted, bare = r'"(?:[^"\r\n]|"")*"', rf'(?:[^"\r\n{mark}][^\r\n{mark}]*)?'
    return rf"\A(?:{quoted}|{bare})(?:{mark}(?:{quoted}|{bare}))*\r?\n\z"


def _whole_lines(lines: Lines, block: bytes, pattern: str) -> Any:
    """A mask of the lines that `pattern` matches; only those with a quote or a stray carriage return are looked at."""
    fine = np.ones(len(lines), dtype=np.bool_)
    if b'"' not in block and block.count(b"\r") == block.count(b"\r\n"):
        return fine
    odd = pc.match_substring_regex(lines.array(), r'"|\r[^\n]').to_numpy(zero_copy_only=False)
    suspects = lines.array().filter(pa.array(odd))
    fine[odd] = pc.match_substring_regex(suspects, pattern).to_numpy(zero_copy_only=False)
    return fine
