"""How a column's text says its values, told from a sample of it: the type to declare, or the expression that reads it.

For `dpbeam init --sample` alone, inside the trust zone. What is told depends on the sampled values, and is written into
a policy, which travels.

Guarantee: no value gets out. What is told of a column is one of the writings of this module, each with the markers of a
missing value that stand in `MARKERS`: a choice from a list that is the same for all data. It is a function of the data
all the same, without noise, so docs/guarantee.md leaves it to who signs the policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.policy.expressions.syntax import parse
from dpbeam.policy.expressions.typed import typed
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.expressions import Expression
from dpbeam.reading.casting import to_type, trimmed
from dpbeam.reading.expressions.evaluate import evaluate

MARKERS = ("NA", "N/A", "n/a", "NULL", "null", "None", "none", "-", "--", "?", ".", r"\N")
"""What people write for a missing value, beside nothing at all."""
_FEW_KINDS, _OFTEN = 50, 10
"""A category has at most so many distinct values, each so often on average."""
_FIRST_ROWS = 200
"""A writing that doesn't fit these is tried on no more."""
_TEXT = "x"
_WORDS = (("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"))
_CODES = r"\A([+-]?0[0-9]|\+|[0-9]{19,}\z)"
"""What starts with a 0 and a digit, or with a plus, or is longer than an int64: postcodes, telephone numbers, ids. As
numbers they would lose it."""
_WHOLE = r"\A[+-]?[0-9]+\.0+\z"


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What a column's text is: of `type`, once read by `expression`, in which `x` is the text (None: as is declared).

    `says` is for the reader of a policy, and holds no value. `is_category`: it has few values, each often.
    `alternatives` are the expressions of which the sample doesn't tell which is meant: the column is text then.
    """

    type: ColumnType = "string"
    expression: str | None = None
    says: str = "text"
    is_category: bool = False
    alternatives: tuple[str, ...] = ()
    is_utf8: bool = True


@dataclass(frozen=True, kw_only=True)
class _Form:
    """An expression of the text `x`, its type, and what it reads."""

    expression: str
    type: ColumnType
    says: str


def writing_of(raw: pa.Array) -> Writing:
    """How the text of a sample is written; text in any of Arrow's layouts.

    All of the sample's values, or those that aren't markers, must be read by a writing for it to be told.
    """
    held = trimmed(raw).drop_null()
    if not pa.types.is_string(held.type):
        try:
            held = held.cast(pa.string())
        except pa.ArrowInvalid:
            return Writing(says="text, some of it not UTF-8", is_utf8=False)
    is_marker = pc.is_in(held, value_set=pa.array(MARKERS))
    markers = tuple(word for word in MARKERS if word in set(held.filter(is_marker).unique().to_pylist()))
    values = held.filter(pc.invert(is_marker))
    if not len(values):
        return Writing(says="text: no value in the sample" if not len(held) else "text")
    few = _is_category(values)
    found = _declared(values) if not markers else None
    if found is not None:
        return Writing(type=found.type, says=found.says, is_category=few and found.type in ("string", "bool", "int64"))
    form = next((form for group in _groups() if (form := _chosen(values, group)) is not None), None)
    match form:
        case None:
            return Writing(is_category=few)
        case tuple():
            return Writing(is_category=few, alternatives=tuple(_with(each.expression, markers) for each in form))
        case _Form():
            says = form.says + (f"; {', '.join(markers)} for what is missing" if markers else "")
            return Writing(type=form.type, expression=_with(form.expression, markers), says=says, is_category=few)


def _declared(values: pa.Array) -> _Form | None:
    """The type that reads all values as they are declared."""
    if pc.all(pc.is_in(pc.ascii_lower(values), value_set=pa.array(["true", "false"]))).as_py():
        return _Form(expression=_TEXT, type="bool", says="true and false")
    if _any(values, _CODES):
        return None
    says: tuple[tuple[ColumnType, str], ...] = (
        ("int64", "whole numbers"),
        ("float64", "numbers"),
        ("date", "dates as in ISO 8601"),
        ("timestamp", "times as in ISO 8601"),
    )
    for kind, what in says:
        if kind == "float64" and not _any(values, "[0-9]"):
            continue  # of `nan` and `inf` alone
        whole = kind == "float64" and pc.all(pc.match_substring_regex(values, _WHOLE)).as_py()
        if not whole and _reads(values, kind):
            return _Form(expression=_TEXT, type=kind, says=what)
    return None


def _reads(values: pa.Array, kind: ColumnType) -> bool:
    return all(to_type(some, kind).null_count == 0 for some in (values.slice(0, _FIRST_ROWS), values))


def _any(values: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(values, pattern)).as_py())


def _is_category(values: pa.Array) -> bool:
    kinds = len(values.unique())
    return kinds <= _FEW_KINDS and kinds * _OFTEN <= len(values)


def _groups() -> Iterator[tuple[_Form, ...]]:
    """Forms in the order in which they are tried. Where two of a group fit, the sample tells too little."""
    for yes, no in _WORDS:
        case = f"case when lower(x) == '{yes}' then true when lower(x) == '{no}' then false else bool(x) end"
        yield (_Form(expression=case, type="bool", says=f"{yes} and {no}"),)
    yield (_Form(expression="int64(x)", type="int64", says="whole numbers"),)
    yield (_Form(expression="int64(float64(x))", type="int64", says="whole numbers with .0 behind them"),)
    yield (_Form(expression="float64(x)", type="float64", says="numbers"),)
    yield (_Form(expression="bool(x)", type="bool", says="true and false"),)
    yield (
        _Form(expression="parse_int64(x, ',')", type="int64", says="whole numbers with commas between thousands"),
        _Form(expression="parse_float64(x, ',')", type="float64", says="numbers with a decimal comma"),
    )
    yield (_Form(expression="parse_int64(x, ' ')", type="int64", says="whole numbers with blanks between thousands"),)
    yield (
        _Form(expression="parse_float64(x, '.', ',')", type="float64", says="numbers with commas between thousands"),
        _Form(expression="parse_float64(x, ',', '.')", type="float64", says="numbers with a decimal comma, points too"),
    )
    for kind in ("date", "timestamp"):
        yield (_Form(expression=f"{kind}(x)", type=kind, says=f"{kind}s as in ISO 8601"),)
    for mark in ("/", ".", "-"):
        orders = [mark.join(order) for order in (("%-d", "%-m", "%Y"), ("%-m", "%-d", "%Y"))]
        yield tuple(_moment("date", order) for order in orders)
        yield (_moment("date", mark.join(("%Y", "%-m", "%-d"))),)
        for clock in (" %-H:%M", " %-H:%M:%S", " %-I:%M %p", " %-I:%M:%S %p"):
            yield tuple(_moment("timestamp", order + clock) for order in orders)
            yield (_moment("timestamp", mark.join(("%Y", "%-m", "%-d")) + clock),)
    for order in ("%-d %b %Y", "%-d-%b-%Y", "%b %-d, %Y"):
        yield (_moment("date", order),)


def _moment(kind: ColumnType, form: str) -> _Form:
    return _Form(expression=f"parse_{kind}(x, '{form}')", type=kind, says=f"{kind}s written {form}")


def _chosen(values: pa.Array, group: tuple[_Form, ...]) -> _Form | tuple[_Form, ...] | None:
    """The form of a group that fits; all that do where several are."""
    fit = tuple(form for form in group if _fits(values, form))
    return fit[0] if len(fit) == 1 else fit or None


def _fits(values: pa.Array, form: _Form) -> bool:
    if form.type in ("int64", "float64") and (_any(values, _CODES) or not _any(values, "[0-9]")):
        return False
    return all(_read(some, form) for some in (values.slice(0, _FIRST_ROWS), values))


def _read(values: pa.Array, form: _Form) -> bool:
    found = evaluate(_expression(form.expression), {_TEXT: values}, len(values))
    return found.values.null_count == 0 and not found.invalid.any()


@cache
def _expression(text: str) -> Expression:
    return typed(parse(text), {_TEXT: "string"})


def _with(expression: str, markers: tuple[str, ...]) -> str:
    """The expression, of the text without what stands for a missing value."""
    text = _TEXT
    for word in markers:
        text = f"nullif({text}, '{word}')"
    return expression.replace("(x", f"({text}") if markers else expression
