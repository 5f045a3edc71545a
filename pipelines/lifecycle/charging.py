"""What a release costs: held in the ledger, then spent for good before the first row is read; or found to be paid.

A charge of the same release that isn't closed is gone on with: its published bytes come back, or another attempt is
made under it, at no further cost.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path

from dpbeam.engine.stage import planned
from dpbeam.errors import Refused
from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.owner import Owner, alive
from dpbeam.ledger.refusals import KeyTaken
from dpbeam.ledger.scope import Scope
from dpbeam.pipelines.lifecycle import identity, publish
from dpbeam.pipelines.lifecycle.attempts import clear, staging_area
from dpbeam.pipelines.lifecycle.inputs import Inputs, PipelineRows
from dpbeam.pipelines.lifecycle.ownership import check_named, pending
from dpbeam.pipelines.lifecycle.steps import step
from dpbeam.pipelines.lifecycle.values import Charged, Checked, Published, Request, Reserved
from dpbeam.queries.automatic import Key
from dpbeam.reporting import manifest as manifests


@step("Reserving the budget", held=True)
def reserve(checked: Checked) -> Reserved | Published:
    """Holds the run's cost in the ledger, or finds that the same release was paid for before."""
    request, key = checked.request, _key(checked)
    query, ledger = request.query, request.ledger
    known = ledger.find(query.dataset, key)
    if known is not None and (not request.refresh or known.state in ("RESERVED", "STARTED")):
        return _resume(checked, known)
    _check_runner(request)
    release_id = publish.new_release_id(datetime.now(timezone.utc))
    try:
        charge = ledger.reserve(
            query.dataset,
            key,
            Amount.charge(query.epsilon, query.delta),
            owner=Owner.current(),
            scope=_scope(checked),
            policy_digest=query.digest,
            release_id=release_id,
            path=str((request.output / query.dataset / release_id).absolute()),
            max_attempts=request.max_attempts,
            cap_stated=request.cap,
            refresh=request.refresh,
            accept_source=request.accept_source,
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


def _scope(checked: Checked) -> Scope:
    match checked.inputs:
        case PipelineRows() as rows:
            return identity.scope(checked.request.query, [], rows.source)
        case Inputs() as inputs:
            return identity.scope(checked.request.query, [file.path for file in inputs.files])


def _key(checked: Checked) -> str:
    """The idempotency key: the same policy on the same input under the same name, by the same engine, is the same
    release."""
    request = checked.request
    engine = [] if request.engine == "dpbeam" else [request.engine]
    identity = json.dumps([request.query.digest, checked.fingerprint, request.release_name, *engine])
    return hashlib.sha256(identity.encode()).hexdigest()


def _resume(checked: Checked, charge: Charge) -> Reserved | Published:
    """Goes on with a charge of the same release: the published bytes, another attempt, or a refusal."""
    match charge.state:
        case "PUBLISHED":
            area = staging_area(charge)
            check_named(charge, [area])
            publish.complete(Path(area.release), publish.release_folder(charge), publish.manifest_digest(charge))
            area.remove_shards()
            area.remove_empty()
            return _as_published(checked, charge)
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
    ledger = checked.request.ledger
    if charge.state == "RESERVED":
        ledger.refund(charge)
        return reserve(checked)
    if not charge.failed and (digest := pending(charge, staging_area(charge))) is not None:
        return _resume(checked, ledger.publish(charge, manifest_sha256=digest))
    if charge.attempt >= charge.max_attempts:
        raise Refused(
            f"release {charge.release_id} failed in all its {charge.max_attempts} attempts; what it cost stays spent. "
            "`dpbeam recover` closes it; --refresh then makes a new release and charges it anew"
        )
    _check_runner(checked.request)
    # The fence first: of two that find the same broken attempt one clears, and never what the other writes.
    taken = ledger.retry(charge, Owner.current(), staging_gone=True)
    clear(taken)
    return Reserved(checked=checked, charge=taken)


def _check_runner(request: Request) -> None:
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
    return Published(request=request, charge=charge, stages=stages, chosen=manifest.chosen_bounds, cached=True)
