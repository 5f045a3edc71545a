"""Every part of a policy that is right by itself, so that the checks between parts run also where others are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from dpbeam.policy.expressions.derived import Derivations, derivations
from dpbeam.policy.schema import derive as derive_schema
from dpbeam.policy.schema import metrics
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.schema.base import Name
from dpbeam.queries.column_types import ColumnType, DeclaredType

T = TypeVar("T")

_TEXT: TypeAdapter[str] = TypeAdapter(Name)
_DERIVE: TypeAdapter[Any] = TypeAdapter(derive_schema.Derive, config={"strict": True})
_METRIC: TypeAdapter[metrics.MetricChoice] = TypeAdapter(metrics.MetricEntry)
_SOURCE: TypeAdapter[schema.Source] = TypeAdapter(schema.Source)
_COLUMN: TypeAdapter[schema.ColumnRules] = TypeAdapter(schema.ColumnRules)
_WHERE: TypeAdapter[schema.Where] = TypeAdapter(schema.Where)
_BUDGET: TypeAdapter[schema.Budget] = TypeAdapter(schema.Budget)
_RUN: TypeAdapter[schema.Run] = TypeAdapter(schema.Run)
_GUARDRAILS: TypeAdapter[schema.Guardrails] = TypeAdapter(schema.Guardrails)
_COVERAGE: TypeAdapter[schema.CoverageBought] = TypeAdapter(schema.CoverageBought)
_PARTITIONS: TypeAdapter[schema.Partitions] = TypeAdapter(schema.Partitions)
_BOUNDS: TypeAdapter[schema.Bounds] = TypeAdapter(schema.Bounds)


@dataclass(frozen=True, kw_only=True)
class ValidStage:
    """One stage. None stands for what is missing or wrong by itself; the position in the lists is kept."""

    name: str | None
    has_group_by: bool
    group_by: list[str | None]
    has_partitions: bool
    partitions: schema.Partitions | None
    bounds: schema.Bounds | None
    metrics: list[metrics.MetricChoice | None]
    has_metrics: bool
    has_noise: bool


@dataclass(frozen=True, kw_only=True)
class ValidParts:
    """A policy as far as it is right. `columns` and `derive` keep the names of entries that are wrong."""

    source: schema.Source | None
    privacy_unit: str | None
    columns: Mapping[str, schema.ColumnRules | None]
    derive: Mapping[str, derive_schema.DeriveEntry | None]
    derived: Derivations
    where: list[schema.Where | None]
    budget: schema.Budget | None
    run: schema.Run | None
    guardrails: schema.Guardrails | None
    has_coverage: bool
    coverage: schema.CoverageBought | None
    stages: list[ValidStage]

    @property
    def vector_lengths(self) -> Mapping[str, int]:
        """How many numbers each row has in a column that holds vectors, by its name."""
        return {name: rules.length for name, rules in self.columns.items() if rules is not None and rules.length}

    @property
    def least_units(self) -> int | None:
        """The guardrail on the units of what comes from the data; None if there is none."""
        return None if self.guardrails is None else self.guardrails.min_pre_threshold

    def declared_type(self, name: str) -> DeclaredType | None:
        """The type of a column or derived column; None if it isn't known."""
        if name in self.derive:
            return self.derived.types[name]
        rules = self.columns.get(name)
        return None if rules is None else rules.type

    def type_of(self, name: str) -> ColumnType | None:
        """The same, where each row has one value; None for a vector, too."""
        kind = self.declared_type(name)
        return None if kind == "vector" else kind


def valid_parts(data: Mapping[str, Any]) -> ValidParts:
    """Validates each part by itself. Never raises, whatever the data."""
    columns = {name: _try(_COLUMN, value) for name, value in _mapping(data.get("columns")).items()}
    derive = {name: _try(_DERIVE, value) for name, value in _mapping(data.get("derive")).items()}
    types = {name: None if rules is None else rules.type for name, rules in columns.items()}
    return ValidParts(
        source=_try(_SOURCE, data.get("source")),
        privacy_unit=_try(_TEXT, data.get("privacy_unit")),
        columns=columns,
        derive=derive,
        derived=derivations(types, derive),
        where=[_try(_WHERE, value) for value in _list(data.get("where"))],
        budget=_try(_BUDGET, data.get("budget")),
        run=_try(_RUN, data.get("run")),
        guardrails=_try(_GUARDRAILS, data.get("guardrails")),
        has_coverage=data.get("coverage") is not None,
        coverage=_try(_COVERAGE, data.get("coverage")),
        stages=[_stage(_mapping(value)) for value in _list(data.get("stages"))],
    )


def _stage(data: Mapping[str, Any]) -> ValidStage:
    return ValidStage(
        name=_try(_TEXT, data.get("name")),
        has_group_by=isinstance(data.get("group_by"), list),
        group_by=[_try(_TEXT, value) for value in _list(data.get("group_by"))],
        has_partitions=data.get("partitions") is not None,
        partitions=_try(_PARTITIONS, data.get("partitions")),
        bounds=_try(_BOUNDS, data.get("bounds")),
        metrics=[_try(_METRIC, value) for value in _list(data.get("metrics"))],
        has_metrics=isinstance(data.get("metrics"), list),
        has_noise="noise" in data,
    )


def _try(adapter: TypeAdapter[T], value: object) -> T | None:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
