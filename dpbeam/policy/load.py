"""Loading a policy file: a `Policy` that keeps every rule, or one `PolicyError` with all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dpbeam.policy.checks.cross import cross_findings
from dpbeam.policy.checks.fields import REMEDIES, field_findings
from dpbeam.policy.checks.valid_parts import ValidParts, valid_parts
from dpbeam.policy.derived import derived_columns
from dpbeam.policy.lookups import lookup_tables
from dpbeam.policy.public import BadPartitions, public_table
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.schema.resolved import DerivedColumns, PublicPartitions, Resolved
from dpbeam.policy.violations import ABSENT as _ABSENT
from dpbeam.policy.violations import Finding, PolicyError, Violation, dotted, shown
from dpbeam.policy.yamlfile import Document, parse_yaml, read_yaml

Remedies = Mapping[tuple[str, ...], str]


def load_policy(path: str | Path, *, source: Sequence[str] | None = None, output: str | None = None) -> schema.Policy:
    """Reads, checks and completes a policy.

    `source` and `output` stand in for `source.path` and `output.path`, relative to the current folder; the policy's
    own source paths are relative to its folder, and come out usable. Paths with a scheme (`gs://…`) are kept.

    Raises:
        PolicyError: all violations at once, each with its line, key, value, rule and remedy.
    """
    return _checked(read_yaml(Path(path)), Path(path).parent, source, output, {})


def load_text(text: str, *, name: str, folder: str | Path = "") -> schema.Policy:
    """The policy whose file has this text; relative paths start at `folder`, and errors call it `name`.

    Raises:
        PolicyError: as `load_policy`.
    """
    return _checked(parse_yaml(text, name), Path(folder), None, None, {})


def policy_of(
    data: Mapping[str, Any], *, name: str = "query", folder: str | Path = "", remedies: Remedies | None = None
) -> schema.Policy:
    """The policy that plain data state, key by key as a file does; relative paths start at `folder`. Errors call it
    `name`, for it has no lines, and say the `remedies` of keys, by their names without places in lists, where else they
    would say how a file is written.

    Raises:
        PolicyError: as `load_policy`.
    """
    return _checked(Document(file=name, data=dict(data)), Path(folder), None, None, remedies or {})


def _checked(
    document: Document, folder: Path, source: Sequence[str] | None, output: str | None, remedies: Remedies
) -> schema.Policy:
    findings = [*document.findings, *field_findings(document.data)]
    known = valid_parts(document.data)
    findings += cross_findings(known)
    public, unusable = _read_public(known, folder)
    looked_up = lookup_tables(known, folder)
    findings += [*unusable, *looked_up.findings]
    if findings:
        raise PolicyError(_placed(document, findings, remedies))
    derived = DerivedColumns(columns=derived_columns(known, looked_up.tables), digests=looked_up.digests)
    policy = schema.Policy.model_validate(document.data, context=Resolved(public=public, derived=derived))
    paths = tuple(source) if source else tuple(_relative(folder, each) for each in policy.source.path)
    return policy.relocated(source=paths, output=output)


def _read_public(known: ValidParts, folder: Path) -> tuple[PublicPartitions, list[Finding]]:
    """Every stage's public partitions, and what is wrong with those that can't be used."""
    findings: list[Finding] = []
    tables: dict[str, pa.Table] = {}
    digests: dict[str, str] = {}
    for index, stage in enumerate(known.stages):
        public = None if stage.partitions is None else stage.partitions.public
        keys = [key for key in stage.group_by if key is not None]
        types = [kind for key in keys if (kind := known.type_of(key)) is not None and kind != "float64"]
        if public is None or stage.name is None or not keys or not len(types) == len(keys) == len(set(keys)):
            continue
        try:
            at = ("stages", index, "partitions", "public")
            tables[stage.name], digest = public_table(public, keys, types, folder, at)
            if digest is not None:
                digests[stage.name] = digest
        except BadPartitions as error:
            findings.append(error.finding)
    return PublicPartitions(tables=tables, digests=digests), findings


def _relative(folder: Path, path: str) -> str:
    return path if "://" in path else str(folder / path)


def _remedy(finding: Finding, remedies: Remedies) -> str:
    path = tuple(part for part in finding.key if isinstance(part, str))
    usual = finding.value is _ABSENT or (path and finding.remedy == REMEDIES.get(path[-1]))
    return remedies.get(path, finding.remedy) if usual else finding.remedy


def _placed(document: Document, findings: Sequence[Finding], remedies: Remedies) -> list[Violation]:
    placed = {
        (finding.key, finding.rule, finding.line): Violation(
            file=document.file,
            line=finding.line or (place[0] if place else document.line(finding.key)),
            column=place[1] if place else None,
            key=dotted(finding.key),
            value=None if finding.value is _ABSENT else shown(finding.value),
            rule=finding.rule,
            remedy=_remedy(finding, remedies),
        )
        for finding in findings
        for place in [None if finding.offset is None else document.place(finding.key, finding.offset)]
    }
    return sorted(placed.values(), key=lambda violation: (violation.line or 0, violation.key))
