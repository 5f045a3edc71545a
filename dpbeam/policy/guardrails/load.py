"""Loading guardrails: from the organisation's file, or from the canonical text that a ledger keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dpbeam.errors import LedgerError
from dpbeam.policy.guardrails.schema import OrganisationGuardrails
from dpbeam.policy.violations import PolicyError, Violation, dotted, shown
from dpbeam.policy.yamlfile import Document, read_yaml

_REMEDY = "docs/guardrails.md lists the keys, and what each takes."


def load_guardrails(path: str | Path) -> OrganisationGuardrails:
    """Reads and checks the organisation's file.

    Raises:
        PolicyError: it can't be read, or isn't such a file; names every key that is wrong.
    """
    document = read_yaml(Path(path))
    found = [
        Violation(
            file=document.file,
            line=finding.line or document.line(finding.key),
            key=dotted(finding.key),
            value=shown(finding.value),
            rule=finding.rule,
            remedy=finding.remedy,
        )
        for finding in document.findings
    ]
    try:
        made = OrganisationGuardrails.model_validate(document.data)
    except ValidationError as error:
        found += [_violation(document, each) for each in error.errors(include_url=False)]
    if found:
        raise PolicyError(found)
    return made


def guardrails_of(text: str) -> OrganisationGuardrails:
    """Those whose canonical text a ledger keeps.

    Raises:
        LedgerError: they are of a later version of dpbeam.
    """
    try:
        return OrganisationGuardrails.model_validate(json.loads(text))
    except ValidationError:
        raise LedgerError(
            "the ledger's guardrails have keys that this version of dpbeam doesn't know; a later one does: use that"
        ) from None


def _violation(document: Document, error: Mapping[str, Any]) -> Violation:
    key = tuple(part for part in error["loc"] if part != "[key]")
    said = str(error["msg"])
    rule = {"extra_forbidden": "is no key of guardrails", "missing": "is required"}.get(error["type"], said)
    return Violation(
        file=document.file,
        line=document.line(key),
        key=dotted(key),
        value=None if error["type"] == "missing" else shown(error["input"]),
        rule=rule if rule.startswith(("is ", "must ")) else f"is wrong ({rule})",
        remedy=_REMEDY,
    )
