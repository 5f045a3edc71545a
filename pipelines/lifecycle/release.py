"""The lifecycle of a release: a request goes in; a published release, new or cached, comes out.

    plan → certify → guard → reserve → start → run the Beam jobs → verify staging → assemble → publish

Each step is one function on one value. A kill between or inside any two of them leaves the ledger at or above what
was really spent, and `dpbeam recover` finishes or closes the run.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from dpbeam._version import __version__
from dpbeam.accounting.plan import Plan
from dpbeam.accounting.plan import plan as make_plan
from dpbeam.engine.bounding import hierarchy
from dpbeam.engine.release import releaser
from dpbeam.errors import DpbeamError, Interrupted, Refused, RunFailed
from dpbeam.ledger import Ledger
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.model import Charge
from dpbeam.ledger.outcomes import KeyTaken
from dpbeam.ledger.owner import Owner, alive
from dpbeam.phases.bounds import bounds_phase
from dpbeam.phases.phase import Parameters, Phase
from dpbeam.phases.rounds import phases as selection_phases
from dpbeam.pipelines.jobs import aggregate, runners, workers
from dpbeam.pipelines.lifecycle import identity, inputs, publish, stopping
from dpbeam.pipelines.lifecycle.attempts import STAGING_NAME, clear, journalled, settle_stopped, staging_area, told
from dpbeam.pipelines.lifecycle.belongings import check_named, pending
from dpbeam.pipelines.lifecycle.report_facts import metric_columns, render
from dpbeam.policy import compile as compiled
from dpbeam.policy.chosen import with_chosen
from dpbeam.policy.schema.policy import Policy
from dpbeam.query.spec import StageSpec
from dpbeam.reporting import manifest as manifests
from dpbeam.transforms.wire.containment import from_runner
from dpbeam.transforms.wire.control import Shuffle
from dpbeam.transforms.wire.staging import Area

if TYPE_CHECKING:
    from dpbeam.adapters.reference.plan import ReferenceStage

MAX_ATTEMPTS = 3
REPORT_NAME = "report.html"
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A request, and what its steps have found so far. Each step fills in fields and never changes one."""

    policy: Policy
    release_name: str
    refresh: bool
    ledger: Ledger
    options: PipelineOptions
    output: Path
    engine: manifests.Engine = "dpbeam"
    accept_source: bool = False
    plan: Plan | None = None
    inputs: inputs.Inputs | None = None
    stages: tuple[StageSpec, ...] = ()
    public: Mapping[str, pa.Table] = field(default_factory=dict)
    reference: tuple[ReferenceStage, ...] = ()
    found: Mapping[str, pa.Table] = field(default_factory=dict)
    charge: Charge | None = None
    cached: bool = False
    shuffles: tuple[Shuffle, ...] = ()
    tables: dict[str, pa.Table] | None = None
    chosen: tuple[manifests.ChosenBound, ...] = ()
    manifest: manifests.Manifest | None = None

    @property
    def fingerprint(self) -> str:
        return self.inputs.fingerprint(self.ledger.secret())

    @property
    def folder(self) -> Path:
        """Where the release lies, or will."""
        return Path(self.charge.path)

    @property
    def area(self) -> Area:
        return staging_area(self.charge)


def make_release(run: Run, progress: Progress = lambda step: None) -> Run:
    """Takes a request through its whole lifecycle.

    Guarantee: a release that is published satisfies the (ε, δ) its manifest states; the ledger was charged for it
    before the first row was read; what it shows is one draw of each value.

    Raises:
        UsageError: the policy's input or the output folder can't be used; nothing was charged.
        Refused: the budget, or a run of the same release that isn't finished, says no; nothing was charged.
        RunFailed: the run broke off after it was charged; nothing was published.
        Interrupted: a signal ended it. What it staged is removed; the message says what is spent.
    """
    try:
        for name, step in STEPS:
            stopping.check()
            progress(name)
            with stopping.held() if name in HELD else nullcontext():
                run = step(run)
            if run.cached:
                break
    except (stopping.Stopped, KeyboardInterrupt) as signal:
        with stopping.held():
            stopped = signal if isinstance(signal, stopping.Stopped) else stopping.Stopped(stopping.SIGNALS[0])
            try:
                what = settle_stopped(run.ledger, run.charge)
            except DpbeamError as error:
                what = f"what it began is left as it was ({error}); `dpbeam recover` settles it"
            raise Interrupted(f"{stopped}; {what}", stopped.exit_code) from None
    return run


