"""Parsing the text of an expression: a tree without types, in which each node knows where it stands.

Lark reads the grammar below as LALR(1), so a text has one tree or is refused at a place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from dpbeam.queries.column_types import Scalar

MAX_CHARS = 4_000
MAX_DEPTH = 50
_INT64_MAX = 2**63 - 1

GRAMMAR = r"""
start: or_
?or_: and_ | or_ "or" and_                          -> or_
?and_: not_ | and_ "and" not_                       -> and_
?not_: test | "not" not_                            -> not_
?test: sum
     | sum COMPARED sum                             -> compared
     | sum "in" "(" sum ("," sum)* ")"              -> inside
     | sum "not" "in" "(" sum ("," sum)* ")"        -> outside
?sum: product | sum (PLUS | MINUS) product          -> binary
?product: sign | product MULTIPLIED sign            -> binary
?sign: atom | MINUS sign                            -> negate
?atom: NUMBER                                       -> number
     | TEXT                                         -> text
     | "true"                                       -> true
     | "false"                                      -> false
     | NAME                                         -> column
     | QUOTED                                       -> quoted
     | NAME "(" or_ ("," or_)* ")"                  -> call
     | "case" when+ ["else" or_] "end"              -> case
     | "(" or_ ")"
when: "when" or_ "then" or_

COMPARED: "==" | "!=" | "<=" | ">=" | "<" | ">"
PLUS: "+"
MINUS: "-"
MULTIPLIED: "*" | "//" | "/" | "%"
NUMBER: /(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/
TEXT: /'([^']|'')*'/
NAME: /[A-Za-z_][A-Za-z0-9_]*/
QUOTED: /`[^`]+`/
%ignore /[ \t\r\n]+/
"""
"""`'it''s'` is text with a quote in it; a column whose name is no plain word stands in backticks."""

_SIGNS = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "//": "floor_divide", "%": "modulo",
    "==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Span:
    """Where something stands in the text: from `start` (counted from 0) up to `end`."""

    start: int
    end: int


class ExpressionError(Exception):
    """What is wrong with an expression, and where: `problem` follows "is wrong at character 7: "."""

    def __init__(self, problem: str, remedy: str, span: Span) -> None:
        self.problem, self.remedy, self.span = problem, remedy, span
        super().__init__(problem)


@dataclass(frozen=True, kw_only=True)
class Named:
    """A column by its name."""

    name: str
    span: Span
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Written:
    """A number, text, true or false."""

    value: Scalar
    span: Span
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A function or operator, by its name in `dpbeam.queries.functions`; `called` if it was written as a call, and then
    there may be no such name."""

    function: str
    arguments: tuple[Node, ...]
    span: Span
    depth: int
    called: bool = False


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A `case`: branches of a condition and a value, and what else."""

    branches: tuple[tuple[Node, Node], ...]
    otherwise: Node | None
    span: Span
    depth: int


Node = Named | Written | Applied | Chosen


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        ExpressionError: it is no expression, nests deeper than 50 levels, or holds a number that no type has.
    """
    import lark

    parser, builder = _reader()
    try:
        tree: Node = builder().transform(parser.parse(text))
        return tree
    except lark.UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        remedy = _CHARACTER_REMEDIES.get(text[at], _SYNTAX)
        problem = f"{text[at]!r} begins nothing that may stand there"
        raise ExpressionError(problem, remedy, Span(start=at, end=at + 1)) from None
    except lark.UnexpectedToken as error:
        token = error.token
        if token.type == "$END":
            span = Span(start=len(text.rstrip()), end=len(text.rstrip()))
            raise ExpressionError("it ends where more is needed", _SYNTAX, span) from None
        span = Span(start=token.start_pos or 0, end=token.end_pos or 0)
        raise ExpressionError(f"{str(token)!r} may not stand there", _SYNTAX, span) from None
    except lark.exceptions.VisitError as error:
        if isinstance(error.orig_exc, ExpressionError):
            raise error.orig_exc from None
        raise


def names_in(node: Node) -> Iterator[str]:
    """The names of the columns that it uses, in order, each as often as it stands there."""
    match node:
        case Named():
            yield node.name
        case Applied():
            for each in node.arguments:
                yield from names_in(each)
        case Chosen():
            for condition, value in node.branches:
                yield from (*names_in(condition), *names_in(value))
            yield from () if node.otherwise is None else names_in(node.otherwise)


_SYNTAX = "Write it as in cost / guests, upper(trim(city)) or case when age < 18 then 'minor' else 'adult' end."
_CHARACTER_REMEDIES = {
    '"': "Put text into single quotes: 'north'; a column's name into backticks: `price[/kg]`.",
    "'": "Close the text with a single quote; one within it is written twice: 'it''s'.",
    "`": "Close the column's name with a backtick.",
    "=": "Compare with ==.",
    "!": "Write != or not.",
    "&": "Write and.",
    "|": "Write or; put texts together with concat(s, t).",
}


