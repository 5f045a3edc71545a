"""The types that columns have, and the values that a policy or query may state of them."""

from __future__ import annotations

from typing import Literal

ColumnType = Literal["string", "int64", "float64", "bool", "date", "timestamp"]
DeclaredType = Literal["string", "int64", "float64", "bool", "date", "timestamp", "vector"]
"""What a column may be declared as: one value a row, or a list of numbers, all of one length."""
Scalar = str | int | float | bool
