"""The policy as values: what a YAML policy of version 1 says, key by key, with every default filled in.

`load_policy` is the door: it checks what these models check (types, ranges, unknown keys) and what they can't (that
columns exist, that names don't clash). A `Policy` that didn't come through it carries no promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dpbeam.errors import UsageError
from dpbeam.policy.digest import digest_of
from dpbeam.policy.schema.auto import CountOrAuto
from dpbeam.policy.schema.base import (
    ONE_KEY,
    AnyScalar,
    Bound,
    Delta,
    Epsilon,
    Name,
    RunEpsilon,
    ScalarOrList,
    Strict,
    Weight,
    exactly_one,
)
from dpbeam.policy.schema.derive import Derive
from dpbeam.policy.schema.metrics import MetricEntry
from dpbeam.policy.schema.resolved import Resolved
from dpbeam.policy.schema.rules import RuleWord
from dpbeam.queries.column_types import ColumnType, DeclaredType
from dpbeam.queries.expressions import canonical_form
from dpbeam.queries.selections import MAX_ROUNDS
from dpbeam.queries.source import Compression, Computed, Derived, Fingerprint, Format
from dpbeam.reading.vectors import MAX_LENGTH

MAX_SHARDS = 1024


def _paths(value: object) -> object:
    return [value] if isinstance(value, str) else value


def field_path(value: object) -> str | tuple[str, ...]:
    """Where a column lies: a name, or the names that lead to it.

    Raises:
        PydanticCustomError: anything else, an empty name included.
    """
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) and name for name in value):
        return tuple(value)
    raise PydanticCustomError("field", "must be a name, a path such as address.city, or a list of names")


# The pattern engine is Rust's, in which $ matches at the very end alone: a trailing newline is refused.
StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
PathText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
TEXT_OR_TEXTS = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
        ]
    }
)
Paths = Annotated[
    Annotated[tuple[PathText, ...], Field(strict=False, min_length=1)],
    BeforeValidator(_paths),
    TEXT_OR_TEXTS,
]
FieldPath = Annotated[str | tuple[str, ...], PlainValidator(field_path), PlainSerializer(lambda v: v), TEXT_OR_TEXTS]


class PreAggregated(Strict):
    """Each row of the source stands for `count` rows of one unit in one partition; other numbers are their sums."""

    count: Name


class Source(Strict):
    """Where the rows are, and how they are written. `path` holds the usable paths once loaded."""

    format: Format
    path: Paths
    delimiter: Annotated[str, Field(pattern=r"^[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x7f]$")] = ","
    quoted_newlines: bool = True
    compression: Compression = "auto"
    path_columns: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    pre_aggregated: PreAggregated | None = None
    fingerprint: Fingerprint = "times"


class ColumnRules(Strict):
    """A column that is read: its type, and what happens to a row whose value breaks a rule."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"type": {"const": "vector"}}},
            "then": {"required": ["length"]},
            "else": {"not": {"required": ["length"]}},
        }
    )

    type: DeclaredType
    on_null: RuleWord = "drop"
    on_nan: RuleWord = "drop"
    on_inf: RuleWord = "drop"
    on_invalid: RuleWord = "drop"
    trim: bool = False
    field: FieldPath | None = None
    length: Annotated[int, Field(ge=1, le=MAX_LENGTH)] | None = None

    @property
    def value_type(self) -> ColumnType:
        """The type of one value: of a vector that of its numbers."""
        return "float64" if self.type == "vector" else self.type


class Where(Strict):
    """A row-local condition; rows that fail it don't count."""

    column: Name
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not_in"]
    value: ScalarOrList


CoverageShare = Annotated[float, Field(gt=0, lt=1)]


class Budget(Strict):
    """What the dataset may ever spend, in ε and δ; `meter` is how the losses of its runs are added up."""

    epsilon: Epsilon
    delta: Delta
    meter: Literal["basic", "zcdp", "gdp"] = "basic"


class Run(Strict):
    """What one run may spend."""

    epsilon: RunEpsilon
    delta: Delta


