"""Comparisons and choices between values of one type: equal, less, least, one of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc


def _in(values: pa.Array, *options: pa.Array) -> pa.Array:
    found = pc.equal(values, options[0])
    for each in options[1:]:
        found = pc.or_(found, pc.equal(values, each))
    return found


def _nullif(values: pa.Array, unwanted: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(values, unwanted), pa.scalar(None, values.type), values)


def _extreme(before: Callable[[pa.Array, pa.Array], pa.Array]) -> Callable[..., pa.Array]:
    """The value that comes before all others; of equal ones (0.0 and -0.0) the first."""

    def kernel(first: pa.Array, *others: pa.Array) -> pa.Array:
        found = first
        for each in others:
            found = pc.if_else(before(each, found), each, found)
        return found

    return kernel


KERNELS: Mapping[str, Callable[..., pa.Array]] = {
    "equal": pc.equal,
    "not_equal": pc.not_equal,
    "less": pc.less,
    "less_equal": pc.less_equal,
    "greater": pc.greater,
    "greater_equal": pc.greater_equal,
    "not": pc.invert,
    "in": _in,
    "nullif": _nullif,
    "least": _extreme(pc.less),
    "greatest": _extreme(pc.greater),
}
