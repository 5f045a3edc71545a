"""The guardrails of an organisation as values: what a YAML file of version 1 says, key by key.

`load_guardrails` is the door. What isn't stated isn't limited.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from dpbeam.policy.digest import digest_of
from dpbeam.policy.schema.base import Bound, Delta, Epsilon, Name, Strict
from dpbeam.policy.schema.policy import CoverageShare
from dpbeam.queries.metrics import KINDS
from dpbeam.queries.source import Format

PublicKey = Annotated[str, Field(pattern=r"^ed25519:[0-9a-f]{64}$")]
PersonName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._+ -]{0,99}$")]
Pattern = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
StrategyWord = Literal[
    "truncated_geometric", "laplace_thresholding", "gaussian_thresholding", "dp_sips", "mad", "mad2r", "public"
]
NoiseWord = Literal["laplace", "gaussian"]
MOST_LISTED = 1000


def _metric(value: object) -> object:
    if isinstance(value, str) and value in KINDS:
        return value
    raise PydanticCustomError("metric_kind", "must be one of {kinds}", {"kinds": ", ".join(KINDS)})


MetricWord = Annotated[str, BeforeValidator(_metric)]


class Ceilings(Strict):
    """The most that a run, or a dataset's budget, may spend."""

    max_epsilon: Epsilon | None = None
    max_delta: Delta | None = None


class BoundCeilings(Strict):
    """The most that one privacy unit may contribute: a bound that the run finds counts as the most it may become, and
    `l1` as both the partitions and the rows that it lets a unit have."""

    max_l0: Bound | None = None
    max_linf: Bound | None = None


class Selections(Strict):
    """Which partitions, and which values, may be shown: the least `pre_threshold`, the least people at which one is
    kept with probability 50 %, and by which strategies; `public` stands for partitions that are known beforehand."""

    min_pre_threshold: Bound | None = None
    min_people: Bound | None = None
    strategies: Annotated[tuple[StrategyWord, ...], Field(strict=False, min_length=1)] | None = None


class Sources(Strict):
    """What may be read: formats, and paths by patterns (`*` stops at a slash, `**` doesn't), links followed."""

    formats: Annotated[tuple[Format, ...], Field(strict=False, min_length=1)] | None = None
    paths: Annotated[tuple[Pattern, ...], Field(strict=False, min_length=1, max_length=MOST_LISTED)] | None = None


class OrganisationGuardrails(Strict):
    """What every policy keeps to, and whose approval its versions need."""

    version: Annotated[int, Field(ge=1, le=1)]
    run: Ceilings = Ceilings()
    budget: Ceilings = Ceilings()
    bounds: BoundCeilings = BoundCeilings()
    partitions: Selections = Selections()
    noises: Annotated[tuple[NoiseWord, ...], Field(strict=False, min_length=1)] | None = None
    metrics: Annotated[tuple[MetricWord, ...], Field(strict=False, min_length=1)] | None = None
    sources: Sources = Sources()
    privacy_units: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] | None = None
    forbidden_columns: Annotated[tuple[Pattern, ...], Field(strict=False, max_length=MOST_LISTED)] = ()
    min_coverage: CoverageShare | None = None
    approvals: Annotated[int, Field(ge=0, le=10)] = 0
    approvers: dict[PersonName, PublicKey] = Field(default_factory=dict)
    submitters: dict[PersonName, PublicKey] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _people(self) -> OrganisationGuardrails:
        if self.approvals > len(self.approvers):
            raise PydanticCustomError("approvals", "must name at least as many approvers as it asks approvals of")
        keys = [*self.approvers.values(), *self.submitters.values()]
        if len(set(keys)) < len(keys) or set(self.approvers) & set(self.submitters):
            raise PydanticCustomError(
                "people", "must name each person once, among approvers or submitters, and each key once"
            )
        return self

    @property
    def digest(self) -> str:
        """The SHA-256 of what they say, after `sha256` and a colon, whatever the order of keys and the comments."""
        return digest_of(self.canonical_form())

    def canonical_form(self) -> dict[str, object]:
        """What they say, as plain data, without defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)
