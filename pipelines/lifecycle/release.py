"""How a release is made, from the request to what is published, new or found to be there already.

    plan → certify → guard → reserve → start → run the Beam jobs → verify staging → assemble → publish

Each step is one function on one value (`dpbeam.pipelines.lifecycle.values`). A kill between or inside any two of them
leaves the ledger at or above what was really spent, and `dpbeam recover` finishes or closes the run.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from dpbeam._version import __version__
from dpbeam.accounting.plan import plan as make_plan
from dpbeam.accounting.utility import SelectionFigure, selection_figure
from dpbeam.engine.bounding import hierarchy
from dpbeam.engine.release import releaser
from dpbeam.engine.stage import StageSpec
from dpbeam.engine.stage import planned as planned_stages
from dpbeam.errors import DpbeamError, Interrupted, RunFailed
from dpbeam.phases import coverage
from dpbeam.phases.bounds import bounds_phase
from dpbeam.phases.phase import Parameters, Phase
from dpbeam.phases.rounds import phases as selection_phases
from dpbeam.pipelines.lifecycle import index, inputs, publish, remarks, stopping
from dpbeam.pipelines.lifecycle.attempts import (
    STAGING_NAME,
    journalled,
    record_published,
    refuse_coverage,
    settle_stopped,
)
from dpbeam.pipelines.lifecycle.charging import reserve, start
from dpbeam.pipelines.lifecycle.report_facts import metric_columns, render
from dpbeam.pipelines.lifecycle.steps import Progress, Walk, step
from dpbeam.pipelines.lifecycle.values import Assembled, Charged, Checked, Planned, Published, Request, Staged, Verified
from dpbeam.queries.query import Query
from dpbeam.reporting import coverage as words
from dpbeam.reporting import emptied
from dpbeam.reporting import manifest as manifests
from dpbeam.transforms.wire.confidants import confide


def make_release(
    request: Request, progress: Progress = lambda says: None, note: Progress = lambda says: None
) -> Published:
    """Takes a request through its whole lifecycle. `note` is what takes a remark on it before the charge.

    Guarantee: a release that is published satisfies the (ε, δ) its manifest states; the ledger was charged for it
    before the first row was read; what it shows is one draw of each value.

    Raises:
        UsageError: the policy's input or the output folder can't be used; nothing was charged.
        Refused: the budget, or a run of the same release that isn't finished, says no; nothing was charged.
        RunFailed: the run broke off after it was charged; nothing was published.
        Interrupted: a signal ended it. What it staged is removed; the message says what is spent.
    """
    walk = Walk(progress)
    try:
        planned = walk.take(plan, request)
        checked = walk.take(guard, planned)
        said = remarks.of_run(checked)
        for remark in said:
            note(remark)
        reserved = walk.take(reserve, checked)
        if isinstance(reserved, Published):
            return replace(reserved, remarks=said)
        charged = walk.take(start, reserved)
        staged = walk.take(run_job, charged)
        verified = walk.take(verify, staged)
        assembled = walk.take(assemble, verified)
        return replace(walk.take(commit, assembled), remarks=said)
    except (stopping.Stopped, KeyboardInterrupt) as signal:
        with stopping.held():
            stopped = signal if isinstance(signal, stopping.Stopped) else stopping.Stopped(stopping.SIGNALS[0])
            spent = None
            try:
                what, spent = settle_stopped(request.ledger, walk.charge)
            except DpbeamError as error:
                what = f"what it began is left as it was ({error}); `dpbeam recover` settles it"
            raise Interrupted(f"{stopped}; {what}", stopped.exit_code).knowing(spent=spent) from None


@step("Planning and certifying")
def plan(request: Request) -> Planned:
    """Every mechanism of every stage, certified against the run's (ε, δ)."""
    query = request.query
    public = {stage.name: stage.public for stage in query.stages if stage.public is not None}
    if request.engine == "pipelinedp":
        from dpbeam.adapters.reference.plan import (
            reference_plan,  # lazily: it loads PipelineDP, as nothing else here does
        )

        found = reference_plan(query)
        specs = tuple(stage.spec for stage in found.stages)
        parameters = Parameters(query=query, plan=found.plan, stages=specs, public=public)
        return Planned(request=request, parameters=parameters, reference=found.stages)
    made = make_plan(query)
    stages = planned_stages(query, made.mechanisms)
    return Planned(request=request, parameters=Parameters(query=query, plan=made, stages=stages, public=public))


@step("Checking the input and the output")
def guard(planned: Planned) -> Checked:
    """The input is there and has the columns, the noise fits the sums' grid, the output can be written.

    Reads names, sizes, headers and footers, and no values; of the bytes their digest, if the fingerprint is of content.
    """
    found = inputs.resolve(planned.parameters.query.source)
    check_release(planned)
    return Checked(planned=planned, inputs=found)


