"""What earlier rounds of a selection said of partitions, looked up for the partitions of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpbeam.array_types import I64, Mask
from dpbeam.engine.arrays.lookup import Lookup
from dpbeam.engine.rounds import biases

KEPT, BIAS = "__kept", "__bias"


@dataclass(frozen=True, kw_only=True)
class EarlierRounds:
    """What earlier rounds said of partitions, each once, by the columns of their keys, `__kept` and `__bias`.

    It is sent to workers as the table; each makes its index at the first look.
    """

    table: pa.Table

    @cached_property
    def _lookup(self) -> Lookup:
        keys = [self.table.column(name) for name in self.table.column_names if name not in (KEPT, BIAS)]
        return Lookup(keys=tuple(pa.concat_arrays([pa.array([], key.type), *key.chunks]) for key in keys))

    def __reduce__(self) -> tuple[object, ...]:
        return _earlier_rounds, (self.table,)

    def kept(self, keys: Sequence[pa.Array]) -> Mask:
        """Which partitions, given by the columns of their keys, were kept."""
        return np.asarray(self._lookup_or(keys, KEPT, False), dtype=np.bool_)

    def biases(self, keys: Sequence[pa.Array]) -> I64:
        """The biases of partitions; `biases.UNLISTED` for those that no round said anything of."""
        return np.asarray(self._lookup_or(keys, BIAS, biases.UNLISTED), dtype=np.int64)

    def _lookup_or(self, keys: Sequence[pa.Array], name: str, default: int) -> npt.NDArray[np.generic]:
        values: npt.NDArray[np.generic] = np.append(self.table.column(name).to_numpy(), default)
        return values[self._lookup.find(keys)]  # `ABSENT` is the last place


def _earlier_rounds(table: pa.Table) -> EarlierRounds:
    return EarlierRounds(table=table)
