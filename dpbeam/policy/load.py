"""A policy file comes in; a `Policy` that keeps every rule goes out, or a `PolicyError` with all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dpbeam.policy.checks.cross import cross_findings
from dpbeam.policy.checks.fields import field_findings
from dpbeam.policy.checks.parts import Parts, parts
from dpbeam.policy.derived import derived_columns
from dpbeam.policy.lookups import lookup_tables
from dpbeam.policy.public import BadPartitions, public_table
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.violations import ABSENT as _ABSENT
from dpbeam.policy.violations import Finding, PolicyError, Violation, dotted, shown
from dpbeam.policy.yamlfile import Document, read_yaml


def load_policy(path: str | Path, *, source: Sequence[str] | None = None, output: str | None = None) -> schema.Policy:
    """Reads, checks and completes a policy.

    `source` and `output` stand in for `source.path` and `output.path`, relative to the current folder; the policy's
    own source paths are relative to its folder, and come out usable. Paths with a scheme (`gs://…`) are kept.

    Raises:
        PolicyError: all violations at once, each with its line, key, value, rule and remedy.
    """
    return _checked(read_yaml(Path(path)), Path(path).parent, source, output)


def policy_of(data: Mapping[str, Any], *, name: str = "query", folder: str | Path = "") -> schema.Policy:
    """The policy that plain data state, key by key as a file does; relative paths start at `folder`. Errors call it
    `name`, for it has no lines.

    Raises:
        PolicyError: as `load_policy`.
    """
    return _checked(Document(file=name, data=dict(data)), Path(folder), None, None)


def _checked(document: Document, folder: Path, source: Sequence[str] | None, output: str | None) -> schema.Policy:
    found = [*document.findings, *field_findings(document.data)]
    known = parts(document.data)
    found += cross_findings(known)
    tables: dict[str, pa.Table] = {}
    digests: dict[str, str] = {}
    found += _read_public(known, folder, tables, digests)
    looked_up = lookup_tables(known, folder)
    found += looked_up.findings
    if found:
        raise PolicyError(_placed(document, found))
    policy = schema.Policy.model_validate(document.data)
    paths = tuple(source) if source else tuple(_relative(folder, each) for each in policy.source.path)
    updates = {
        "source": policy.source.model_copy(update={"path": paths}),
        "output": policy.output if output is None else policy.output.model_copy(update={"path": output}),
    }
    loaded = schema.with_public_files(policy.model_copy(update=updates), tables, digests)
    return schema.with_derived(loaded, derived_columns(known, looked_up.tables), looked_up.digests)


def _read_public(known: Parts, folder: Path, tables: dict[str, pa.Table], digests: dict[str, str]) -> list[Finding]:
    """Resolves every stage's public partitions; fills `tables` and `digests` by stage name."""
    found = []
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
            found.append(error.finding)
    return found


def _relative(folder: Path, path: str) -> str:
    return path if "://" in path else str(folder / path)


def _placed(document: Document, found: Sequence[Finding]) -> list[Violation]:
    placed = {
        (finding.key, finding.rule, finding.line): Violation(
            file=document.file,
            line=finding.line or (place[0] if place else document.line(finding.key)),
            column=place[1] if place else None,
            key=dotted(finding.key),
            value=None if finding.value is _ABSENT else shown(finding.value),
            rule=finding.rule,
            remedy=finding.remedy,
        )
        for finding in found
        for place in [None if finding.offset is None else document.place(finding.key, finding.offset)]
    }
    return sorted(placed.values(), key=lambda violation: (violation.line or 0, violation.key))
