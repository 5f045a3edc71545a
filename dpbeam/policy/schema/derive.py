"""What a policy says of its derived columns: each is made from others of the same row."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from dpbeam.policy.expressions.syntax import MAX_CHARS
from dpbeam.policy.schema.base import AnyScalar, Name, Strict, exactly_one
from dpbeam.policy.schema.rules import RuleWord
from dpbeam.queries.column_types import ColumnType


class DeriveBin(Strict):
    """The interval of `edges` that holds the column `bin`, as text."""

    bin: Name
    edges: Annotated[tuple[float, ...], Field(strict=False, min_length=1)]


class DeriveTruncate(Strict):
    """The column `truncate` (date or timestamp) cut to the start of its `to`, as text."""

    truncate: Name
    to: Literal["year", "month", "week", "day", "hour", "minute"]


class DeriveLower(Strict):
    """The column `lower` (string) in lower case."""

    lower: Name


class DeriveExpression(Strict):
    """What `expression` gives, of its own type; `docs/expressions.md` says what may stand there."""

    expression: Annotated[str, Field(min_length=1, max_length=MAX_CHARS)]
    on_null: RuleWord = "drop"
    on_invalid: RuleWord = "drop"


class DeriveLookup(Strict):
    """What a public table has beside the value of the column `lookup`: in its column `column` (of the derived column's
    name, unless stated), where its column `key` (of `lookup`'s name, likewise) is that value. Or what `values` say."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["table"]},
                {"required": ["values"], "not": {"anyOf": [{"required": ["key"]}, {"required": ["column"]}]}},
            ]
        }
    )

    lookup: Name
    table: Annotated[str, Field(min_length=1)] | None = None
    values: Annotated[dict[str, AnyScalar], Field(min_length=1)] | None = None
    key: Name | None = None
    column: Name | None = None
    type: ColumnType = "string"
    on_null: RuleWord = "drop"

    @model_validator(mode="after")
    def _one(self) -> DeriveLookup:
        return exactly_one(self, ("table", "values"))


DeriveEntry = DeriveBin | DeriveTruncate | DeriveLower | DeriveExpression | DeriveLookup


def _derive_tag(value: object) -> str | None:
    for kind, model in _KINDS.items():
        if isinstance(value, model) or (isinstance(value, dict) and kind in value):
            return kind
    return None


_KINDS = {
    "bin": DeriveBin,
    "truncate": DeriveTruncate,
    "lower": DeriveLower,
    "expression": DeriveExpression,
    "lookup": DeriveLookup,
}

Derive = Annotated[
    Annotated[DeriveBin, Tag("bin")]
    | Annotated[DeriveTruncate, Tag("truncate")]
    | Annotated[DeriveLower, Tag("lower")]
    | Annotated[DeriveExpression, Tag("expression")]
    | Annotated[DeriveLookup, Tag("lookup")],
    Discriminator(
        _derive_tag,
        custom_error_type="derive",
        custom_error_message=(
            "must be {bin: …, edges: …}, {truncate: …, to: …}, {lower: …}, {expression: …} or {lookup: …, table: …}"
        ),
    ),
]