class Guardrails(Strict):
    """Limits on the policy's own parameters; with `min_coverage`, on the coverage that a run finds in each stage."""

    max_epsilon_per_run: Epsilon | None = None
    max_delta_per_run: Delta | None = None
    min_pre_threshold: Bound | None = None
    min_coverage: CoverageShare | None = None


class CoverageBought(Strict):
    """That each stage releases its coverage: noisy figures of what became of its rows, at `share` of its budget."""

    share: CoverageShare


class Private(Strict):
    """The partitions come from the data, and are selected privately."""

    strategy: Literal["truncated_geometric", "laplace_thresholding", "gaussian_thresholding", "dp_sips", "mad", "mad2r"]
    pre_threshold: Bound = 1
    rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] | None = None
    hierarchical: bool = False
    other: bool = False
    other_l0: Bound | None = None
    weight: Weight = 1.0

    @property
    def has_others(self) -> bool:
        """Whether what isn't kept counts in an `other`."""
        return self.hierarchical or self.other


class Public(Strict):
    """The partitions are known beforehand: listed, a product of lists, or a file's rows. `other` labels one more, which
    takes all rows that aren't in any of these."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [way]} for way in ("values", "product", "file")]}
    )

    values: Annotated[tuple[ScalarOrList, ...], Field(strict=False, min_length=1)] | None = None
    product: (
        Annotated[dict[str, Annotated[tuple[AnyScalar, ...], Field(strict=False, min_length=1)]], Field(min_length=1)]
        | None
    ) = None
    file: Annotated[str, Field(min_length=1)] | None = None
    other: AnyScalar | None = None

    @model_validator(mode="after")
    def _one(self) -> Public:
        return exactly_one(self, ("values", "product", "file"))


class Partitions(Strict):
    """Either private or public partitions."""

    model_config = ConfigDict(json_schema_extra=ONE_KEY)

    private: Private | None = None
    public: Public | None = None

    @model_validator(mode="after")
    def _one(self) -> Partitions:
        return exactly_one(self, ("private", "public"))


class Bounds(Strict):
    """At most `l0` partitions a privacy unit and `linf` rows of it in each, or at most `l1` rows in all."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["l0"], "not": {"required": ["l1"]}}, {"required": ["l1"], "maxProperties": 1}]
        }
    )

    l0: CountOrAuto | None = None
    linf: CountOrAuto | None = None
    l1: CountOrAuto | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Bounds:
        if (self.l0 is None) == (self.l1 is None) or (self.l1 is not None and self.linf is not None):
            raise PydanticCustomError(
                "bounds", "must have l0 and linf, or l1 alone; l0 alone where no metric adds up rows"
            )
        return self


class Stage(Strict):
    """One table of the release: its grouping, partitions, bounds and metrics.

    Without columns in `group_by` the whole table is one partition, which is public, so `partitions` is left out.
    Without metrics the release is the table of the private partitions that are kept.
    """

    name: StageName
    group_by: Annotated[tuple[Name, ...], Field(strict=False)]
    partitions: Partitions | None = None
    bounds: Bounds
    metrics: Annotated[tuple[MetricEntry, ...], Field(strict=False)]
    noise: Literal["laplace", "gaussian"] | None = None
    weight: Weight = 1.0

    @property
    def private(self) -> Private | None:
        """How partitions are selected; None where they are known beforehand."""
        return None if self.partitions is None else self.partitions.private


class Output(Strict):
    """Where releases go, and in how many staged files a stage is written."""

    path: PathText = "releases"
    shards: Annotated[int, Field(ge=1, le=MAX_SHARDS)] = 8


AboutText = Annotated[str, Field(min_length=1, max_length=300)]


class About(Strict):
    """Text for the readers of a release. No guarantee or result depends on it, so it isn't part of the digest."""

    owner: AboutText | None = None
    contact: AboutText | None = None
    purpose: AboutText | None = None
    source: AboutText | None = None


