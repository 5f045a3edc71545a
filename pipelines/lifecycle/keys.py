"""The idempotency key: by it the ledger knows that a release was made before.

A key has two digests where the input is known by its files' names, sizes and times: one of all that makes the release
what it is, and one of the same but the times. By the second a run notices that only times differ from a release that
was made. Keys of earlier versions are the first digest alone, and are still looked for.
"""

from __future__ import annotations

import hashlib
import json

from dpbeam.ledger.accounts import Charge
from dpbeam.pipelines.lifecycle.inputs import Inputs
from dpbeam.pipelines.lifecycle.values import Checked


def key_of(checked: Checked) -> str:
    """The same policy on the same input under the same name, by the same engine, is the same release."""
    same_but_times = _but_times(checked)
    return _identity(checked) if same_but_times is None else f"{_identity(checked)}{same_but_times}"


def known(checked: Checked) -> Charge | None:
    """The charge of the same release, as `Ledger.find` says; also one of an earlier version."""
    ledger, dataset = checked.request.ledger, checked.request.query.dataset
    return ledger.find(dataset, key_of(checked)) or ledger.find(dataset, _identity(checked))


def remark(checked: Checked) -> str | None:
    """What is worth saying before a new release is charged: that one was published under the same name, by the same
    policy, of files with the same names and sizes, and other times of change. None in all other cases."""
    same_but_times, request = _but_times(checked), checked.request
    if same_but_times is None or request.refresh or known(checked) is not None:
        return None
    charges = request.ledger.charges(request.query.dataset)
    alike = [each for each in charges if each.state == "PUBLISHED" and each.key.endswith(same_but_times)]
    if not alike:
        return None
    return (
        f"release {alike[-1].release_id} of the same name was made of files with the same names and sizes, but other "
        "times of change: this is another input, and a new release that is charged. If the bytes are the same, that "
        "release is what you want. From the next release on, source.fingerprint: content in the policy knows files by "
        "their bytes"
    )


def _identity(checked: Checked) -> str:
    return _digest(checked, checked.fingerprint)


def _but_times(checked: Checked) -> str | None:
    inputs = checked.inputs
    if not isinstance(inputs, Inputs):
        return None
    fingerprint = inputs.fingerprint_but_times(checked.request.ledger.secret())
    return None if fingerprint is None else f".{_digest(checked, fingerprint)}"


def _digest(checked: Checked, fingerprint: str) -> str:
    request = checked.request
    engine = [] if request.engine == "dpbeam" else [request.engine]
    stated = json.dumps([request.query.digest, fingerprint, request.release_name, *engine])
    return hashlib.sha256(stated.encode()).hexdigest()
