"""Typing a parsed expression by the types of columns: each node gets a type, or the first that can't is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dpbeam.policy.expressions.syntax import Applied, Chosen, ExpressionError, Named, Node, Written
from dpbeam.policy.violations import closest
from dpbeam.queries.column_types import DeclaredType
from dpbeam.queries.expressions import Call, Case, ColumnValue, Constant, Expression, columns_of
from dpbeam.queries.functions import FUNCTIONS, Function, called_by_name
from dpbeam.reading.expressions.evaluate import evaluate
from dpbeam.reading.expressions.parsing import mark_findings, pattern_of

Types = Mapping[str, DeclaredType | None]
"""The type of each column that an expression may use; None where a column's own entry is wrong, which is said there."""


class Unsettled(Exception):
    """An expression uses a column whose type isn't known, for its own entry is wrong."""


def typed(node: Node, types: Types) -> Expression:
    """The expression with a type for each of its operations.

    Raises:
        ExpressionError: a column or function that isn't there, types that don't fit, a format that can't be read, or
            constants that make nothing.
        Unsettled: see there.
    """
    match node:
        case Named():
            return _column(node, types)
        case Written():
            return _constant(node)
        case Applied():
            arguments = [typed(each, types) for each in node.arguments]
            names = list(called_by_name())
            if node.called and node.function not in names:
                remedy = f"Functions: {', '.join(names)}.{closest(node.function, names)}"
                raise ExpressionError(f"{node.function} is no function", remedy, node.span)
            return _call(node, FUNCTIONS[node.function], arguments)
        case Chosen():
            return _case(node, types)
    raise ValueError(f"unknown node {node!r}")


def _column(node: Named, types: Types) -> Expression:
    if node.name not in types:
        known = list(types)
        remedy = f"Columns: {', '.join(known[:20])}.{closest(node.name, known)}"
        if node.name == "null":
            remedy = "Nothing is written null: a case without else is missing, and so is what nullif leaves out."
        raise ExpressionError(f"{node.name!r} is no column", remedy, node.span)
    kind = types[node.name]
    if kind is None:
        raise Unsettled(node.name)
    if kind == "vector":
        raise ExpressionError(
            f"{node.name} is a vector", "Use another column: a vector serves vector_sum alone.", node.span
        )
    return ColumnValue(name=node.name, type=kind)


def _constant(node: Written) -> Constant:
    match node.value:
        case bool():
            return Constant(value=node.value, type="bool")
        case int():
            return Constant(value=node.value, type="int64")
        case float():
            return Constant(value=node.value, type="float64")
        case str():
            return Constant(value=node.value, type="string")
    raise ValueError(f"unknown constant {node.value!r}")


def _call(node: Applied, function: Function, arguments: list[Expression]) -> Expression:
    if function.widens:
        arguments = _widened(arguments)
    if function.name == "divide":
        arguments = [_as_float(each) for each in arguments]
    if function.signature(tuple(each.type for each in arguments)) is None:
        given = ", ".join(each.type for each in arguments)
        raise ExpressionError(f"{function.written} can't be had of {given}", _accepted(function), node.span)
    if function.stated:
        _check_stated(node, function, arguments[1:])
    call = Call(function=function.name, arguments=tuple(arguments))
    if not any(True for _ in columns_of(call)) and evaluate(call, {}, 1).values.null_count:
        remedy = "Correct it, or use a column in it."
        raise ExpressionError("it has no value, in whichever row", remedy, node.span)
    return call


def _accepted(function: Function) -> str:
    found = []
    for each in function.signatures:
        found.append(f"({', '.join(each.takes)}{', …' if each.repeats else ''})")
    kinds = "Types that it takes: " + ", ".join(found) + "."
    return kinds + " Convert with string, int64, float64, bool, date or timestamp."


def _widened(arguments: Sequence[Expression]) -> list[Expression]:
    """With a float64 among whole numbers, these as float64s too."""
    if {each.type for each in arguments} != {"int64", "float64"}:
        return list(arguments)
    return [_as_float(each) for each in arguments]


def _as_float(expression: Expression) -> Expression:
    if isinstance(expression, Constant) and expression.type == "int64":
        return Constant(value=float(expression.value), type="float64")
    return Call(function="float64", arguments=(expression,)) if expression.type == "int64" else expression


def _check_stated(node: Applied, function: Function, stated: Sequence[Expression]) -> None:
    values = []
    for each, written in zip(stated, node.arguments[1:], strict=True):
        if not isinstance(each, Constant):
            remedy = f"Write it out, as in {function.written}."
            raise ExpressionError(f"{function.name} needs it written out, the same in every row", remedy, written.span)
        values.append(each.value)
    last = node.arguments[-1].span
    match function.name:
        case "parse_date" | "parse_timestamp":
            try:
                pattern_of(str(values[0]), "date" if function.name == "parse_date" else "timestamp")
            except ValueError as error:
                raise ExpressionError(f"the format {error}", f"Write it as in {function.written}.", last) from None
        case "parse_int64" | "parse_float64":
            marks = [str(value) for value in values]
            wrong = mark_findings(*(marks if len(marks) == 2 else [marks[0], None]))
            if wrong is not None:
                raise ExpressionError(f"a mark {wrong}", f"Write it as in {function.written}.", last)


def _case(node: Chosen, types: Types) -> Expression:
    conditions: list[Expression] = []
    results: list[Expression] = []
    written: list[Node] = []
    for when, then in node.branches:
        conditions.append(typed(when, types))
        if conditions[-1].type != "bool":
            remedy = "Write a condition, such as age < 18."
            raise ExpressionError(f"when needs a bool, and this is {conditions[-1].type}", remedy, when.span)
        results.append(typed(then, types))
        written.append(then)
    if node.otherwise is not None:
        results.append(typed(node.otherwise, types))
        written.append(node.otherwise)
    results = _widened(results)
    for result, each in zip(results, written, strict=True):
        if result.type != results[0].type:
            problem = f"a case has one type, and this is {result.type} after {results[0].type}"
            remedy = "Convert with string, int64, float64, bool, date or timestamp."
            raise ExpressionError(problem, remedy, each.span)
    last = None if node.otherwise is None else results.pop()
    return Case(branches=tuple(zip(conditions, results, strict=True)), otherwise=last)
