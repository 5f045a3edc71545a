"""What a release costs: held in the ledger, then spent for good before the first row is read; or found to be paid.

A charge of the same release that isn't closed is gone on with: its published bytes come back, or another attempt is
made under it, at no further cost.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from dpbeam._version import __version__
from dpbeam.engine.stage import planned
from dpbeam.errors import Refused
from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.canonical import canonical
from dpbeam.ledger.entries import AttemptFailed
from dpbeam.ledger.governance.enforcing import Configuration
from dpbeam.ledger.ledger import Ledger
from dpbeam.ledger.owner import Owner, alive
from dpbeam.ledger.refusals import KeyTaken
from dpbeam.ledger.reserving import Claim
from dpbeam.ledger.scope import Scope
from dpbeam.mechanisms import events
from dpbeam.pipelines.lifecycle import guarding, identity, keys, publish
from dpbeam.pipelines.lifecycle.attempts import clear, coverage_refusal, staging_area
from dpbeam.pipelines.lifecycle.inputs import Inputs, PipelineRows
from dpbeam.pipelines.lifecycle.metered import cost_in
from dpbeam.pipelines.lifecycle.ownership import check_named, pending
from dpbeam.pipelines.lifecycle.steps import step
from dpbeam.pipelines.lifecycle.values import Charged, Checked, Published, Request, Reserved
from dpbeam.policy.digest import digest_of
from dpbeam.queries.automatic import Key
from dpbeam.reporting import manifest as manifests


@step("Reserving the budget", held=True)
def reserve(checked: Checked) -> Reserved | Published:
    """Holds the run's cost in the ledger, or finds that the same release was paid for before."""
    request, claim = checked.request, claim_of(checked)
    query, ledger = request.query, request.ledger
    known = keys.known(checked)
    if known is not None and (not request.refresh or known.state in ("RESERVED", "STARTED")):
        return _resume(checked, known)
    check_runner(request)
    release_id = publish.new_release_id(datetime.now(timezone.utc))
    try:
        charge = ledger.reserve(
            claim.dataset,
            claim.key,
            claim.amount,
            owner=Owner.current(),
            scope=claim.scope,
            policy_digest=query.digest,
            release_id=release_id,
            path=str((request.output / query.dataset / release_id).absolute()),
            events=canonical([events.to_json(each) for each in checked.planned.parameters.plan.mechanisms]),
            max_attempts=request.max_attempts,
            cap_stated=claim.cap_stated,
            meter_stated=claim.meter_stated,
            refresh=claim.refresh,
            accept_source=claim.accept_source,
            configuration=claim.configuration,
        )
    except KeyTaken as taken:
        return _resume(checked, taken.charge)
    return Reserved(checked=checked, charge=charge)


@step("Charging the ledger", held=True)
def start(reserved: Reserved) -> Charged:
    """Marks the charge as spent for good, durably, before the first row is read."""
    charge = reserved.charge
    if charge.state == "RESERVED":  # a retry under its own charge is started already
        charge = reserved.checked.request.ledger.start(charge)
    return Charged(checked=reserved.checked, charge=charge)


def claim_of(checked: Checked) -> Claim:
    """What the run asks the ledger for. Raises GuardrailsBroken if it reads what the guardrails don't allow."""
    request, scope, planned = checked.request, _scope(checked), checked.planned.parameters.plan
    guarding.check_source(request.guardrails, request.query.dataset, scope.sources, scope.files)
    meter = request.ledger.meter(request.query.dataset)
    return Claim(
        dataset=request.query.dataset,
        key=keys.key_of(checked),
        amount=cost_in(meter, planned.mechanisms, epsilon=request.query.epsilon, delta=request.query.delta),
        scope=scope,
        policy_digest=request.query.digest,
        configuration=_configuration(checked),
        cap_stated=request.cap,
        meter_stated=request.meter,
        refresh=request.refresh,
        accept_source=request.accept_source,
    )


def _configuration(checked: Checked) -> Configuration:
    """What the journal says of the run beside its policy."""
    held = checked.request.guardrails
    return Configuration(
        plan_digest=digest_of(checked.planned.parameters.plan.to_json()),
        code=f"dpbeam {__version__}",
        guardrails=None if held is None else held.digest,
    )