def check_release(planned: Planned) -> None:
    """What can be known of a release without its input: the noise fits the sums' grid, the output can be written.

    Raises:
        UsageError: it doesn't, or can't.
    """
    request = planned.request
    for spec in coverage.counting(planned.parameters).stages:
        releaser.check(spec)
    publish.check_output(request.output, request.query.dataset, request.output / STAGING_NAME)


@step("Reading, bounding, aggregating and adding noise")
def run_job(charged: Charged) -> Staged:
    """The Beam jobs: the policy's phases, each of which is taken from staging before the next, then the main job, from
    the source to the staged shard files."""
    ledger, charge = charged.request.ledger, charged.charge
    with journalled(ledger, charge, "staging"):
        charged.area.create()
    known = charged.planned.parameters
    for phase in phases(known.query):
        tables = _taken(_run_stages(charged, replace(known, stages=phase.stages(known))))
        with journalled(ledger, charge, "pipeline", drawn=True):
            known = phase.learn(known, tables)
    return _run_stages(charged, coverage.counting(known))


def phases(query: Query) -> tuple[Phase, ...]:
    """The jobs before the main one, in order: bounds first, for what is selected depends on them. Most policies need
    none."""
    return (*bounds_phase(query), *selection_phases(query))


def _run_stages(charged: Charged, known: Parameters) -> Staged:
    from dpbeam.pipelines.jobs import aggregate, workers  # lazily: a release that is there already needs no Beam
    from dpbeam.pipelines.jobs.options import settled
    from dpbeam.transforms.wire.containment import from_runner

    request, found = charged.request, charged.checked.files
    options = settled(request.options)
    shards = found.user_shards(workers.workers(options))
    job = aggregate.Job(
        input=known.query.source,
        splits=found.splits,
        stages=known.stages,
        public=known.public,
        earlier_rounds=known.earlier_rounds,
        user_shards=shards,
        result_shards=request.shards,
        salt=secrets.token_bytes(16),
        area=charged.area,
        one_worker=workers.one_worker(options, shards),
    )
    with journalled(request.ledger, charged.charge, "pipeline"):
        try:
            if request.engine == "pipelinedp":
                from dpbeam.pipelines.jobs import reference

                shuffles = reference.run(job, charged.planned.reference, options)
            else:
                shuffles = aggregate.run(job, options)
        except stopping.ENDS:
            raise
        except BaseException as error:
            stopping.check()  # a runner may make an error of its own of what stopped it
            confide("the runner", error)
            failure = from_runner(error)
        else:
            inputs.check_unchanged(found)
            return Staged(charged=charged, parameters=known, shuffles=shuffles)
        raise failure


@step("Verifying what the job staged")
def verify(staged: Staged) -> Verified:
    """Takes exactly one file a shard from staging, once; everything a release shows is made from these tables."""
    tables = _taken(staged)
    with journalled(staged.charged.request.ledger, staged.charge, "pipeline", drawn=True):
        known = coverage.learn(staged.parameters, tables)
    _check_coverage(staged.charged, known)
    return Verified(
        charged=staged.charged, parameters=known, tables={spec.name: tables[spec.name] for spec in known.stages}
    )


def _check_coverage(charged: Charged, known: Parameters) -> None:
    """Refuses to publish where a stage kept a smaller share of rows than the policy's floor. That it does follows from
    noisy figures alone, and they are all that is said.

    Raises:
        RunFailed: it did. The charge is closed, so that nobody draws for it again.
    """
    floor = charged.request.min_coverage
    below = [each for each in known.coverage if floor is not None and not each.rows_kept >= floor]
    if not below:
        return
    told = tuple(map(words.sentence, below))
    spent = refuse_coverage(charged.request.ledger, charged.charge, told)
    raise RunFailed(
        f"guardrails.min_coverage demands {words.percent(floor or 0)} of rows, and fewer are left, so nothing was "
        "published. `dpbeam check` shows which rows are lost. The same command is refused from now on, and no other "
        "figure is drawn for it",
        *told,
    ).knowing(spent=spent)


def _taken(staged: Staged) -> dict[str, pa.Table]:
    """The tables of a job's stages, by name.

    Raises:
        RunFailed: the control totals of a shuffle weren't confirmed, or a file isn't as it must be.
    """
    request, area = staged.charged.request, staged.charged.area
    with journalled(request.ledger, staged.charge, "staging", drawn=True):
        missing = [shuffle.name for shuffle in staged.shuffles if not area.has_marker(shuffle.name)]
        if missing:
            raise RunFailed(
                f"the control totals of shuffle {missing[0]} were not confirmed: the runner lost data, so nothing was "
                "published. Run again; if it fails again, use another runner or running mode."
            )
        tables = {}
        for spec in staged.parameters.stages:
            table = area.read_stage(spec.name, request.shards)
            if spec.hierarchical:
                table = hierarchy.shown(table, spec.leaf_keys)
            tables[spec.name] = table.sort_by([(key, "ascending") for key in spec.keys]) if spec.keys else table
        return tables


