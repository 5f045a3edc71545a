"""Expressions of derived columns, as values: parsed, with a type each, free of text and of how they are computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dpbeam.queries.column_types import ColumnType, Scalar
from dpbeam.queries.functions import FUNCTIONS


@dataclass(frozen=True, kw_only=True)
class ColumnValue:
    """The row's value of a column, read or derived."""

    name: str
    type: ColumnType


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same value in every row: text, a number, true or false.

    Raises:
        ValueError: a value that isn't of the type. Dates are made from text, by calls.
    """

    value: Scalar
    type: ColumnType

    def __post_init__(self) -> None:
        kinds: dict[str, type] = {"string": str, "int64": int, "float64": float, "bool": bool}
        if type(self.value) is not kinds.get(self.type):
            raise ValueError(f"a constant of type {self.type} can't be {self.value!r}")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function or operator of `dpbeam.queries.functions`, with what it is applied to.

    Raises:
        ValueError: there is no such function, or it doesn't take arguments of these types.
    """

    function: str
    arguments: tuple[Expression, ...]

    def __post_init__(self) -> None:
        function = FUNCTIONS.get(self.function)
        if function is None or function.signature(tuple(each.type for each in self.arguments)) is None:
            raise ValueError(f"{self.function} doesn't take {', '.join(each.type for each in self.arguments)}")

    @property
    def type(self) -> ColumnType:
        """What the function gives for arguments of these types."""
        found = FUNCTIONS[self.function].signature(tuple(each.type for each in self.arguments))
        if found is None:
            raise ValueError(f"{self.function} doesn't take these arguments")
        return found.gives


@dataclass(frozen=True, kw_only=True)
class Case:
    """The value of the first branch whose condition is true; else `otherwise`, or a missing value.

    Raises:
        ValueError: no branch, a condition that isn't a bool, or values of different types.
    """

    branches: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression | None = None

    def __post_init__(self) -> None:
        values = [value for _, value in self.branches] + ([] if self.otherwise is None else [self.otherwise])
        if not self.branches or {condition.type for condition, _ in self.branches} != {"bool"}:
            raise ValueError("a case needs branches, each with a condition that is true or false")
        if len({value.type for value in values}) != 1:
            raise ValueError("the values of a case must have one type")

    @property
    def type(self) -> ColumnType:
        """The type of every value."""
        return self.branches[0][1].type


Expression = ColumnValue | Constant | Call | Case


def columns_of(expression: Expression) -> Iterator[str]:
    """The names of the columns that it uses, each as often as it stands there."""
    match expression:
        case ColumnValue():
            yield expression.name
        case Call():
            for each in expression.arguments:
                yield from columns_of(each)
        case Case():
            for condition, value in expression.branches:
                yield from (*columns_of(condition), *columns_of(value))
            yield from () if expression.otherwise is None else columns_of(expression.otherwise)


def canonical_form(expression: Expression) -> list[Any]:
    """The expression as nested lists of JSON: equal exactly where parsed and typed expressions are.

    White space, parentheses that change nothing and the way a number is written aren't in it; the implied
    conversions of whole numbers are.
    """
    match expression:
        case ColumnValue():
            return ["column", expression.name, expression.type]
        case Constant():
            return ["constant", expression.value, expression.type]
        case Call():
            return ["call", expression.function, *map(canonical_form, expression.arguments)]
        case Case():
            branches = [[canonical_form(when), canonical_form(then)] for when, then in expression.branches]
            last = [] if expression.otherwise is None else [canonical_form(expression.otherwise)]
            return ["case", branches, *last]
    raise ValueError(f"unknown expression {expression!r}")
