"""The most frequent values: units by value, of a public list, or of all values that pass a threshold."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64, I64
from dpbeam.engine.aggregation import distinct, frequent
from dpbeam.engine.aggregation.kernels import Kernel, kernel_for
from dpbeam.engine.bounding.contributions import Bounded
from dpbeam.engine.metrics.base import Drawn, result_columns
from dpbeam.engine.release import rank_intervals
from dpbeam.queries.metrics.top_k import TopK
from dpbeam.queries.quantities import Candidates, UnitsByValue, Values


@kernel_for(Values)
class ValuesKernel(Kernel[Values]):
    """Lists of values with their units; a threshold draws the noise."""

    def arrow_type(self, quantity: Values) -> pa.DataType:
        return frequent.COUNTS_TYPE

    def zeros(self, quantity: Values, partitions: int) -> pa.Array:
        return frequent.empty(partitions)

    def of_kept(self, quantity: Values, kept: Bounded) -> pa.Array:
        row_pairs, values = _by_value(quantity, kept)
        partition, code = _cells(quantity, kept, row_pairs, values.codes, values.texts)
        return frequent.count_values(partition, code, values.texts, kept.partitions)

    def merge(self, quantity: Values, column: pa.Array, codes: I64, order: I64, starts: I64) -> pa.Array:
        return frequent.merge(column, codes, len(starts))

    def noisy_type(self, quantity: Values) -> pa.DataType:
        return frequent.NOISY_TYPE


@kernel_for(Candidates)
class CandidatesKernel(Kernel[Candidates]):
    """A vector with the units of each candidate."""

    is_vector = True

    def of_kept(self, quantity: Candidates, kept: Bounded) -> pa.Array:
        row_pairs, values = _by_value(quantity, kept)
        codes = frequent.among(values, quantity.candidates)
        listed = codes >= 0  # what is no candidate takes no place among a unit's values
        texts = pa.array(quantity.candidates, pa.large_string())
        partition, code = _cells(quantity, kept, row_pairs[listed], codes[listed], texts)
        return self.column(quantity, frequent.count_candidates(partition, code, kept.partitions, quantity.size))


def _by_value(quantity: UnitsByValue, kept: Bounded) -> tuple[I64, frequent.Words]:
    """Of each row its (unit, partition) pair, and the values."""
    values = kept.words.get(quantity.columns[0])
    if values is None or kept.row_pairs is None:
        raise ValueError(f"{quantity.name}: counts by value need to know each row's pair")
    return kept.row_pairs, values


def _cells(quantity: UnitsByValue, kept: Bounded, row_pairs: I64, codes: I64, texts: pa.Array) -> tuple[I64, I64]:
    """The (partition, value) of each (unit, partition, value) that counts.

    Guarantee: one unit counts at most once in each of at most `quantity.max_values` values of a partition; which these
    are depends on its own rows there and on secret randomness alone.
    """
    pair, code = frequent.bounded_cells(row_pairs, codes, kept.ranks, texts, quantity.max_values)
    return kept.pairs[pair], code


@result_columns.register
def _(metric: TopK, drawn: Drawn) -> Iterable[pa.Array]:
    """The columns of each of the k values: itself, its noisy count with its interval, and, where it had to pass a
    threshold, its bias. Null where there are fewer values.

    A count's interval is that of the value's own count, given that it passed the threshold, and holds although noise
    may have brought the value to its place.
    """
    quantity = drawn.quantity(metric, UnitsByValue)
    column, spec = drawn.column(quantity), drawn.spec
    columns: list[pa.Array] = []
    numbers: tuple[F64, ...]
    for place in range(metric.k):
        if isinstance(quantity, Candidates):
            counts = column.flatten().to_numpy().reshape(-1, quantity.size)
            value, count = frequent.largest_candidate(counts, quantity.candidates, place)
            missing = np.zeros(len(count), dtype=np.bool_)
            numbers = (count, *rank_intervals.of_candidates(counts, count, spec.noise[quantity.name]))
        else:
            value, count = frequent.largest(column, place)
            missing = np.isnan(count)
            counts, sizes = column.flatten().flatten()[1].to_numpy(), distinct.lengths(column)
            numbers = (count, *rank_intervals.of_shown(counts, sizes, count, spec.thresholds[quantity.name]))
        columns.extend((value, *(pa.array(number, mask=missing) for number in numbers)))
    return columns
