"""One metric of a stage as the policy states it, under the key of its kind; `dpbeam.policy.metrics` has what stands
there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import BeforeValidator, ConfigDict, create_model, model_validator
from pydantic_core import PydanticCustomError

from dpbeam.policy.metrics import ARGUMENTS
from dpbeam.policy.metrics.base import MetricArgs
from dpbeam.policy.schema.base import ONE_KEY, Strict, exactly_one
from dpbeam.queries.metrics import KINDS
from dpbeam.queries.metrics.base import Metric

_EXPECTED = f"must be count, privacy_id_count, or a mapping from one of {', '.join(KINDS[2:])}"

if TYPE_CHECKING:
    _Keys = Strict
else:
    _Keys = create_model(
        "_Keys", __base__=Strict, **{kind: (stated | None, None) for kind, stated in ARGUMENTS.items()}
    )


class MetricChoice(_Keys):
    """One metric, under the key of its kind."""

    model_config = ConfigDict(json_schema_extra=ONE_KEY)

    @model_validator(mode="after")
    def _one(self) -> MetricChoice:
        return exactly_one(self, KINDS)

    @property
    def kind(self) -> str:
        """The key under which the metric stands."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def args(self) -> MetricArgs:
        """What stands under that key."""
        return cast(MetricArgs, getattr(self, self.kind))

    @property
    def result_name(self) -> str:
        """The metric's column in the results, or what its columns' names begin with."""
        return self.args.name if self.args.name is not None else self.args.usual_name(self.kind)

    def metric(self, lengths: Mapping[str, int]) -> Metric:
        """The metric that it is; `lengths` are those of the columns that hold vectors.

        Raises:
            ValueError: its arguments don't fit together.
            UsageError: a custom metric that can't be built.
        """
        return self.args.to_metric(self.kind, self.result_name, lengths)


def _metric_word(value: object) -> object:
    if isinstance(value, str):
        if value not in ("count", "privacy_id_count"):
            raise PydanticCustomError("metric", _EXPECTED)
        return {value: {}}
    return value


MetricEntry = Annotated[
    MetricChoice,
    BeforeValidator(_metric_word, json_schema_input_type=Literal["count", "privacy_id_count"] | MetricChoice),
]
