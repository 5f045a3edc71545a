"""Whom a policy or query protects and what it reads, told in the same words from wherever it is run."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dpbeam.errors import UsageError
from dpbeam.ledger.scope import Protected, Scope
from dpbeam.policy.schema.policy import Policy
from dpbeam.queries.query import Query

_GLOB = "*?["


def protected(policy: Policy) -> Protected:
    """Whose presence the policy protects: a unit is told by where it lies in the source, not by what the policy calls
    it.

    Raises:
        UsageError: the column's name is none that the ledger can keep.
    """
    if policy.privacy_unit == "row":
        return Protected(unit="row")
    return _unit(policy.columns[policy.privacy_unit].field or policy.privacy_unit)


def _unit(field: str | tuple[str, ...]) -> Protected:
    name = field if isinstance(field, str) else ".".join(field)
    try:
        return Protected(unit="row (a column)" if name == "row" else name)
    except ValueError as error:
        raise UsageError(f"{error}; rename the column in the source. Nothing was charged") from None


def scope(query: Query, files: Sequence[str], stated: str | None = None) -> Scope:
    """What a run of the query spends a budget on; `files` are the paths that were found for it. Of rows that come from
    no paths, `stated` is how their source is called.

    Raises:
        UsageError: more paths than a ledger keeps, or one that is no text.
    """
    # Here, for it loads what reads files, and whom a policy protects is known without.
    from dpbeam.reading.formats.base import is_local

    sources = dict.fromkeys([stated] if stated is not None else map(source, query.source.paths))
    if query.unit is None:
        protects = Protected(unit="row")
    else:
        fields = {column.name: column.field for column in query.source.columns}
        protects = _unit(fields.get(query.unit) or query.unit)
    try:
        return Scope(
            protected=protects,
            sources=tuple(sources),
            files=tuple(os.path.realpath(path) if is_local(path) else path for path in files),
        )
    except ValueError as error:
        raise UsageError(
            f"{error}; name their folder or a pattern in place of many files, by names in UTF-8. Nothing was charged"
        ) from None


def source(path: str) -> str:
    """The path, folder or pattern without what doesn't tell one from another: links, the current folder, a last slash.

    Of a pattern, which may match much, the folders before the first part with `*`, `?` or `[` are followed.
    """
    from dpbeam.reading.formats.base import is_local

    if not is_local(path):
        return path.rstrip("/")
    path = os.path.abspath(path)
    parts = path.split(os.sep)
    plain = next((i for i, part in enumerate(parts) if any(char in part for char in _GLOB)), len(parts))
    if plain == len(parts) or os.path.lexists(path):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(os.sep.join(parts[:plain]) or os.sep), *parts[plain:])
