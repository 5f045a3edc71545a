"""Result tables (keys, then `m`, `m_low`, `m_high` for each metric m) as Parquet and CSV files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from dpbeam.reporting.manifest import ChosenBound, Coverage

LEVEL = 0.95
ROW_GROUP_ROWS = 1 << 20

# A spreadsheet may run a cell that starts with one of = + - @, their full-width or small forms or a minus sign; it
# skips white space, control characters and quotes before it. OWASP "CSV Injection" adds tab, CR and LF in front.
_FORMULA = r"""^["'\pZ\pC]*[=+\-@＝＋－＠﹢﹣﹦﹫−]|^["']*[\t\r\n]"""


@dataclass(frozen=True, kw_only=True)
class MetricColumn:
    """A released metric: its column `name`, its kind, and its noise.

    `std` is the standard deviation of the noise, in the metric's unit; None where it differs from partition to
    partition (as of a mean or a quantile). `noise` is `laplace` or `gaussian`. The interval columns `<name>_low` and
    `<name>_high` hold the true (bounded) value with probability `level`.
    """

    name: str
    kind: str
    noise: Literal["laplace", "gaussian"]
    std: float | None
    level: float = LEVEL
    other_std: float | None = None
    """That of the others of hierarchical keys, where they have more noise than leaves; `std` is of leaves then."""
    biased: bool = False
    """Whether the value is shown only if it passed a threshold, so that a column `<name>_bias` estimates by how much it
    is too high on average."""
    label: str | None = None
    """The column of text that says which value of a partition this one counts."""
    place: int = 0
    of: int = 1
    """Of a metric with several columns, which of them this is, from 0, and how many there are."""

    @property
    def one_std(self) -> float | None:
        """`std` where all rows have it."""
        return self.std if self.other_std is None else None

    @property
    def columns(self) -> tuple[str, ...]:
        own = (self.name, f"{self.name}_low", f"{self.name}_high")
        return (*own, f"{self.name}_bias") if self.biased else own


def write_parquet(
    table: pa.Table,
    path: str | Path,
    metrics: Sequence[MetricColumn] = (),
    chosen: Sequence[ChosenBound] = (),
    period: str | None = None,
    coverage: Coverage | None = None,
) -> None:
    """Writes `table` as Parquet: the same rows and metrics give the same bytes, however the table is chunked.

    Each metric's three fields carry `dpbeam.metric`, `dpbeam.kind`, `dpbeam.noise`, `dpbeam.std` (absent if it
    varies), `dpbeam.other_std` (of others of hierarchical keys, where they have more) and `dpbeam.level` as Arrow field
    metadata; bounds that the run chose are in the schema's metadata, as JSON under `dpbeam.chosen_bounds`, and so is
    the release's period under `dpbeam.period`, the stage's coverage under `dpbeam.coverage`. Nothing else of the
    table's metadata is kept.
    """
    about = {column: metric for metric in metrics for column in metric.columns}
    plain = _plain(table)
    schema = pa.schema([_described(field, about.get(field.name)) for field in plain.schema])
    of_all = {} if period is None else {"dpbeam.period": period}
    if chosen:
        of_all["dpbeam.chosen_bounds"] = json.dumps([bound.to_json() for bound in chosen])
    if coverage is not None:
        of_all["dpbeam.coverage"] = json.dumps(asdict(coverage))
    if of_all:
        schema = schema.with_metadata(of_all)
    pa.parquet.write_table(
        plain.cast(schema).combine_chunks(), path, row_group_size=ROW_GROUP_ROWS, compression="zstd", version="2.6"
    )


def write_csv(table: pa.Table, path: str | Path) -> None:
    """Writes `table` as CSV: UTF-8, quoted as RFC 4180 says, lines ending in LF, dates and times in ISO 8601.

    A text cell or a header that a spreadsheet might take for a formula gets a `'` in front (see `_FORMULA`);
    numbers stay as they are, and floats have as many digits as give the same double back.
    """
    plain = _plain(table)
    names = escape_formulas(pa.array(plain.column_names, pa.string())).to_pylist()
    columns = [_csv_column(column) for column in plain.columns]
    pa.csv.write_csv(pa.Table.from_arrays(columns, names=names), path)


def escape_formulas(text: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Puts `'` in front of each text that a spreadsheet might take for a formula; nulls stay.

    It can be undone: no other text comes out with a `'` before something that would have been escaped.
    """
    risky = pc.match_substring_regex(text, _FORMULA)
    quote = pa.scalar("'", type=text.type)
    return pc.if_else(risky, pc.binary_join_element_wise(quote, text, pa.scalar("", type=text.type)), text)


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries and metadata."""
    columns, fields = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        columns.append(column.cast(kind))
        fields.append(pa.field(field.name, kind))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _described(field: pa.Field, metric: MetricColumn | None) -> pa.Field:
    if metric is None:
        return field
    about = {"metric": metric.name, "kind": metric.kind, "noise": metric.noise, "level": repr(metric.level)}
    if metric.std is not None:
        about["std"] = repr(metric.std)
    if metric.other_std is not None:
        about["other_std"] = repr(metric.other_std)
    return field.with_metadata({f"dpbeam.{key}": value for key, value in about.items()})


def _csv_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return escape_formulas(column)
    if pa.types.is_timestamp(kind):
        utc = column.cast(pa.timestamp(kind.unit))  # the instant in UTC, without the zone's name
        zone = "Z" if kind.tz is not None else ""
        return pc.strftime(utc, format="%Y-%m-%dT%H:%M:%S" + zone)
    return column
