"""Where the rows of a query come from, and every row-local step on them: nothing here looks across rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.queries.column_types import ColumnType, DeclaredType, Scalar
from dpbeam.queries.expressions import Expression, columns_of

Format = Literal["csv", "parquet", "jsonl", "avro", "arrow"]
Compression = Literal["auto", "none", "gzip", "bz2", "zstd", "xz"]
Fingerprint = Literal["times", "content"]
"""How a run tells one input from another: by its files' names, sizes and times of change, or by their bytes."""


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """What the keys of a source may say about files of one format; `dpbeam.reading.formats` reads them.

    `suffixes` are those of names from which people expect the format. Files that are `packed_whole` are text, and may
    be compressed from the first byte to the last; others compress what is inside, and begin with the bytes `magic`.
    """

    label: str
    suffixes: tuple[str, ...]
    magic: bytes | None = None
    packed_whole: bool = False

    def __post_init__(self) -> None:
        if self.packed_whole == (self.magic is not None):
            raise ValueError(
                f"{self.label} files need first bytes that tell them, unless they are text, which has none"
            )


FORMATS: Mapping[Format, FileFormat] = {
    "csv": FileFormat(label="a CSV", suffixes=(".csv",), packed_whole=True),
    "parquet": FileFormat(label="a Parquet", suffixes=(".parquet", ".pq"), magic=b"PAR1"),
    "jsonl": FileFormat(label="a JSON Lines", suffixes=(".jsonl", ".ndjson", ".json"), packed_whole=True),
    "avro": FileFormat(label="an Avro", suffixes=(".avro",), magic=b"Obj\x01"),
    "arrow": FileFormat(label="an Arrow IPC", suffixes=(".arrow", ".feather"), magic=b"ARROW1"),
}


def format_of(name: str) -> Format | None:
    """The format that a file's name, such as `visits.csv.gz`, lets people expect; None if it lets them expect none."""
    suffixes = [f".{part}" for part in name.rpartition("/")[2].split(".")[1:]]
    return next((each for each, known in FORMATS.items() if set(known.suffixes) & set(suffixes)), None)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What happens to a row whose value breaks a column's rule: `drop` it, `fail` the run, `replace` the value."""

    action: Literal["drop", "fail", "replace"] = "drop"
    value: Scalar | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that is read from the source, and its rules. `on_nan`, `on_inf` apply to float64 and vectors only.

    `on_invalid` applies to what isn't a value of the type: text that is not a number, invalid UTF-8, an integer
    beyond int64, a CSV row of the wrong width or a line that isn't JSON (there the row is dropped or the run fails).
    With `trim`, white space at both ends of text goes before it is read, and text of nothing else is a missing value.
    `field` says where the column lies in the source, if not under its name: a name, a path with dots into structs, or
    the path's names one by one. A vector has `length` numbers in every row, and its rules hold for each of them.

    Raises:
        ValueError: a vector without a length of at least 1, or a length of anything else; a vector to trim.
    """

    name: str
    type: DeclaredType
    on_null: Rule = Rule()
    on_nan: Rule = Rule()
    on_inf: Rule = Rule()
    on_invalid: Rule = Rule()
    field: str | tuple[str, ...] | None = None
    length: int | None = None
    trim: bool = False

    def __post_init__(self) -> None:
        if (self.type == "vector") != (self.length is not None) or not (self.length is None or self.length >= 1):
            raise ValueError(f"columns.{self.name}: a vector, and no other type, needs a length of at least 1")
        if self.type == "vector" and self.trim:
            raise ValueError(f"columns.{self.name}: a vector holds no text to trim")


@dataclass(frozen=True, kw_only=True)
class Bin:
    """`name` = the interval of `edges` that holds `column`, as text: "< 18", "[18, 30)", …, "≥ 65"."""

    name: str
    column: str
    edges: tuple[float, ...]
    type: ClassVar[ColumnType] = "string"


@dataclass(frozen=True, kw_only=True)
class Truncate:
    """`name` = `column` (date or timestamp) cut to the start of its `unit`, as ISO 8601 text."""

    name: str
    column: str
    unit: Literal["year", "month", "week", "day", "hour", "minute"]
    type: ClassVar[ColumnType] = "string"


@dataclass(frozen=True, kw_only=True)
class Lower:
    """`name` = `column` (string) in lower case."""

    name: str
    column: str
    type: ClassVar[ColumnType] = "string"


@dataclass(frozen=True, kw_only=True)
class Computed:
    """`name` = `expression`. `on_null` applies to rows in which it is missing, `on_invalid` to those in which it can't
    be computed or read."""

    name: str
    expression: Expression
    on_null: Rule = Rule()
    on_invalid: Rule = Rule()

    @property
    def type(self) -> ColumnType:
        """The expression's type."""
        return self.expression.type


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """`name` = what a public table has beside the row's value of `column`; missing where it doesn't have that.

    `keys` and `values` are the table's rows: of one length, of the types of `column` and of `type`, no key missing.

    Raises:
        ValueError: a key that stands there twice: a lookup adds columns and never rows. Or lengths that differ.
    """

    name: str
    column: str
    keys: pa.Array
    values: pa.Array
    type: ColumnType
    on_null: Rule = Rule()

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.values) or self.keys.null_count or len(self.keys.unique()) != len(self.keys):
            raise ValueError(f"derive.{self.name}: a lookup needs each key once, with a value for it")


