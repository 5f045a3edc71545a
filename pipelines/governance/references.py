"""Which policy is meant: a file, or a version that a ledger keeps (`visits@active`, `visits@latest`, `visits@3`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dpbeam.errors import Refused, UsageError
from dpbeam.ledger import open_ledger
from dpbeam.ledger.governance.book import PolicyBook, version_of
from dpbeam.ledger.governance.facts import PolicySubmitted
from dpbeam.policy.load import load_text
from dpbeam.policy.schema.policy import Policy

_VERSION = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})@(active|latest|[1-9][0-9]{0,8})")


@dataclass(frozen=True, kw_only=True)
class NamedPolicy:
    """A policy, and how it was named."""

    name: str
    policy: Policy


def named(reference: str, ledger_url: str) -> NamedPolicy:
    """The policy that `reference` names.

    Raises:
        PolicyError: the file isn't there, or isn't a policy.
        Refused: there is no such version.
        UsageError: files that the version was submitted with aren't here, or have changed.
    """
    match = _VERSION.fullmatch(reference)
    if match is None or Path(reference).exists():
        return NamedPolicy(name=reference, policy=read_file(Path(reference))[0])
    dataset, which = match.groups()
    book = PolicyBook(ledger=open_ledger(ledger_url, reading=True))
    return NamedPolicy(name=reference, policy=policy_of(dataset, book.submitted(dataset, number(book, dataset, which))))


def number(book: PolicyBook, dataset: str, which: str) -> int:
    """The number of the `active` version, of the `latest`, or the number that is written there.

    Raises:
        Refused: there is none.
    """
    governance = book.governance(dataset)
    if which == "active":
        if governance.active is None:
            raise Refused(f"dataset {dataset} has no active version; `dpbeam policy history {dataset}` shows its own")
        return governance.active
    wanted = len(governance.versions) if which == "latest" else int(which)
    return version_of(governance, dataset, wanted).number


def policy_of(dataset: str, submitted: PolicySubmitted) -> Policy:
    """The policy of a version, made of its text as it was written; files that it names are looked for from the current
    folder.

    Raises:
        UsageError: it comes out as another policy, since those files are others.
    """
    name = f"{dataset}@{submitted.number}"
    policy = load_text(submitted.written, name=name)
    if policy.digest != submitted.digest:
        raise UsageError(
            f"{name} was submitted as {submitted.digest}; here its text makes {policy.digest}, for it names files (of "
            "partitions, lookups or custom metrics) that were others then; go to the folder that has those"
        )
    return policy


def read_file(path: Path) -> tuple[Policy, str]:
    """The policy in a file, and the file's text. Raises PolicyError as `load_policy` does."""
    from dpbeam.policy.yamlfile import read_text

    text = read_text(path)
    return load_text(text, name=str(path), folder=path.parent), text