def plan(run: Run) -> Run:
    """Every mechanism of every stage, certified against the run's (ε, δ)."""
    public = {stage.name: compiled.public_partitions(run.policy, stage) for stage in run.policy.stages}
    known = {name: table for name, table in public.items() if table is not None}
    if run.engine == "pipelinedp":
        from dpbeam.adapters.reference.plan import (
            reference_plan,  # lazily: it loads PipelineDP, as nothing else here does
        )

        found = reference_plan(run.policy)
        specs = tuple(stage.spec for stage in found.stages)
        return replace(run, plan=found.plan, stages=specs, public=known, reference=found.stages)
    planned = make_plan(run.policy)
    stages = compiled.stage_specs(run.policy, planned.mechanisms)
    return replace(run, plan=planned, stages=stages, public=known)


def guard(run: Run) -> Run:
    """The input is there and has the columns, the noise fits the sums' grid, the output can be written.

    Reads names, sizes, headers and footers, and no values.
    """
    for spec in run.stages:
        releaser.check(spec)
    found = inputs.resolve(compiled.input_spec(run.policy))
    publish.check_output(run.output, run.policy.dataset, run.output / STAGING_NAME)
    return replace(run, inputs=found)


def reserve(run: Run) -> Run:
    """Holds the run's cost in the ledger, or finds that the same release was paid for before."""
    key = _key(run)
    known = run.ledger.find(run.policy.dataset, key)
    if known is not None and (not run.refresh or known.state in ("RESERVED", "STARTED")):
        return _resume(run, known)
    runners.check_answers(run.options)
    release_id = publish.new_release_id(datetime.now(timezone.utc))
    budget = run.policy.budget
    try:
        charge = run.ledger.reserve(
            run.policy.dataset,
            key,
            Amount.charge(run.policy.run.epsilon, run.policy.run.delta),
            owner=Owner.current(),
            scope=identity.scope(run.policy, [file.path for file in run.inputs.files]),
            policy_digest=run.policy.digest,
            release_id=release_id,
            path=str((run.output / run.policy.dataset / release_id).absolute()),
            max_attempts=MAX_ATTEMPTS,
            cap_stated=Amount.cap(budget.epsilon, budget.delta) if budget else None,
            refresh=run.refresh,
            accept_source=run.accept_source,
        )
    except KeyTaken as taken:
        return _resume(run, taken.charge)
    return replace(run, charge=charge)


def start(run: Run) -> Run:
    """Marks the charge as spent for good, durably, before the first row is read."""
    if run.charge.state == "RESERVED":
        return replace(run, charge=run.ledger.start(run.charge))
    return run  # a retry under its own charge is started already


def run_job(run: Run) -> Run:
    """The Beam jobs: the policy's phases, each of which is taken from staging before the next, then the main job, from
    the source to the staged shard files."""
    with journalled(run.ledger, run.charge, "staging"):
        run.area.create()
    known = Parameters(policy=run.policy, plan=run.plan, stages=run.stages, public=run.public)
    for phase in _phases(run.policy):
        explored = verify(_run_stages(replace(run, stages=phase.stages(known), public=known.public, found=known.found)))
        with journalled(run.ledger, run.charge, "pipeline"):
            known = phase.learn(known, explored.tables)
    run = replace(
        run, plan=known.plan, stages=known.stages, public=known.public, found=known.found, chosen=known.chosen
    )
    return _run_stages(run)


def _phases(policy: Policy) -> tuple[Phase, ...]:
    """The jobs before the main one, in order: bounds first, for what is selected depends on them. Most policies need
    none."""
    return (*bounds_phase(policy), *selection_phases(policy))


