"""A data frame's columns of ids and keys, as values that our engine takes, and back as columns of their types.

Dates and times of pandas become whole numbers on the way, counted in their column's own unit and zone; so they come
back as what they were, and no two fall together. Without pandas' name in an import: who has a frame has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any

from dpbeam.errors import UsageError

Dtype = Any


def pandas() -> Any:
    """The module, where a frame is at hand (of Beam's too, and where one was unpickled)."""
    return sys.modules["pandas"]


def plain(dtype: Dtype) -> Dtype:
    """The type of a column's values: of categories, theirs. (A categorical column lists all values of all rows.)"""
    return dtype.categories.dtype if hasattr(dtype, "categories") else dtype


def values(column: Any, dtype: Dtype) -> list[Any]:
    """The column's values, none of which is missing, as Python's own of the plain type `dtype`.

    Guarantee: row-local, but that any value that isn't of the type makes it fail. Two values are equal after it if and
    only if they were before.

    Raises:
        ValueError: a value isn't one of the type.
    """
    typed = column.astype(dtype)
    # pandas cuts 1.5 to 1 where a column is declared whole
    if typed.dtype != column.dtype and typed.tolist() != column.tolist():
        raise ValueError("a value isn't of its column's type")
    plain: list[Any] = (typed.astype("int64") if _counted(dtype) else typed).tolist()
    return plain


def column(plain: Sequence[Any], dtype: Dtype) -> Any:
    """The column of the plain type `dtype` whose `values` were found."""
    made = pandas().Series(list(plain), dtype="int64" if _counted(dtype) else dtype)
    return made.astype(dtype) if _counted(dtype) else made


def public_keys(given: Collection[Any] | None, dtypes: Sequence[Dtype], *, one: bool) -> list[Any] | None:
    """The public keys as `values` has them, those of several columns as tuples.

    Raises:
        UsageError: they aren't a list of keys, or not of the columns' types.
    """
    if given is None:
        return None
    if isinstance(given, str):
        raise UsageError("public_keys must be a list of keys, got str")
    rows = [(key,) if one else key for key in given]
    if any(not isinstance(row, tuple) or len(row) != len(dtypes) for row in rows):
        raise UsageError(f"public_keys must be tuples of {len(dtypes)} values, one for each column that is grouped by")
    columns = []
    for place, dtype in enumerate(dtypes):
        whole = pandas().Series([row[place] for row in rows], dtype=object)  # as they are: 1 beside 1.0 stays 1
        try:
            columns.append(values(whole, dtype))
        except (TypeError, ValueError):
            failed = f"public_keys must be of their columns' types, and one is not of {dtype}"
        else:
            continue
        raise UsageError(failed)
    keys = list(zip(*columns, strict=True))
    return [key for (key,) in keys] if one else keys


def _counted(dtype: Dtype) -> bool:
    return getattr(dtype, "kind", "") in ("M", "m")