@cache
def _reader() -> tuple[Any, Any]:
    """What reads the text, and the class of what makes nodes of it."""
    import lark

    @lark.v_args(meta=True)
    class Builder(lark.visitors.Transformer_NonRecursive[Any, Any]):
        """Makes the nodes, the innermost first."""

        def start(self, meta: Any, children: list[Any]) -> Node:
            found: Node = children[0]
            return found

        def or_(self, meta: Any, children: list[Any]) -> Node:
            return _applied("or", children, meta)

        def and_(self, meta: Any, children: list[Any]) -> Node:
            return _applied("and", children, meta)

        def not_(self, meta: Any, children: list[Any]) -> Node:
            return _applied("not", children, meta)

        def negate(self, meta: Any, children: list[Any]) -> Node:
            return _applied("negate", children[1:], meta)

        def compared(self, meta: Any, children: list[Any]) -> Node:
            return _applied(_SIGNS[str(children[1])], [children[0], children[2]], meta)

        def binary(self, meta: Any, children: list[Any]) -> Node:
            return _applied(_SIGNS[str(children[1])], [children[0], children[2]], meta)

        def inside(self, meta: Any, children: list[Any]) -> Node:
            return _applied("in", children, meta)

        def outside(self, meta: Any, children: list[Any]) -> Node:
            return _applied("not", [_applied("in", children, meta)], meta)

        def call(self, meta: Any, children: list[Any]) -> Node:
            return _applied(str(children[0]), children[1:], meta, called=True)

        def when(self, meta: Any, children: list[Any]) -> tuple[Node, Node]:
            return children[0], children[1]

        def case(self, meta: Any, children: list[Any]) -> Node:
            *branches, otherwise = children
            nodes = [node for branch in branches for node in branch] + ([] if otherwise is None else [otherwise])
            span, depth = _span(meta), _depth(nodes, _span(meta))
            return Chosen(branches=tuple(branches), otherwise=otherwise, span=span, depth=depth)

        def column(self, meta: Any, children: list[Any]) -> Node:
            return Named(name=str(children[0]), span=_span(meta))

        def quoted(self, meta: Any, children: list[Any]) -> Node:
            return Named(name=str(children[0])[1:-1], span=_span(meta))

        def text(self, meta: Any, children: list[Any]) -> Node:
            return Written(value=str(children[0])[1:-1].replace("''", "'"), span=_span(meta))

        def number(self, meta: Any, children: list[Any]) -> Node:
            return Written(value=_number(str(children[0]), _span(meta)), span=_span(meta))

        def true(self, meta: Any, children: list[Any]) -> Node:
            return Written(value=True, span=_span(meta))

        def false(self, meta: Any, children: list[Any]) -> Node:
            return Written(value=False, span=_span(meta))

    # With the basic lexer a word is a keyword only if all of it is: `order` isn't `or` and `der`.
    parser = lark.Lark(GRAMMAR, parser="lalr", lexer="basic", propagate_positions=True, maybe_placeholders=True)
    return parser, Builder


def _span(meta: Any) -> Span:
    return Span(start=meta.start_pos, end=meta.end_pos)


def _applied(function: str, arguments: list[Node], meta: Any, *, called: bool = False) -> Node:
    span = _span(meta)
    depth = _depth(arguments, span)
    return Applied(function=function, arguments=tuple(arguments), span=span, depth=depth, called=called)


def _depth(nodes: list[Node], span: Span) -> int:
    depth = 1 + max(node.depth for node in nodes)
    if depth > MAX_DEPTH:
        remedy = "Make several derived columns of it: one may use another."
        raise ExpressionError(f"it nests deeper than {MAX_DEPTH} levels", remedy, span)
    return depth


def _number(text: str, span: Span) -> int | float:
    found = int(text) if text.isdigit() and len(text) < 20 else float(text)
    if isinstance(found, int) and found <= _INT64_MAX:
        return found
    if isinstance(found, float) and not text.isdigit() and found != float("inf"):
        return found
    raise ExpressionError("a number lies beyond int64 or float64", "Write a smaller one.", span)