def _run_stages(run: Run) -> Run:
    shards = run.inputs.user_shards(workers.workers(run.options))
    job = aggregate.Job(
        input=compiled.input_spec(run.policy),
        splits=run.inputs.splits,
        stages=run.stages,
        public=run.public,
        found=run.found,
        user_shards=shards,
        parts=run.policy.output.shards,
        salt=secrets.token_bytes(16),
        area=run.area,
        one_worker=workers.one_worker(run.options, shards),
    )
    with journalled(run.ledger, run.charge, "pipeline"):
        try:
            if run.engine == "pipelinedp":
                from dpbeam.pipelines.jobs import reference

                shuffles = reference.run(job, run.reference, run.options)
            else:
                shuffles = aggregate.run(job, run.options)
        except Exception as error:
            stopping.check()  # a runner may make an error of its own of what stopped it
            failure = from_runner(error)
        else:
            inputs.check_unchanged(run.inputs)
            return replace(run, shuffles=shuffles)
        raise failure


def verify(run: Run) -> Run:
    """Takes exactly one file a shard from staging, once; everything a release shows is made from these tables."""
    with journalled(run.ledger, run.charge, "staging"):
        missing = [shuffle.name for shuffle in run.shuffles if not run.area.has_marker(shuffle.name)]
        if missing:
            raise RunFailed(
                f"the control totals of shuffle {missing[0]} were not confirmed: the runner lost data, so nothing was "
                "published. Run again; if it fails again, use another runner or running mode."
            )
        tables = {}
        for spec in run.stages:
            table = run.area.read_stage(spec.name, run.policy.output.shards)
            if spec.hierarchical:
                table = hierarchy.shown(table, spec.leaf_keys)
            tables[spec.name] = table.sort_by([(key, "ascending") for key in spec.keys]) if spec.keys else table
        return replace(run, tables=tables)


def assemble(run: Run) -> Run:
    """Writes the release's files, all but the manifest, where nobody else can see them yet."""
    with journalled(run.ledger, run.charge, "publish"):
        folder = run.area.create_release()
        publish.write_tables(
            folder, run.tables, {spec.name: metric_columns(spec) for spec in run.stages}, manifests.by_stage(run.chosen)
        )
        guarantee = manifests.Guarantee(epsilon=run.plan.epsilon, delta=run.plan.delta, unit=run.policy.privacy_unit)
        amount = run.charge.amount.to_json()
        manifest = manifests.Manifest(
            release_id=run.charge.release_id,
            release_name=run.release_name,
            dataset=run.policy.dataset,
            created=f"{publish.begun(run.charge.release_id):%Y-%m-%dT%H:%M:%SZ}",
            dpbeam_version=__version__,
            policy_digest=run.policy.digest,
            input_fingerprint=run.fingerprint,
            guarantee=guarantee,
            certificate=manifests.StatedCertificate(**run.plan.certificate.to_json()),
            mechanisms=run.plan.mechanisms,
            charge=manifests.Charge(id=run.charge.id, meter="basic", epsilon=amount["epsilon"], delta=amount["delta"]),
            files=publish.entries(folder, _rows(run.tables)),
            engine=run.engine,
            chosen_bounds=run.chosen,
        )
        balance = run.ledger.balance(run.policy.dataset)
        (folder / REPORT_NAME).write_text(render(manifest, run.stages, run.tables, balance), encoding="utf-8")
        files = publish.entries(folder, _rows(run.tables), REPORT_NAME)
        return replace(run, manifest=replace(manifest, files=files))


def commit(run: Run) -> Run:
    """The atomic step: the ledger decides, by the run's fence, that this release is out; then one rename shows it."""
    with journalled(run.ledger, run.charge, "publish"):
        manifest_sha256 = publish.write_manifest(Path(run.area.release), run.manifest)
        run.area.remove_shards()
    charge = told(run.ledger, run.charge, manifest_sha256)
    publish.complete(Path(run.area.release), run.folder, manifest_sha256)
    run.area.remove_empty()
    return replace(run, charge=charge)


