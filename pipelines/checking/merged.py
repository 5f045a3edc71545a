"""Tables that are added up batch by batch in bounded memory: where they grow too long, a fair sample is kept."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from dpbeam.array_types import U64
from dpbeam.engine.arrays import hashing

MOST_ROWS = 10_000_000
"""Of one table, at some 40 bytes each; what is longer is halved by a hash until it fits."""
_WAITING_ROWS = 1 << 20


def hashes(column: pa.Array, seed: int) -> U64:
    """A well mixed 64-bit hash of each value, the same within this process for equal values."""
    return hashing.mix64(pl.Series(column).hash(seed).to_numpy().copy())


def plain(values: pl.Series) -> pl.Series:
    """Text as people mean it: one form of each character, lower case, no blanks around it, one for each gap, hyphen or
    underscore within. Two values that have it in common look like two spellings of one."""
    return values.str.normalize("NFKC").str.to_lowercase().str.strip_chars().str.replace_all(r"[\s_\-]+", " ")


class Merged:
    """Rows by `keys`, their other columns added up. Of more than `most` rows those are kept whose hash in column `by`
    is small, so of what shares a hash all is there or nothing; `one_in` says how many there are for each kept one."""

    def __init__(self, keys: Sequence[str], by: str, most: int = MOST_ROWS) -> None:
        self._keys, self._by, self._most = list(keys), by, most
        self._whole: pl.DataFrame | None = None
        self._waiting: list[pl.DataFrame] = []
        self.one_in = 1

    def add(self, rows: pl.DataFrame) -> None:
        """Adds rows; the columns are the same each time."""
        self._waiting.append(self._sampled(self._grouped(rows)))
        waiting = sum(map(len, self._waiting))
        if waiting > max(_WAITING_ROWS, 0 if self._whole is None else len(self._whole)) or waiting > self._most:
            self._merge()

    def table(self) -> pl.DataFrame | None:
        """All that was added; None if nothing was."""
        self._merge()
        return self._whole

    def _merge(self) -> None:
        tables = [*([] if self._whole is None else [self._whole]), *self._waiting]
        if not tables:
            return
        whole = self._grouped(pl.concat(tables))
        while len(whole) > self._most and self.one_in < 1 << 32:
            self.one_in *= 2
            whole = self._sampled(whole)
        self._whole, self._waiting = whole, []

    def _grouped(self, rows: pl.DataFrame) -> pl.DataFrame:
        others = [name for name in rows.columns if name not in self._keys]
        return rows.group_by(self._keys).agg([pl.col(name).sum() for name in others])

    def _sampled(self, rows: pl.DataFrame) -> pl.DataFrame:
        if self.one_in == 1:
            return rows
        return rows.filter(pl.col(self._by) < pl.lit((1 << 64) // self.one_in, dtype=pl.UInt64))
