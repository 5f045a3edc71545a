"""A plan's outlook as the terminal shows it: two tables, and what they don't hold."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table

from dpbeam.accounting.outlook import Outlook
from dpbeam.pipelines.cli.printing import line
from dpbeam.reporting import outlook_words


def outlook_tables(found: Outlook) -> list[RenderableType]:
    """The people that a partition needs by strategy, the intervals by size, and remarks."""
    shown: list[RenderableType] = []
    people, sizes = list(outlook_words.people_rows(found)), list(outlook_words.size_rows(found))
    if people:
        shown.append(_table(outlook_words.PEOPLE_TITLE, outlook_words.PEOPLE, people))
    if sizes:
        shown.append(_table(outlook_words.SIZE_TITLE, outlook_words.SIZE_HEADINGS, sizes))
    return [*shown, *map(line, outlook_words.remarks(found))]


def _table(title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(line(heading), justify="left" if place < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(line, row))
    return table