def run_json(done: Run) -> dict[str, object]:
    """What `dpbeam run --json` prints; see docs/formats.md."""
    manifest = manifests.read_manifest(done.folder / manifests.MANIFEST_NAME).to_json()
    return {
        "version": 1,
        "release_id": manifest["release_id"],
        "path": str(done.folder),
        "cached": done.cached,
        "guarantee": manifest["guarantee"],
        "charge": manifest["charge"],
    }


STEPS: Sequence[tuple[str, Callable[[Run], Run]]] = (
    ("Planning and certifying", lambda run: plan(run)),
    ("Checking the input and the output", lambda run: guard(run)),
    ("Reserving the budget", lambda run: reserve(run)),
    ("Charging the ledger", lambda run: start(run)),
    ("Reading, bounding, aggregating and adding noise", lambda run: run_job(run)),
    ("Verifying what the job staged", lambda run: verify(run)),
    ("Writing results and report", lambda run: assemble(run)),
    ("Publishing", lambda run: commit(run)),
)
"""The lifecycle, in order, with what a person is told while each step works."""
HELD = ("Reserving the budget", "Charging the ledger", "Publishing")
"""The steps that a signal doesn't tear: what the ledger is told and what the run knows stay the same."""


def _key(run: Run) -> str:
    """The idempotency key: the same policy on the same input under the same name, by the same engine, is the same
    release."""
    identity = json.dumps(
        [run.policy.digest, run.fingerprint, run.release_name, *([] if run.engine == "dpbeam" else [run.engine])]
    )
    return hashlib.sha256(identity.encode()).hexdigest()


def _resume(run: Run, charge: Charge) -> Run:
    """Goes on with a charge of the same release: the published bytes, another attempt, or a refusal."""
    match charge.state:
        case "PUBLISHED":
            area = staging_area(charge)
            check_named(charge, [area])
            publish.complete(Path(area.release), Path(charge.path), charge.manifest_sha256)
            area.remove_shards()
            area.remove_empty()
            return _as_published(replace(run, charge=charge, cached=True))
        case "SPENT_UNPUBLISHED":
            raise Refused(
                f"release {charge.release_id} of this policy, input and name was closed without being published; what "
                "it cost stays spent. --refresh makes a new release and charges it anew"
            )
    living = alive(charge.owner) and not charge.failed
    if living:
        raise Refused(
            f"the same release is being made by process {charge.owner.pid} (charge {charge.id}); wait for it and ask "
            "again: the result then comes at no cost"
        )
    if living is None:
        raise Refused(
            f"the same release was begun on host {charge.owner.host} (charge {charge.id}), which can't be asked from "
            f"here; if it is dead, settle it with `dpbeam recover --charge {charge.id} --force`"
        )
    if charge.state == "RESERVED":
        run.ledger.release(charge)
        return reserve(run)
    if not charge.failed and (digest := pending(charge, staging_area(charge))) is not None:
        return _resume(run, run.ledger.publish(charge, manifest_sha256=digest))
    if charge.attempt >= charge.max_attempts:
        raise Refused(
            f"release {charge.release_id} failed in all its {charge.max_attempts} attempts; what it cost stays spent. "
            "`dpbeam recover` closes it; --refresh then makes a new release and charges it anew"
        )
    runners.check_answers(run.options)
    # The fence first: of two that find the same broken attempt one clears, and never what the other writes.
    taken = run.ledger.retry(charge, Owner.current(), staging_gone=True)
    clear(taken)
    return replace(run, charge=taken)


def _as_published(run: Run) -> Run:
    """The run with the bounds and the noise that its release was made with, where the run had chosen them."""
    manifest = manifests.read_manifest(run.folder / manifests.MANIFEST_NAME)
    if not manifest.chosen_bounds:
        return run
    found = {(bound.stage, bound.metric, bound.parameter): bound.value for bound in manifest.chosen_bounds}
    policy = with_chosen(run.policy, found)
    stages = compiled.stage_specs(policy, manifest.mechanisms)
    return replace(run, stages=stages, chosen=manifest.chosen_bounds)


def _rows(tables: dict[str, pa.Table]) -> dict[str, int]:
    return {f"{stage}.{suffix}": table.num_rows for stage, table in tables.items() for suffix in ("parquet", "csv")}