class Policy(Strict):
    """A dpbeam policy: what may be released of one dataset, and what one run may spend."""

    version: Annotated[int, Field(ge=1, le=1)]
    dataset: DatasetName
    source: Source
    privacy_unit: Name
    columns: Annotated[dict[str, ColumnRules], Field(min_length=1)]
    derive: dict[str, Derive] = Field(default_factory=dict)
    where: Annotated[tuple[Where, ...], Field(strict=False)] = ()
    budget: Budget | None = None
    run: Run
    guardrails: Guardrails = Guardrails()
    coverage: CoverageBought | None = None
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)]
    output: Output = Output()
    about: About = About()

    _resolved: Resolved = PrivateAttr(default_factory=Resolved)

    def model_post_init(self, context: Any, /) -> None:
        """Takes what was resolved from the context of the validation; a policy made without has none."""
        if isinstance(context, Resolved):
            self._resolved = context

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Policy:
        """The same policy; a changed copy is refused, for pydantic checks nothing of it.

        Raises:
            UsageError: there is an `update`.
        """
        if update:
            raise UsageError("a policy is changed in its file, or by the query that built it: a copy isn't checked")
        return super().model_copy(deep=deep)

    def relocated(self, *, source: tuple[str, ...], output: str | None) -> Policy:
        """The same policy with its source, and its output unless that is None, elsewhere: its digest stays."""
        updates = {
            "source": self.source.model_copy(update={"path": source}),
            "output": self.output if output is None else self.output.model_copy(update={"path": output}),
        }
        return super().model_copy(update=updates)

    @property
    def vector_lengths(self) -> Mapping[str, int]:
        """How many numbers each row has in a column that holds vectors, by its name."""
        return {name: rules.length for name, rules in self.columns.items() if rules.length is not None}

    @property
    def counted_by(self) -> str | None:
        """The column of row counts, if the source's rows are aggregated already."""
        return None if self.source.pre_aggregated is None else self.source.pre_aggregated.count

    @property
    def digest(self) -> str:
        """The SHA-256 of all that the guarantee and the results depend on, the canonical form, after `sha256` and a
        colon."""
        return digest_of(self.canonical_form())

    def canonical_form(self) -> dict[str, Any]:
        """What the policy says, as plain data: the same for two policies that say the same, whatever the order of keys,
        the comments and the defaults spelled out.

        Where the input lies, where the output goes and in how many files it is staged are left out: flags may override
        the first two, and no result depends on them. So is the text for readers (`about`): a new telephone number must
        not cost a release. Of a file of public partitions its SHA-256 is included, not its name; so of a file that is
        looked up. Of an expression, what it says is included, with its types, and not how it is written.
        """
        # Without defaults: a key that a later version adds leaves the digests of all policies without it as they were.
        plain = self.model_dump(
            mode="json", exclude={"source": {"path"}, "output": True, "about": True}, exclude_defaults=True
        )
        for stage, shown in zip(self.stages, plain["stages"], strict=True):
            for metric, entry in zip(stage.metrics, shown["metrics"], strict=True):
                entry[metric.kind]["name"] = metric.result_name
                implementation = metric.args.implementation
                if implementation is not None:  # what it computes lies in code, so that belongs to what the policy says
                    entry[metric.kind]["implementation"] = implementation
            if stage.name in self._resolved.public.digests:
                shown["partitions"]["public"]["file"] = self._resolved.public.digests[stage.name]
        for item in self._resolved.derived.columns:
            if isinstance(item, Computed):
                plain["derive"][item.name]["expression"] = canonical_form(item.expression)
            if item.name in self._resolved.derived.digests:
                plain["derive"][item.name]["table"] = self._resolved.derived.digests[item.name]
        return plain


def public_table_of(policy: Policy, stage: str) -> pa.Table | None:
    """The stage's public partitions as read when the policy was loaded; None if it has none."""
    return policy._resolved.public.tables.get(stage)


def derived_of(policy: Policy) -> tuple[Derived, ...]:
    """The derived columns as resolved when the policy was loaded, each behind those that it uses."""
    return policy._resolved.derived.columns
