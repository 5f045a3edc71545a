"""Places of keys in a table of distinct keys, which is prepared once for many batches."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.array_types import I64, U64
from dpbeam.engine.arrays import hashing

ABSENT = -1
_SEEDS = 8


@dataclass(kw_only=True)
class Lookup:
    """Where rows of keys are in a table of them: a search costs the table's logarithm, not its size.

    Guarantee: rows are found by the values themselves. A hash says where to look: a seed is taken by which no two keys
    of the table have one hash, so there is one place to compare with. Seeds are drawn, so that nobody can make up keys
    for which there is none.

    Raises:
        ValueError: keys that occur twice.
    """

    keys: tuple[pa.Array, ...]
    _hashes: U64 = field(init=False, repr=False)
    _places: I64 = field(init=False, repr=False)
    _seed: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        first = secrets.randbits(63)
        for seed in range(first, first + _SEEDS):
            hashes = _hashes(self.keys, seed)
            order = np.argsort(hashes)
            ranked = hashes[order]
            if not (ranked[1:] == ranked[:-1]).any():
                self._hashes, self._places, self._seed = ranked, order, seed
                return
        raise ValueError("what is looked up must have each key once")

    def find(self, rows: Sequence[pa.Array]) -> I64:
        """The place of each row, given as columns of one length, or `ABSENT`."""
        count = len(rows[0])
        if not len(self._hashes):
            return np.full(count, ABSENT, dtype=np.int64)
        hashes = _hashes(rows, self._seed)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        same = np.flatnonzero(self._hashes[at] == hashes)
        places = self._places[at[same]]
        for row, key in zip(rows, self.keys, strict=True):
            wanted = row.take(pa.array(same))
            plain = wanted.cast(wanted.type.value_type) if pa.types.is_dictionary(wanted.type) else wanted
            equal = pc.equal(plain, key.take(pa.array(places)).cast(plain.type)).to_numpy(zero_copy_only=False)
            same, places = same[equal], places[equal]
        positions = np.full(count, ABSENT, dtype=np.int64)
        positions[same] = places
        return positions


def _hashes(columns: Sequence[pa.Array], seed: int) -> U64:
    return hashing.mix_columns([hashing.hash_column(column, seed) for column in columns], len(columns[0]), seed)