@dataclass(frozen=True, kw_only=True)
class Placed:
    """`name` = `column`, or `label` where that is none of the values `listed`: the partition in which a row counts,
    where one of them takes all rows that aren't in any other.

    Raises:
        ValueError: the label is listed, or isn't of the type of what is.
    """

    name: str
    column: str
    type: ColumnType
    listed: pa.Array
    label: pa.Scalar

    def __post_init__(self) -> None:
        fits = self.label.type == self.listed.type and self.label.is_valid
        if not fits or pc.any(pc.equal(self.listed, self.label)).as_py():
            raise ValueError(f"{self.name}: what takes all that isn't listed needs a label that isn't listed")


Derived = Bin | Truncate | Lower | Computed | Lookup | Placed


def uses(item: Derived) -> Iterator[str]:
    """The names of the columns, read or derived, that a derived column is made from."""
    if isinstance(item, Computed):
        return columns_of(item.expression)
    return iter((item.column,))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Keeps the rows where `column` `op` `value` holds; a row-local test, so it costs no budget."""

    column: str
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not_in"]
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The source and every row-local step, in the order they apply: read, validate, derive, where. A derived column
    stands behind those that it is made from.

    `path_columns` are columns whose values stand in the files' paths, as folders `name=value`. `quoted_newlines` says
    whether a quoted CSV value may hold line breaks; if not, each line is a row. `unused` names the columns, derived
    ones too, that somebody declared and that nothing uses: they drop no rows.
    """

    format: Format
    paths: tuple[str, ...]
    columns: tuple[Column, ...]
    derived: tuple[Derived, ...] = ()
    where: tuple[Condition, ...] = ()
    delimiter: str = ","
    quoted_newlines: bool = True
    compression: Compression = "auto"
    path_columns: tuple[str, ...] = ()
    fingerprint: Fingerprint = "times"
    unused: tuple[str, ...] = ()


def reduced(spec: InputSpec, needed: Collection[str]) -> InputSpec:
    """The spec with those columns alone that are `needed`, or that a condition or a needed derived column is made of.

    Where nothing needs any, rows are counted by the first one, whose rules then drop none.

    Guarantee: which columns are read follows from the query alone, so each step stays row-local.
    """
    wanted = {*needed, *(condition.column for condition in spec.where)}
    for item in reversed(spec.derived):  # one may be made of those before it alone
        if item.name in wanted:
            wanted.update(uses(item))
    columns = tuple(column for column in spec.columns if column.name in wanted)
    names = [*(column.name for column in spec.columns), *(item.name for item in spec.derived)]
    if not columns:
        columns = tuple(_counted(column) for column in spec.columns[:1])
    read = {column.name for column in columns}
    return replace(
        spec,
        columns=columns,
        derived=tuple(item for item in spec.derived if item.name in wanted),
        path_columns=tuple(name for name in spec.path_columns if name in read),
        unused=tuple(name for name in names if name not in wanted),
    )


_ANY: Mapping[DeclaredType, Scalar] = {
    "string": "", "int64": 0, "float64": 0.0, "bool": False, "date": "1970-01-01", "timestamp": "1970-01-01T00:00:00",
    "vector": 0.0,
}  # fmt: skip


def _counted(column: Column) -> Column:
    """The column with rules that keep every row."""
    keep = Rule(action="replace", value=_ANY[column.type])
    return replace(column, on_null=keep, on_nan=keep, on_inf=keep, on_invalid=keep)
