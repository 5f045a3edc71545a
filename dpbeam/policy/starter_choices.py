"""Which columns a first policy takes for its privacy unit and its groups: by name, and by what a sample tells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dpbeam.queries.column_types import ColumnType

_UNIT_NAMES = re.compile(
    r"(?i)(user|person|patient|customer|author|member|client|account|device|visitor|unit|guest|passenger|rider|employee|student|household|player)"
)
_ID_NAMES = re.compile(r"(?i)(^|[_\W])(id|uid|uuid)$")
_GROUP_NAMES = re.compile(
    r"(?i)(city|town|country|region|state|province|district|area|place|site|store|shop|clinic|ward|hospital|department"
    r"|category|type|kind|class|group|status|gender|sex|language|product|genre|sector|carrier|browser|ngram)"
)
_NO_GROUP_NAMES = re.compile(
    r"(?i)(^|[_\W])(id|uid|uuid|key|hash|name|mail|email|phone|address|street|comment|note|text|description|message|title"
    r"|url|link|ip|date|time|timestamp|day|lat|latitude|lon|lng|longitude|age|amount|price|cost|fare|score|rating|count"
    r"|number|total|sum|value|duration|distance|weight|height|income|salary|created|updated)s?($|[_\W])|(_at|[a-z]Id)$"
)
"""What sounds like an id, a moment, free text or a quantity: each person, or each row, would be a group by itself."""


class Candidate(NamedTuple):
    """A column that may be grouped by. `is_category`: the sample has few values of it, each often."""

    name: str
    type: ColumnType
    is_category: bool = False


def unit_of(columns: Mapping[str, ColumnType]) -> str | None:
    """The column whose name sounds like a person's id, if any."""
    usable = [name for name, kind in columns.items() if kind in ("string", "int64")]
    named = [name for name in usable if _UNIT_NAMES.search(name)]
    ids = [name for name in usable if _ID_NAMES.search(name)]
    return next(iter([*(name for name in named if name in ids), *named, *ids]), None)


def group_of(columns: Sequence[Candidate]) -> str | None:
    """The column to group by: one that has categories, or sounds like it; none that sounds like an id or a quantity,
    where there is another."""
    keys = [each for each in columns if each.type != "float64"]
    sampled = [each for each in keys if each.is_category]
    for some in (
        [each for each in sampled if _GROUP_NAMES.search(each.name)],
        [each for each in sampled if each.type == "string"],
        [each for each in keys if _GROUP_NAMES.search(each.name) and not _NO_GROUP_NAMES.search(each.name)],
        [each for each in keys if each.type == "string" and not _NO_GROUP_NAMES.search(each.name)],
        sampled,
        [each for each in keys if each.type == "string"],
        keys,
    ):
        if some:
            return some[0].name
    return None
