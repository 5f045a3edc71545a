"""64-bit keyed hashes of rows, which route them to shards and rank them.

A hash depends on the value and the seed alone: not on the batch, its slicing, its encoding (plain, large or
dictionary strings), the worker, the architecture or any library's version. Rows are never *grouped* by a hash,
only by their values, so a collision costs balance, never a guarantee.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpbeam.array_types import I64, U16, U64

ROUTE_SEED = 0x5DEECE66D1CE4E5B
"""The fixed, public seed that sends partitions to shards: the plan, not the run, fixes which file holds a key."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LOOPED_WORDS = 8
_MASKS = np.array([(1 << (8 * size)) - 1 for size in range(9)], dtype=np.uint64)


def derive(salt: bytes, purpose: str, *numbers: int) -> int:
    """A 128-bit integer for one purpose, by BLAKE2b keyed with the run's secret `salt` (at most 64 bytes)."""
    message = "\0".join([purpose, *map(str, numbers)]).encode()
    return int.from_bytes(blake2b(message, key=salt, digest_size=16, person=b"dpbeam").digest(), "little")


def seed_for(salt: bytes, purpose: str) -> int:
    """A 64-bit hash seed for one purpose; different purposes give unrelated hashes of the same value."""
    return derive(salt, purpose) & 0xFFFFFFFFFFFFFFFF


def generator(salt: bytes, purpose: str, seeds: Sequence[int]) -> np.random.Generator:
    """The random generator of one piece of work: a bundle that is executed again draws the same numbers."""
    return np.random.Generator(np.random.PCG64(derive(salt, purpose, *seeds)))


def mix64(values: U64, key: int = 0) -> U64:
    """SplitMix64's finaliser of `values + key` (Steele, Lea, Flood, OOPSLA'14): a bijection of uint64 for each key."""
    mixed: U64 = values + np.uint64(key & 0xFFFFFFFFFFFFFFFF)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hash_column(array: pa.Array, seed: int) -> U64:
    """One hash a value of a string, int64, bool, date32 or timestamp array without nulls.

    Raises:
        TypeError: a column of another type.
    """
    if isinstance(array, pa.ChunkedArray):
        of_chunks = [hash_column(chunk, seed) for chunk in array.chunks]
        return np.concatenate(of_chunks) if of_chunks else np.empty(0, dtype=np.uint64)
    kind = array.type
    if pa.types.is_dictionary(kind):
        hashes: U64 = hash_column(array.dictionary, seed)[array.indices.to_numpy(zero_copy_only=False)]
        return hashes
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return _hash_strings(array, seed)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_date32(kind):
        numbers = array.cast(pa.int32()) if pa.types.is_date32(kind) else array
    elif pa.types.is_timestamp(kind):
        numbers = array.cast(pa.int64())
    else:
        raise TypeError(
            f"a column of type {kind} can't be hashed; units and keys are string, int64, bool, date, timestamp"
        )
    integers = numbers.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return mix64(mix64(integers.view(np.uint64), seed), seed ^ 0xA5A5A5A5A5A5A5A5)


def route_here(array: pa.Array, salt: bytes, shards: int) -> U16:
    """The shard of each value, for shards that no other process sees.

    Values are hashed by Polars, ten times as fast as by `hash_column`, and differently in each of its versions.

    Guarantee: within a process, equal values have one shard, however the array is sliced and whatever is beside them.
    """
    import polars as pl  # lazily: a plan needs none of it

    return shard_of(pl.Series(array).hash(seed_for(salt, "route")).to_numpy(), shards)


def hash_rows(batch: pa.RecordBatch, columns: Sequence[str], seed: int) -> U64:
    """One hash a row of several columns; the order of the columns counts, and ("a", "bc") isn't ("ab", "c")."""
    return mix_columns([hash_column(batch.column(name), seed) for name in columns], batch.num_rows, seed)


def mix_columns(hashes: Sequence[U64], rows: int, seed: int) -> U64:
    """Mixes hashed columns into one hash a row, as `hash_rows` does."""
    mixed = np.full(rows, seed & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
    for column in hashes:
        mixed = mix64(mixed ^ column, seed)
    return mixed


def shard_of(hashes: U64, shards: int) -> U16:
    """Spreads hashes evenly over `shards` (at most 65,536) by their high bits."""
    spread = hashes >> np.uint64(32)
    spread *= np.uint64(shards)
    spread >>= np.uint64(32)
    return spread.astype(np.uint16)


def _hash_strings(array: pa.Array, seed: int) -> U64:
    """mix(mix(length) ^ Σ_j mix(word_j, key_j)) over the 8-byte little-endian words of UTF-8 strings, zero-padded."""
    rows = len(array)
    array = array.cast(pa.large_string())
    _, offset_buffer, data_buffer = array.buffers()
    if rows == 0:
        return np.empty(0, dtype=np.uint64)
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[array.offset : array.offset + rows + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    data = np.zeros(last - first + 8, dtype=np.uint8)
    if last > first:
        data[:-8] = np.frombuffer(data_buffer, dtype=np.uint8)[first:last]
    # Every byte position read as a (possibly unaligned) word: a word is then one gather.
    words = np.ndarray(shape=(len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
    starts = offsets[:-1] - first
    lengths = np.diff(offsets)
    total = np.zeros(rows, dtype=np.uint64)
    live: npt.NDArray[np.intp] | slice = slice(None)
    for j in range(_LOOPED_WORDS):
        if j:
            live = np.flatnonzero(lengths > 8 * j)
            if not len(live):
                break
        word = words[starts[live] + 8 * j] & _MASKS[np.clip(lengths[live] - 8 * j, 0, 8)]
        total[live] += mix64(word ^ _word_keys(np.uint64(j), seed))
    long = np.flatnonzero(lengths > 8 * _LOOPED_WORDS)
    if len(long):
        total[long] += _tail(words, starts[long], lengths[long], seed)
    # Lengths under a key of their own: under the words' own, a length could cancel a word.
    return mix64(mix64(lengths.astype(np.uint64), seed ^ 0xA5A5A5A5A5A5A5A5) ^ total, seed)


def _tail(words: U64, starts: I64, lengths: I64, seed: int) -> U64:
    """The sum over the words after the first `_LOOPED_WORDS`, all strings at once, so one huge string costs no loop."""
    counts = -(-lengths // 8) - _LOOPED_WORDS
    ends = np.cumsum(counts)
    j = np.arange(int(ends[-1])) - np.repeat(ends - counts, counts) + _LOOPED_WORDS
    sizes = np.clip(np.repeat(lengths, counts) - 8 * j, 0, 8)
    word = words[np.repeat(starts, counts) + 8 * j] & _MASKS[sizes]
    sums: U64 = np.add.reduceat(mix64(word ^ _word_keys(j.astype(np.uint64), seed)), ends - counts)
    return sums


def _word_keys(positions: U64 | np.uint64, seed: int) -> U64:
    return mix64(np.atleast_1d(positions) * _GOLDEN, seed)
