"""What a person, or a program, sees of policies under review: a check, a difference, a history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from rich.console import Group, RenderableType
from rich.table import Table

from dpbeam.ledger.entries import JournalEntry
from dpbeam.ledger.governance.enforcing import Place, fault
from dpbeam.ledger.governance.facts import PolicyFact, form, said
from dpbeam.ledger.governance.state import Governance, PolicyVersion
from dpbeam.pipelines.cli.printing import line
from dpbeam.pipelines.governance.difference import Change
from dpbeam.pipelines.governance.figures import TOPICS, Reviewed, Value
from dpbeam.policy.guardrails.schema import OrganisationGuardrails
from dpbeam.reporting.numbers import exact, significant


def check(made: Reviewed, held: OrganisationGuardrails | None) -> RenderableType:
    """A policy that is valid and keeps to the guardrails."""
    table = _table(f"Policy of {made.policy.dataset}: valid, {made.policy.digest}", "", "")
    for topic in ("guarantee", "cost", "noise", "partitions"):
        for (of, name), value in made.figures.items():
            if of == topic:
                table.add_row(*map(line, (_name(topic, name), _shown(topic, value))))
    kept = "No guardrails are named; none were checked." if held is None else f"Within the guardrails {held.digest}."
    return Group(table, line(kept))


def check_json(made: Reviewed, held: OrganisationGuardrails | None) -> dict[str, Any]:
    figures = [
        {"topic": topic, "name": name, "value": value}
        for (topic, name), value in made.figures.items()
        if topic in ("guarantee", "cost", "noise", "partitions")
    ]
    return {
        "version": 1,
        "dataset": made.policy.dataset,
        "policy_digest": made.policy.digest,
        "guardrails": None if held is None else held.digest,
        "figures": figures,
    }


def diff(old: tuple[str, Reviewed], new: tuple[str, Reviewed], found: Sequence[Change]) -> RenderableType:
    """What changes, by topic."""
    lines = [line(f"{name}: {made.policy.digest}") for name, made in (old, new)]
    if not found:
        return Group(*lines, line("They say the same."))
    tables = []
    for topic, title in TOPICS.items():
        of_topic = [change for change in found if change.topic == topic]
        if of_topic:
            table = _table(title, "", "before", "after", "")
            for change in of_topic:
                table.add_row(
                    *map(line, (change.name, _shown(topic, change.before), _shown(topic, change.after), change.meaning))
                )
            tables.append(table)
    same = [title.lower() for topic, title in TOPICS.items() if not any(change.topic == topic for change in found)]
    return Group(*lines, *tables, *([line(f"Unchanged: {'; '.join(same)}.")] if same else []))


def diff_json(old: Reviewed, new: Reviewed, found: Sequence[Change]) -> dict[str, Any]:
    return {
        "version": 1,
        "old": {"dataset": old.policy.dataset, "policy_digest": old.policy.digest},
        "new": {"dataset": new.policy.dataset, "policy_digest": new.policy.digest},
        "changes": [change.to_json() for change in found],
    }


def history(dataset: str, governance: Governance, place: Place, entries: Sequence[JournalEntry]) -> RenderableType:
    """A dataset's versions, and what was done to them."""
    table = _table(f"Versions of the policy of {dataset}", "#", "digest", "by", "approvals", "")
    for version in governance.versions:
        approvals = ", ".join(_approval(governance, version, place))
        active = "active" if version.number == governance.active else ""
        table.add_row(*map(line, (str(version.number), version.digest[:19], version.submitter, approvals, active)))
    bound = governance.guardrails_digest
    lines = ["No guardrails are bound." if bound is None else f"Bound to the guardrails {bound}."]
    lines += [f"{entry.time[:19]} {entry.actor}: {said(fact)}" for entry, fact in _of_policies(entries)]
    return Group(table, *map(line, lines))


def history_json(dataset: str, governance: Governance, place: Place, entries: Sequence[JournalEntry]) -> dict[str, Any]:
    versions = [
        version_json(version)
        | {"active": version.number == governance.active, "counted": _counted(governance, version, place)}
        for version in governance.versions
    ]
    events = [
        {"seq": entry.seq, "time": entry.time, "actor": entry.actor, "kind": form(fact)[0], "says": said(fact)}
        for entry, fact in _of_policies(entries)
    ]
    return {
        "version": 1,
        "dataset": dataset,
        "guardrails": governance.guardrails_digest,
        "approvals_needed": governance.people.needed,
        "active": governance.active,
        "versions": versions,
        "events": events,
    }


def version_json(version: PolicyVersion) -> dict[str, Any]:
    return {
        "number": version.number,
        "policy_digest": version.digest,
        "submitter": version.submitter,
        "signed": version.key is not None,
        "approvals": [{"by": each.by, "expires": each.expires} for each in version.approvals],
    }


def _of_policies(entries: Sequence[JournalEntry]) -> list[tuple[JournalEntry, PolicyFact]]:
    return [(entry, entry.fact) for entry in entries if isinstance(entry.fact, get_args(PolicyFact))]


def _counted(governance: Governance, version: PolicyVersion, place: Place) -> list[str]:
    return [each.by for each in version.approvals if fault(governance, version, each, place) is None]


def _approval(governance: Governance, version: PolicyVersion, place: Place) -> list[str]:
    return [
        f"{each.by} until {each.expires[:10]}" if (why := fault(governance, version, each, place)) is None else why
        for each in version.approvals
    ]


def _table(title: str, *headings: str) -> Table:
    table = Table(title=line(title), title_justify="left", min_width=60)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place in (0, 3, 4) else "right", overflow="fold")
    return table


def _name(topic: str, name: str) -> str:
    prefix = {"noise": "noise of ", "partitions": "people, "}.get(topic, "")
    return f"{prefix}{name}"


def _shown(topic: str, value: Value | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return significant(value) if topic == "noise" else exact(value)
    return f"{value:,}" if isinstance(value, int) else value