@step("Writing results and report")
def assemble(verified: Verified) -> Assembled:
    """Writes the release's files, all but the manifest, where nobody else can see them yet."""
    charged, charge, known, tables = verified.charged, verified.charge, verified.parameters, verified.tables
    request = charged.request
    query, ledger = request.query, request.ledger
    with journalled(ledger, charge, "publish", drawn=True):
        folder = charged.area.create_release()
        columns = {spec.name: metric_columns(spec) for spec in known.stages}
        publish.write_tables(folder, tables, columns, manifests.by_stage(known.chosen), request.period, known.coverage)
        amount = charge.amount.to_json()
        manifest = manifests.Manifest(
            release_id=charge.release_id,
            release_name=request.release_name,
            dataset=query.dataset,
            created=f"{publish.begun(charge.release_id):%Y-%m-%dT%H:%M:%SZ}",
            dpbeam_version=__version__,
            policy_digest=query.digest,
            input_fingerprint=charged.checked.published_fingerprint(charge.release_id),
            guarantee=manifests.Guarantee(epsilon=known.plan.epsilon, delta=known.plan.delta, unit=query.unit or "row"),
            certificate=manifests.StatedCertificate(**known.plan.certificate.to_json()),
            mechanisms=known.plan.mechanisms,
            charge=manifests.Charge(id=charge.id, meter="basic", epsilon=amount["epsilon"], delta=amount["delta"]),
            files=publish.entries(folder, _rows(tables)),
            engine=request.engine,
            chosen_bounds=known.chosen,
            about=request.about,
            period=request.period,
            coverage=known.coverage,
        )
        report = render(manifest, known, tables, ledger.balance(query.dataset))
        (folder / manifests.REPORT_NAME).write_text(report, encoding="utf-8")
        files = publish.entries(folder, _rows(tables), manifests.REPORT_NAME)
        return Assembled(charged=charged, parameters=known, manifest=replace(manifest, files=files))


@step("Publishing", held=True)
def commit(assembled: Assembled) -> Published:
    """The atomic step: the ledger decides, by the run's fence, that this release is out; then one rename shows it."""
    request, area, known = assembled.charged.request, assembled.charged.area, assembled.parameters
    with journalled(request.ledger, assembled.charge, "publish", drawn=True):
        manifest_sha256 = publish.write_manifest(Path(area.release), assembled.manifest)
        area.remove_shards()
    charge = record_published(request.ledger, assembled.charge, manifest_sha256)
    published = Published(
        request=request, charge=charge, stages=known.stages, chosen=known.chosen, coverage=known.coverage
    )
    publish.complete(Path(area.release), published.folder, manifest_sha256)
    unlisted = index.refresh(request.ledger, charge, Path(area.beside_release(index.INDEX_NAME)))
    area.remove_empty()
    return replace(published, unlisted=unlisted)


def run_json(done: Published) -> dict[str, object]:
    """What `dpbeam run --json` prints; see docs/formats.md."""
    stated = manifests.read_manifest(done.folder / manifests.MANIFEST_NAME)
    manifest = stated.to_json()
    more: dict[str, object] = {name: manifest[name] for name in ("chosen_bounds", "coverage") if name in manifest}
    said = {
        "remarks": list(filter(None, (*done.remarks, remarks.of_page(done)))),
        "empty": [{"stage": spec.name, "why": emptied.why(_needed(spec))} for spec in _empty(done, stated)],
    }
    said = {name: each for name, each in said.items() if each}
    return {
        "version": 3 if said else 2 if more else 1,
        "release_id": manifest["release_id"],
        "path": str(done.folder),
        "cached": done.cached,
        "guarantee": manifest["guarantee"],
        "charge": manifest["charge"],
        **more,
        **said,
    }


def _empty(done: Published, manifest: manifests.Manifest) -> Iterator[StageSpec]:
    """The stages whose tables have no row."""
    rows = {entry.path: entry.rows for entry in manifest.files}
    return (spec for spec in done.stages if rows[f"{spec.name}.parquet"] == 0)


def _needed(spec: StageSpec) -> SelectionFigure | None:
    return None if spec.selection is None else selection_figure(spec.selection)


def _rows(tables: Mapping[str, pa.Table]) -> dict[str, int]:
    return {f"{stage}.{suffix}": table.num_rows for stage, table in tables.items() for suffix in ("parquet", "csv")}
