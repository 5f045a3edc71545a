"""What is known of a release after each step of its lifecycle: a type a step, each made from the one before.

    Request → Planned → Checked → Reserved → Charged → Staged → Verified → Assembled → Published

A value holds what later steps need and nothing that isn't known yet, so no step can be taken before its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dpbeam.engine.stage import StageSpec
from dpbeam.ledger import Ledger
from dpbeam.ledger.accounts import OPEN, Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.meters import Meter, meter_named
from dpbeam.phases.phase import Parameters
from dpbeam.pipelines.lifecycle import guarding, publish
from dpbeam.pipelines.lifecycle.attempts import staging_area
from dpbeam.pipelines.lifecycle.inputs import Inputs, PipelineRows
from dpbeam.pipelines.lifecycle.naming import ReleaseName
from dpbeam.policy import compile as compiled
from dpbeam.policy.guardrails.schema import OrganisationGuardrails
from dpbeam.policy.schema.policy import Policy
from dpbeam.queries.query import Query
from dpbeam.reporting.manifest import About, ChosenBound, Coverage, Engine, Manifest
from dpbeam.transforms.wire.staging import Area

if TYPE_CHECKING:  # a release that is there already is shown without Beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from dpbeam.adapters.reference.plan import ReferenceStage
    from dpbeam.transforms.wire.control import Shuffle


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for: the answer to this query, released under this name, paid from this ledger.

    `options` are Beam's, None where none are stated: then the run is one of this machine, and Beam is loaded when it is
    to be charged. `shards` is the number of staged files a stage, which never depends on the data; `cap` what whoever
    asks takes the dataset's budget to be, in ε and δ, and `meter` what it adds up, None where they don't say. A run
    that failed may be tried again under its charge, up to `max_attempts` times in all. `refresh` asks for a new release
    although it exists;
    `accept_source` says that a source that is new to the dataset's budget is meant. `about` is what the policy says to
    readers, `min_coverage` the least share of rows that a stage must keep for the release to be published. A `period`
    stands in the name. `guardrails` are those of the organisation that hold for it.

    Raises:
        UsageError: a name or a period that no release can have.
    """

    query: Query
    release_name: str
    ledger: Ledger
    options: PipelineOptions | None
    output: Path
    shards: int
    cap: Amount | None = None
    meter: Meter | None = None
    engine: Engine = "dpbeam"
    max_attempts: int = 3
    refresh: bool = False
    accept_source: bool = False
    about: About | None = None
    period: str | None = None
    min_coverage: float | None = None
    guardrails: OrganisationGuardrails | None = None

    def __post_init__(self) -> None:
        ReleaseName(text=self.release_name, period=self.period)

    @classmethod
    def of(cls, policy: Policy, *, ledger: Ledger, guardrails: str | Path | None = None, **how: Any) -> Request:
        """What a policy asks for; `guardrails` is the organisation's file (default: what the environment names, or what
        the ledger is bound to), `how` are the other fields.

        Raises:
            UsageError: a custom metric that can't be built; a file of guardrails that can't be used.
            Refused: the policy doesn't keep to the guardrails.
        """
        held = guarding.holding(ledger, policy.dataset, guardrails)
        guarding.check_policy(held, policy)
        budget = policy.budget
        about = policy.about.model_dump(exclude_none=True)
        return cls(
            query=compiled.query(policy),
            shards=policy.output.shards,
            cap=Amount.cap(budget.epsilon, budget.delta) if budget else None,
            meter=meter_named(budget.meter) if budget else None,
            about=About(**about) if about else None,
            min_coverage=policy.guardrails.min_coverage,
            ledger=ledger,
            guardrails=held,
            **how,
        )


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The request and its certified plan. `reference` is what PipelineDP's engine is given, where it is the one."""

    request: Request
    parameters: Parameters
    reference: tuple[ReferenceStage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A plan whose input is there, and whose output can be written."""

    planned: Planned
    inputs: Inputs | PipelineRows

    @property
    def request(self) -> Request:
        return self.planned.request

    @property
    def fingerprint(self) -> str:
        return self.inputs.fingerprint(self.request.ledger.secret())

    def published_fingerprint(self, release_id: str) -> str:
        """What the release's manifest says of the input."""
        return self.inputs.published_fingerprint(self.request.ledger.secret(), release_id)

    @property
    def files(self) -> Inputs:
        """The input of a run that reads files.

        Raises:
            ValueError: its rows come from somebody's own pipeline.
        """
        if not isinstance(self.inputs, Inputs):
            raise ValueError("rows of somebody's own pipeline lie in no files")
        return self.inputs


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """A run that holds its cost in the ledger, or goes on with a charge that an attempt which broke off had started.

    Raises:
        ValueError: the charge is closed.
    """

    checked: Checked
    charge: Charge

    def __post_init__(self) -> None:
        if self.charge.state not in OPEN:
            raise ValueError(f"charge must be open, got one that is {self.charge.state}")


@dataclass(frozen=True, kw_only=True)
class Charged:
    """A run whose cost is spent: it alone may read the data.

    Raises:
        ValueError: the charge isn't started.
    """

    checked: Checked
    charge: Charge

    def __post_init__(self) -> None:
        if self.charge.state != "STARTED":
            raise ValueError(f"charge must be STARTED before data is read, got one that is {self.charge.state}")

    @property
    def planned(self) -> Planned:
        return self.checked.planned

    @property
    def request(self) -> Request:
        return self.planned.request

    @property
    def area(self) -> Area:
        return staging_area(self.charge)


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A run whose results lie in staging. `parameters` are as its phases left them; `shuffles` are those whose control
    totals must have been confirmed."""

    charged: Charged
    parameters: Parameters
    shuffles: tuple[Shuffle, ...]

    @property
    def charge(self) -> Charge:
        return self.charged.charge


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A run whose results were taken from staging, once: the table of each stage, by its name."""

    charged: Charged
    parameters: Parameters
    tables: Mapping[str, pa.Table]

    @property
    def charge(self) -> Charge:
        return self.charged.charge


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A run whose release is put together in staging, all but its manifest."""

    charged: Charged
    parameters: Parameters
    manifest: Manifest

    @property
    def charge(self) -> Charge:
        return self.charged.charge


@dataclass(frozen=True, kw_only=True)
class Published:
    """A release that is out. `cached`: it was before it was asked for, and cost nothing now. `unlisted`: why the page
    over the dataset's releases doesn't list it. `remarks` are what was worth knowing before the charge."""

    request: Request
    charge: Charge
    stages: tuple[StageSpec, ...]
    chosen: tuple[ChosenBound, ...]
    coverage: tuple[Coverage, ...] = ()
    cached: bool = False
    unlisted: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the release lies."""
        return publish.release_folder(self.charge)


def charge_of(value: object) -> Charge | None:
    """The charge of a run that has one."""
    match value:
        case Reserved() | Charged() | Staged() | Verified() | Assembled() | Published():
            return value.charge
    return None
