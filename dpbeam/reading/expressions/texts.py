"""Functions of text, code point by code point, by Unicode's own tables: no locale, no normalisation.

Guarantee: a text that is made of others has at most 1 MiB; beyond that a row is invalid, whatever other rows hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

MAX_BYTES = 2**20
"""The most that `concat` makes of one row."""


def _concat(*parts: pa.Array) -> pa.Array:
    size = pc.binary_length(parts[0]).cast(pa.int64())
    for each in parts[1:]:
        size = pc.add(size, pc.binary_length(each).cast(pa.int64()))
    kept = pc.less_equal(size, MAX_BYTES).fill_null(False)
    if not pc.all(kept).as_py():
        parts = tuple(pc.if_else(kept, each, pa.scalar(None, pa.string())) for each in parts)
    return pc.binary_join_element_wise(*parts, pa.scalar(""))


def _left(texts: pa.Array, count: int) -> pa.Array:
    return pc.utf8_slice_codeunits(texts, 0, count)


def _right(texts: pa.Array, count: int) -> pa.Array:
    return pc.utf8_slice_codeunits(texts, -count, None) if count else _left(texts, 0)


KERNELS: Mapping[str, Callable[..., pa.Array]] = {
    "trim": pc.utf8_trim_whitespace,
    "upper": pc.utf8_upper,
    "lower": pc.utf8_lower,
    "concat": _concat,
    "length": lambda texts: pc.utf8_length(texts).cast(pa.int64()),
}

FORMATTED: Mapping[str, Callable[..., pa.Array]] = {
    "left": _left,
    "right": _right,
    "starts_with": pc.starts_with,
    "ends_with": pc.ends_with,
    "contains": pc.match_substring,
}