def _scope(checked: Checked) -> Scope:
    match checked.inputs:
        case PipelineRows() as rows:
            return identity.scope(checked.request.query, [], rows.source)
        case Inputs() as inputs:
            return identity.scope(checked.request.query, [file.path for file in inputs.files])


def _resume(checked: Checked, charge: Charge) -> Reserved | Published:
    """Goes on with a charge of the same release: the published bytes, another attempt, or a refusal."""
    if charge.state == "PUBLISHED":
        area = staging_area(charge)
        check_named(charge, [area])
        publish.complete(Path(area.release), publish.release_folder(charge), publish.manifest_digest(charge))
        area.remove_shards()
        area.remove_empty()
        return _as_published(checked, charge)
    ledger = checked.request.ledger
    check_free(ledger, charge)
    if charge.state == "RESERVED":
        ledger.refund(charge)
        return reserve(checked)
    if charge.failed and (refusal := coverage_refusal(ledger, charge)):  # it was killed before its charge was closed
        clear(ledger.close(charge))
        raise too_little(charge, refusal)
    if not charge.failed and (digest := pending(charge, staging_area(charge))) is not None:
        return _resume(checked, ledger.publish(charge, manifest_sha256=digest))
    check_attempts(charge)
    check_runner(checked.request)
    # The fence first: of two that find the same broken attempt one clears, and never what the other writes.
    taken = ledger.retry(charge, Owner.current(), staging_gone=True)
    clear(taken)
    return Reserved(checked=checked, charge=taken)


def check_free(ledger: Ledger, charge: Charge) -> None:
    """Whether a run may go on with a charge of the same release that isn't published.

    Raises:
        Refused: it was closed, or refused for its coverage, or another run is at work on it, or may be.
    """
    if charge.state == "SPENT_UNPUBLISHED":
        if refusal := coverage_refusal(ledger, charge):
            raise too_little(charge, refusal)
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


def check_attempts(charge: Charge) -> None:
    """Whether another attempt may be made under a charge whose last one broke off.

    Raises:
        Refused: it has had all its attempts.
    """
    if charge.attempt >= charge.max_attempts:
        raise Refused(
            f"release {charge.release_id} failed in all its {charge.max_attempts} attempts; what it cost stays spent. "
            "`dpbeam recover` closes it; --refresh then makes a new release and charges it anew"
        )


def too_little(charge: Charge, refusal: AttemptFailed) -> Refused:
    """What is said of a release that was refused for its coverage, with the figures that its one draw gave."""
    return Refused(
        f"release {charge.release_id} of this policy, input and name kept a smaller share of rows than "
        "guardrails.min_coverage, so it was not published; what it cost stays spent, and no other figure is drawn for "
        "it. `dpbeam check` shows which rows are lost; another policy or source is another release, and --refresh "
        "makes this one anew: each is charged",
        *refusal.told,
    )


def check_runner(request: Request) -> None:
    """Whether the job can be started, as far as can be known before it is charged.

    Raises:
        UsageError: Beam isn't there, or the runner that the options name doesn't answer.
    """
    from dpbeam.pipelines.jobs import options, runners  # lazily: a release that is there already needs no Beam

    runners.check_answers(options.settled(request.options))


def _as_published(checked: Checked, charge: Charge) -> Published:
    """The release with the bounds and the noise that it was made with, where its run had chosen them."""
    request, stages = checked.request, checked.planned.parameters.stages
    manifest = manifests.read_manifest(publish.release_folder(charge) / manifests.MANIFEST_NAME)
    if manifest.chosen_bounds:
        found: dict[Key, float] = {(b.stage, b.metric, b.parameter): b.value for b in manifest.chosen_bounds}
        stages = planned(checked.planned.parameters.query.with_chosen(found), manifest.mechanisms)
    return Published(
        request=request,
        charge=charge,
        stages=stages,
        chosen=manifest.chosen_bounds,
        coverage=manifest.coverage,
        cached=True,
    )
