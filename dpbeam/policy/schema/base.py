"""What the policy's models are made of: strict values, names, numbers in their ranges."""

from __future__ import annotations

import math
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from dpbeam.queries.column_types import Scalar

M = TypeVar("M", bound=BaseModel)

MAX_BOUND = 2**31 - 1
MAX_MAGNITUDE = 1e15
LEAST, MOST = 1e-6, 1e6
"""The range of an epsilon or a weight: beyond it the plan's numbers would leave what floats can hold."""
MOST_OF_A_RUN = 1e3
"""The largest epsilon of a run: e^ε soon leaves what floats can hold, and long before that nothing is private."""

ONE_KEY: JsonDict = {"minProperties": 1, "maxProperties": 1}


SCALAR_SCHEMA = {"type": ["string", "integer", "number", "boolean"]}


def scalar(value: object) -> Scalar:
    """Text, a boolean, a whole number or a finite number, as it is.

    Raises:
        PydanticCustomError: anything else, null and NaN included.
    """
    if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise PydanticCustomError("scalar", "must be text, a finite number, true or false")


def _scalar_or_list(value: object) -> Scalar | tuple[Scalar, ...]:
    if isinstance(value, list | tuple):
        return tuple(scalar(item) for item in value)
    return scalar(value)


class Strict(BaseModel):
    """Frozen; no unknown key, no coercion of text or booleans to numbers, no NaN, no infinity."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)


Name = Annotated[str, Field(min_length=1, max_length=255)]
Epsilon = Annotated[float, Field(ge=LEAST, le=MOST)]
RunEpsilon = Annotated[float, Field(ge=LEAST, le=MOST_OF_A_RUN)]
Delta = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[float, Field(ge=LEAST, le=MOST)]
Bound = Annotated[int, Field(ge=1, le=MAX_BOUND)]
AnyScalar = Annotated[Scalar, PlainValidator(scalar), PlainSerializer(lambda v: v), WithJsonSchema(SCALAR_SCHEMA)]
ScalarOrList = Annotated[
    Scalar | tuple[Scalar, ...],
    PlainValidator(_scalar_or_list),
    PlainSerializer(lambda v: v),
    WithJsonSchema({"anyOf": [SCALAR_SCHEMA, {"type": "array", "items": SCALAR_SCHEMA}]}),
]
Clip = Annotated[float, Field(ge=-MAX_MAGNITUDE, le=MAX_MAGNITUDE)]


def exactly_one(model: M, names: tuple[str, ...]) -> M:
    """The model, if it has exactly one of these keys.

    Raises:
        PydanticCustomError: it has none, or several.
    """
    if sum(getattr(model, name) is not None for name in names) != 1:
        raise PydanticCustomError("one_of", "must have exactly one of the keys {names}", {"names": ", ".join(names)})
    return model
