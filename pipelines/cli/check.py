"""`dpbeam check` on the command line, and what commands say of a policy before they go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpbeam.pipelines.cli.printing import note

if TYPE_CHECKING:
    from dpbeam.queries.query import Query


def say_unused(query: Query, *, silent: bool) -> None:
    """Says which columns a policy declares and never uses, unless one JSON object is all that may be printed."""
    from dpbeam.policy.compile import warning

    said = warning(query)
    if said is not None and not silent:
        note(said)
