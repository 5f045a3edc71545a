"""Rows that hold a canary go wrong in every way there is: no error, log record or output shows it."""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
import traceback
from dataclasses import replace

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.errors import DataError, DpbeamError, RunFailed, UsageError
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Column, InputSpec, Rule
from dpbeam.reading.formats import Split, base, inspect_file, read_split
from dpbeam.reading.rows import prepare

CANARY = b"CANARY-7f3a"
FORMATS = ("csv", "csv lines", "parquet", "jsonl", "avro")
KINDS: tuple[ColumnType, ...] = ("string", "int64", "float64", "bool", "date", "timestamp")


def spec(format: str, kind: ColumnType, action: str) -> InputSpec:
    value = {"string": "", "int64": 0, "float64": 0.0, "bool": False, "date": "2000-01-01", "timestamp": "2000-01-01"}[
        kind
    ]
    rule = Rule(action=action, value=value if action == "replace" else None)  # type: ignore[arg-type]
    columns = tuple(
        Column(name=name, type=kind, on_null=rule, on_nan=rule, on_inf=rule, on_invalid=rule) for name in ("a", "b")
    )
    lines = format == "csv lines"
    return InputSpec(format="csv" if lines else format, paths=(), columns=columns, quoted_newlines=not lines)  # type: ignore[arg-type]


def avro(*values: bytes, kind: str = "bytes", cut: int = 0) -> bytes:
    sink = io.BytesIO()
    fields = [{"name": name, "type": kind} for name in ("a", "b")]
    given = [value.decode("latin-1") if kind == "string" else value for value in values]
    fastavro.writer(sink, {"type": "record", "name": "r", "fields": fields}, [{"a": v, "b": v} for v in given])
    return sink.getvalue()[: -cut or None]


def spoilt(raw: bytes, at: int) -> bytes:
    """With the byte before the first canary, a length, made another."""
    place = raw.index(CANARY) + at
    return raw[:place] + bytes([raw[place] ^ 0x7F]) + raw[place + 1 :]


def parquet(values: pa.Array, spoil: bool = False) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": values, "b": values}), sink, write_page_checksum=True, compression="none")
    raw = bytearray(sink.getvalue())
    if spoil:
        raw[raw.index(CANARY) - 1] ^= 0xFF
    return bytes(raw)


