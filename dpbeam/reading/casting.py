"""Takes a raw Arrow array as a source holds it, gives one of the declared type, null where a value isn't of it.

Only value by value: no function here looks at a second row to settle what the first one means. No format is ever
inferred, so a column of dates reads the same whichever row comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.queries.column_types import ColumnType, Scalar

if TYPE_CHECKING:
    import polars as pl  # loaded where text is parsed: a plan needs none of it

ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}

# Years 0001 to 9999: what ISO 8601 writes in four digits and Python's datetime can hold.
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
_DAY_US = 86_400_000_000
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_INT64_MAX, _INT64_MIN = 2**63 - 1, -(2**63)

_UUID, _JSON = pa.uuid(), pa.json_()
_UUID_GROUPS = (4, 2, 2, 2, 6)
"""How many bytes stand between the hyphens of a UUID's text (RFC 9562, section 4)."""
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)

# RE2 matches binary arrays byte by byte, so this is the table of well-formed UTF-8 (Unicode 15, table 3-7).
_UTF8 = (
    r"\A(?:[\x00-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}"
    r"|\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}"
    r"|\xF4[\x80-\x8F][\x80-\xBF]{2})*\z"
)
_DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01][0-9]|2[0-3])(?::[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?)?"
_ZONE = r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
_INFINITY = r"\A[+-]?(?i:inf|infinity)\z"
_TIMESTAMP = rf"\A{_DATE}(?:[T ]{_CLOCK}{_ZONE}?)?\z"


def to_type(values: pa.Array, kind: ColumnType) -> pa.Array:
    """`values` as an array of `ARROW_TYPES[kind]`, as long as before; null where it was null or isn't a value of it.

    Text (string or binary, of any Arrow layout) is parsed by the grammar in docs/input.md; other types are converted
    where that is exact. Dictionary arrays are decoded. Bytes of a fixed length are no text but ids and hashes, which no
    UTF-8 rule may drop: they become their hex digits, and a UUID its canonical text.

    Guarantee: element i of the result depends on element i of `values` and on `kind` alone.

    Raises:
        TypeError: an Arrow type that `kind` doesn't accept (see `accepts`).
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.type == _JSON:
        values = values.storage
    if not (is_text(values.type) or accepts(values.type, kind)):
        raise TypeError(f"a column of Arrow type {values.type} can't be read as {kind}")
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), ARROW_TYPES[kind])
    if is_text(values.type):
        return _parse(_utf8(values), kind)
    if values.type == _UUID:
        return _hex(values.storage, _UUID_GROUPS)
    match kind:
        case "string":
            return _hex(values, (values.type.byte_width,))
        case "int64":
            return _to_int64(values)
        case "float64" if pa.types.is_decimal(values.type):
            # Through text, for it is read as the nearest float64; Arrow's own cast rounds more than once.
            return _parse(values.cast(pa.string()), kind)
        case "date":
            days = values.cast(pa.int32()) if pa.types.is_date32(values.type) else _floor(values, 86_400_000)
            return _between(days.cast(pa.int64()), FIRST_DAY, LAST_DAY).cast(pa.int32()).cast(pa.date32())
        case "timestamp":
            return _to_microseconds(values)
        case _:
            return values.cast(ARROW_TYPES[kind])


def trimmed(values: pa.Array) -> pa.Array:
    """Text without the white space (Unicode's) at either end, null where nothing is left; anything else as it is.

    Bytes that aren't UTF-8 stay, so that they are still what isn't a value of any type.

    Guarantee: element i of the result depends on element i of `values` alone.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not is_text(values.type):
        return values
    text = _utf8(values)
    shorter = pc.utf8_trim_whitespace(text)
    shorter = pc.if_else(pc.equal(shorter, ""), None, shorter)
    if text.null_count == values.null_count:
        return shorter
    return pc.if_else(text.is_valid(), shorter.cast(pa.binary()), values.cast(pa.binary()))


def accepts(arrow: pa.DataType, kind: ColumnType) -> bool:
    """Whether a column of Arrow type `arrow` can be read as `kind`: exactly, or as the float64 nearest to a decimal."""
    types = pa.types
    if types.is_dictionary(arrow):
        arrow = arrow.value_type
    if types.is_null(arrow):
        return True
    match kind:
        case "string":
            return bool(is_text(arrow) or types.is_fixed_size_binary(arrow) or arrow in (_UUID, _JSON))
        case "int64":
            return bool(types.is_integer(arrow) or types.is_decimal(arrow))
        case "float64":
            whole = types.is_integer(arrow) and arrow.bit_width < 64
            return bool(types.is_floating(arrow) or types.is_decimal(arrow) or whole)
        case "bool":
            return bool(types.is_boolean(arrow))
        case "date":
            return bool(types.is_date(arrow))
        case "timestamp":
            return bool(types.is_timestamp(arrow))
    raise ValueError(f"unknown column type {kind!r}")


def as_hex(arrow: pa.DataType) -> bool | None:
    """Whether text of this Arrow type is hex digits of its bytes; None of a type without values."""
    if pa.types.is_dictionary(arrow):
        arrow = arrow.value_type
    return None if pa.types.is_null(arrow) else bool(pa.types.is_fixed_size_binary(arrow))


def is_text(arrow: pa.DataType) -> bool:
    """Whether `arrow` is an Arrow string or binary type."""
    types = pa.types
    return any(
        test(arrow)
        for test in (
            types.is_string,
            types.is_binary,
            types.is_large_string,
            types.is_large_binary,
            types.is_string_view,
            types.is_binary_view,
        )
    )


def literal(value: Scalar, kind: ColumnType) -> pa.Scalar:
    """A value of the policy as an Arrow scalar of `kind`; dates and timestamps are given as ISO 8601 text.

    Raises:
        ValueError: it isn't a value of that type.
    """
    if kind in ("date", "timestamp", "string"):
        fits = isinstance(value, str)
    elif kind == "bool":
        fits = isinstance(value, bool)
    else:
        fits = isinstance(value, int | float if kind == "float64" else int) and not isinstance(value, bool)
    if fits and isinstance(value, str):
        try:
            scalar = to_type(pa.array([value.encode()]), kind)[0]
        except UnicodeEncodeError:
            scalar = pa.scalar(None)
        fits = bool(scalar.is_valid)
    elif fits:
        fits = kind != "int64" or _INT64_MIN <= value <= _INT64_MAX  # type: ignore[operator]
        scalar = pa.scalar(float(value) if kind == "float64" else value) if fits else None
    if not fits:
        raise ValueError(f"{value!r} is not a value of type {kind}")
    return scalar


def _utf8(values: pa.Array) -> pa.Array:
    """As `string`, null where the bytes aren't UTF-8. Parquet readers don't check, so strings are checked too."""
    values = values.cast(pa.binary())
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        pass
    valid = pc.match_substring_regex(values, _UTF8)
    return pc.if_else(valid, values, None).cast(pa.string())


def _hex(values: pa.Array, groups: Sequence[int]) -> pa.Array:
    """Bytes of a fixed length as hex digits in lower case, with a hyphen between groups of so many bytes."""
    size, rows = values.type.byte_width, len(values)
    plain = np.frombuffer(values.buffers()[1] or b"", dtype=np.uint8)
    raw = plain[values.offset * size :][: rows * size].reshape(rows, size)
    width = 2 * size + len(groups) - 1
    text = np.full((rows, width), ord("-"), dtype=np.uint8)
    byte = at = 0
    for group in groups:
        part = raw[:, byte : byte + group]
        text[:, at : at + 2 * group : 2], text[:, at + 1 : at + 2 * group : 2] = _HEX[part >> 4], _HEX[part & 15]
        byte, at = byte + group, at + 2 * group + 1
    ends = pa.py_buffer(np.arange(rows + 1, dtype=np.int64) * width)
    made = pa.Array.from_buffers(pa.large_string(), rows, [None, ends, pa.py_buffer(text)]).cast(pa.string())
    return pc.if_else(values.is_valid(), made, None) if values.null_count else made


def _parse(text: pa.Array, kind: ColumnType) -> pa.Array:
    match kind:
        case "string":
            return text
        case "int64":
            import polars as pl

            return _arrow(pl.Series(values=text).cast(pl.Int64, strict=False), pa.int64())
        case "float64":
            import polars as pl

            return _held(_arrow(pl.Series(values=text).cast(pl.Float64, strict=False), pa.float64()), text)
        case "bool":
            word = pc.ascii_lower(text)
            true = pc.is_in(word, value_set=pa.array(["true", "1"]))
            false = pc.is_in(word, value_set=pa.array(["false", "0"]))
            return pc.if_else(pc.or_(true, false), true, None)
        case "date":
            return _parse_dates(text)
        case "timestamp":
            return _parse_timestamps(text)
    raise ValueError(f"unknown column type {kind!r}")


def _held(numbers: pa.Array, text: pa.Array) -> pa.Array:
    """The numbers, null where one is infinite only because a float64 can't hold what its text says."""
    infinite = pc.is_inf(numbers)
    if not pc.any(infinite).as_py():
        return numbers
    spelled = pc.match_substring_regex(text, _INFINITY)
    return pc.if_else(pc.and_not(infinite, spelled), pa.scalar(None, pa.float64()), numbers)


def _parse_dates(text: pa.Array) -> pa.Array:
    try:
        days = text.cast(pa.date32())
    except pa.ArrowInvalid:
        days = _arrow(_frame(text).select(_calendar_day(rf"\A{_DATE}\z")).to_series(), pa.date32())
    return _between(days.cast(pa.int32()).cast(pa.int64()), FIRST_DAY, LAST_DAY).cast(pa.int32()).cast(pa.date32())


def _frame(text: pa.Array) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame({"text": pl.Series(values=text)})


def _calendar_day(pattern: str) -> pl.Expr:
    """The day that each `text` which matches `pattern` starts with; null for the others and for 30 February."""
    import polars as pl

    text = pl.col("text").str
    return pl.when(text.contains(pattern)).then(text.slice(0, 10).str.to_date("%Y-%m-%d", strict=False))


def _parse_timestamps(text: pa.Array) -> pa.Array:
    """Fast where all rows say no zone, or all say one; Arrow's grammar is then a part of `_TIMESTAMP`."""
    for zone in (None, "UTC"):
        try:
            moments = text.cast(pa.timestamp("us", zone)).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
        return _microseconds(moments)
    import polars as pl

    frame = _frame(text).with_columns(day=_calendar_day(_TIMESTAMP))
    moment = pl.col("text").str

    def number(pattern: str) -> pl.Expr:
        return moment.extract(pattern).cast(pl.Int64).fill_null(0)

    clock = r"\A.{10}[T ]"
    offset = r"\A.{13}[^+-]*"
    sign = pl.when(moment.contains(offset + "-")).then(-1).otherwise(1)
    micros = (
        pl.col("day").cast(pl.Int32).cast(pl.Int64) * _DAY_US
        + number(clock + "([0-9]{2})") * 3_600_000_000
        + number(clock + "[0-9]{2}:([0-9]{2})") * 60_000_000
        + number(clock + "[0-9]{2}:[0-9]{2}:([0-9]{2})") * 1_000_000
        + moment.extract(r"\.([0-9]+)").str.slice(0, 6).str.pad_end(6, "0").cast(pl.Int64).fill_null(0)
        - sign * number(offset + "[+-]([0-9]{2})") * 3_600_000_000
        - sign * number(offset + "[+-][0-9]{2}:?([0-9]{2})") * 60_000_000
    )
    # Only rows that match `_TIMESTAMP` have a day; the others are made null before a part of them is read as a number.
    kept = frame.with_columns(text=pl.when(pl.col("day").is_not_null()).then(pl.col("text")).otherwise(None))
    return _microseconds(_arrow(kept.select(micros).to_series(), pa.int64()))


def _to_int64(values: pa.Array) -> pa.Array:
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.decimal256(76, values.type.scale))
        # `trunc`, since `floor` fails where it would need a digit more than the type has. Where all digits are those of
        # a fraction there is none for it either, and no whole number but 0.
        trunc = pc.trunc(values) if values.type.scale < 76 else pa.scalar(Decimal(0), values.type)
        values = pc.if_else(pc.equal(values, trunc), values, None)
        values = values.cast(pa.decimal256(76))
        low, high = (pa.scalar(bound).cast(pa.decimal256(76)) for bound in (_INT64_MIN, _INT64_MAX))
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
        values = pc.if_else(inside, values, None)
    elif pa.types.is_uint64(values.type):
        inside = pc.less_equal(values, pa.scalar(_INT64_MAX, pa.uint64()))
        values = pc.if_else(inside, values, None)
    return values.cast(pa.int64())


def _to_microseconds(values: pa.Array) -> pa.Array:
    """UTC without a zone. A zoned Arrow timestamp already counts from the UTC epoch; one without is taken as UTC."""
    unit = values.type.unit
    if unit == "ns":
        return _microseconds(_floor(values, 1_000))
    per_day = 86_400 * _PER_SECOND[unit]
    # Cut before scaling up, where an absurd value would wrap round.
    inside = _between(values.cast(pa.int64()), FIRST_DAY * per_day, (LAST_DAY + 1) * per_day - 1)
    return _microseconds(pc.multiply(inside, 1_000_000 // _PER_SECOND[unit]))


def _microseconds(moments: pa.Array) -> pa.Array:
    return _between(moments, FIRST_DAY * _DAY_US, (LAST_DAY + 1) * _DAY_US - 1).cast(pa.timestamp("us"))


def _floor(values: pa.Array, divisor: int) -> pa.Array:
    """Whole units since the epoch, rounded towards the past (Arrow's own cast rounds towards 1970)."""
    numbers = values.cast(pa.int64())
    floored = np.floor_divide(numbers.fill_null(0).to_numpy(), divisor)
    return pa.array(floored, mask=numbers.is_null().to_numpy(zero_copy_only=False))


def _between(values: pa.Array, low: int, high: int) -> pa.Array:
    inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
    return pc.if_else(inside, values, None)


def _arrow(series: pl.Series, kind: pa.DataType) -> Any:
    return series.to_arrow().cast(kind)