FILES = {
    "not of the type": b"a,b\n" + CANARY + b",1\n",
    "invalid UTF-8": b"a,b\n" + CANARY + b"\xff," + CANARY + b"\n",
    "too wide": b"a,b\n1,2\n" + CANARY + b",1," + CANARY + b"\n",
    "too narrow": b"a,b\n" + CANARY + b"\n",
    "an open quote": b'a,b\n"' + CANARY + b",1\n2,3\n",
    "an endless row": b'a,b\n1,2\n"' + (CANARY + b"\n") * 40_000,
    "text after a quote": b'a,b\n"1"' + CANARY + b",2\n",
    "no header": CANARY + b"," + CANARY + b"\n1,2\n",
    "a header that is not UTF-8": CANARY + b"\xff,b\n1,2\n",
    "an open quote in the header": b'a,"b' + CANARY + b"\n1,2\n",
    "too many digits": b"a,b\n" + b"9" * 400 + CANARY + b",1\n",
    "a parquet file": b"PAR1" + CANARY,
    "a line that is not JSON": b'{"a": "1"}\n{"a": ' + CANARY + b"}\n",
    "a line of wrong types": b'{"a": "' + CANARY + b'", "b": ["' + CANARY + b'"]}\n{"a": {"' + CANARY + b'": 1}}\n',
    "a key twice": b'{"a": "' + CANARY + b'", "a": "' + CANARY + b'"}\n',
    "two objects in a line": b'{"a": "' + CANARY + b'"} {"b": "' + CANARY + b'"}\n',
    "invalid UTF-8 in JSON": b'{"a": "' + CANARY + b'\xff", "b": "\xff"}\n',
    "a number too big": b'{"a": ' + b"9" * 400 + b', "b": "' + CANARY + b'"}\n',
    "an endless line": b'{"a": "' + CANARY * 8000,
    "deep nesting": b'{"a": ' + b"[" * 20_000 + b'"' + CANARY + b'"\n',
    "avro text": avro(CANARY, CANARY + b"\xff"),
    "a cut avro file": avro(CANARY * 9, CANARY, cut=30),
    "a damaged avro file": spoilt(avro(*[CANARY] * 9), -1),
    "an avro file that ends in its header": avro(CANARY)[:40] + CANARY,
    "a cut gzip file": gzip.compress(b'{"a": "' + CANARY + b'"}\n' * 99)[:-9],
    "parquet text": parquet(pa.array([CANARY, CANARY + b"\xff", None], pa.binary())),
    "a damaged parquet page": parquet(pa.array([CANARY] * 50, pa.binary()), spoil=True),
    "a cut parquet file": parquet(pa.array([CANARY] * 50, pa.binary()))[:-5],
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(base, "MAX_BLOCK_BYTES", 1 << 15)


def zstd(plain: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(plain, asbytes=True))


def failure(raw: bytes, wanted: InputSpec, path: str = "t") -> DpbeamError | None:
    """How reading and preparing the file ends: with this error, or well."""
    try:
        file = io.BytesIO(raw)
        for split in inspect_file(file, wanted, path):
            for batch in read_split(file, split, wanted):
                prepare(batch, wanted)
    except DpbeamError as error:
        return error
    return None


@pytest.mark.parametrize("action", ["drop", "replace", "fail"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", FILES)
def test_no_canary_sings(
    case: str,
    kind: ColumnType,
    action: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    for format in FORMATS:
        error = failure(FILES[case], spec(format, kind, action))
        if error is not None:
            assert (error.__cause__, error.__context__) == (None, None)
            assert "CANARY" not in repr(error) + "".join(traceback.format_exception(error))
    printed = capfd.readouterr()
    assert "CANARY" not in caplog.text + printed.out + printed.err


@pytest.mark.parametrize(
    ("case", "format", "kind", "expected"),
    [
        ("not of the type", "csv", "int64", DataError),
        ("invalid UTF-8", "csv", "string", DataError),
        ("too wide", "csv", "string", DataError),
        ("too narrow", "csv", "string", DataError),
        ("an endless row", "csv", "string", RunFailed),
        ("no header", "csv", "string", UsageError),
        ("a header that is not UTF-8", "csv", "string", UsageError),
        ("an open quote in the header", "csv", "string", UsageError),
        ("too many digits", "csv", "float64", DataError),
        ("parquet text", "parquet", "string", DataError),
        ("parquet text", "parquet", "int64", UsageError),
        ("a damaged parquet page", "parquet", "string", RunFailed),
        ("a cut parquet file", "parquet", "string", UsageError),
        ("not of the type", "csv lines", "int64", DataError),
        ("too wide", "csv lines", "string", DataError),
        ("an open quote", "csv lines", "string", DataError),
        ("an endless line", "csv lines", "string", UsageError),
        ("a line that is not JSON", "jsonl", "string", DataError),
        ("a line of wrong types", "jsonl", "string", DataError),
        ("a key twice", "jsonl", "string", DataError),
        ("two objects in a line", "jsonl", "string", DataError),
        ("invalid UTF-8 in JSON", "jsonl", "string", DataError),
        ("a number too big", "jsonl", "float64", DataError),
        ("an endless line", "jsonl", "string", RunFailed),
        ("deep nesting", "jsonl", "string", DataError),
        ("a cut gzip file", "jsonl", "string", UsageError),
        ("avro text", "avro", "string", DataError),
        ("avro text", "avro", "int64", UsageError),
        ("a cut avro file", "avro", "string", RunFailed),
        ("a damaged avro file", "avro", "string", RunFailed),
        ("an avro file that ends in its header", "avro", "string", UsageError),
    ],
)
def test_the_canary_s_rows_do_go_wrong(case: str, format: str, kind: ColumnType, expected: type[DpbeamError]) -> None:
    assert type(failure(FILES[case], spec(format, kind, "fail"))) is expected


def test_a_canary_in_a_plain_message_would_be_heard() -> None:
    with pytest.raises(pa.ArrowInvalid) as caught:
        pa.array([CANARY.decode()]).cast(pa.int64())
    assert "CANARY" in str(caught.value)


def test_what_the_storage_says_is_not_repeated() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 1 << 16:
                raise OSError("can't read CANARY-7f3a")
            return super().read(min(size or -1, 1 << 16))

    with pytest.raises(RunFailed) as caught:
        list(read_split(Broken(b"a,b\n" + b"1,2\n" * (1 << 16)), Split("t", None), spec("csv", "string", "drop")))
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("codec", ["gzip", "bz2", "xz", "zstd"])
@pytest.mark.parametrize("format", ["csv", "csv lines", "jsonl"])
def test_no_canary_sings_in_a_compressed_file_cut_short(format: str, codec: str) -> None:
    plain = b'{"a": "' + CANARY + b'"}\n' if format == "jsonl" else b"a,b\n" + CANARY + b",1\n"
    packed = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": zstd}[codec](plain * 9)
    wanted = replace(spec(format, "string", "drop"), compression=codec)
    assert failure(packed, wanted) is None
    error = failure(packed[:-5], wanted)
    assert isinstance(error, RunFailed | UsageError)
    assert (error.__cause__, error.__context__) == (None, None)
    assert "CANARY" not in "".join(traceback.format_exception(error))


def test_a_value_that_stands_in_a_path_is_in_no_error() -> None:
    wanted = replace(
        spec("csv", "string", "fail"), path_columns=("b",), columns=(*spec("csv", "string", "fail").columns,)
    )
    for raw, kind in ((b"a\n1,2\n", DataError), (b"", UsageError), (b"c\n", UsageError)):
        error = failure(raw, wanted, path=f"data/b={CANARY.decode()}/part.csv")
        assert type(error) is kind
        assert "CANARY" not in "".join(traceback.format_exception(error))
        assert "data/b=…/part.csv" in str(error)
    twice = failure(b"a\n1\n", wanted, path=f"b={CANARY.decode()}/b={CANARY.decode()}/part.csv")
    assert "CANARY" not in str(twice)
