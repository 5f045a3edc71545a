"""What a person sees of a ledger in the terminal. Apart from `terminal`, for it needs nothing but the ledger."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from dpbeam.ledger import words
from dpbeam.ledger.accounts import Budget
from dpbeam.ledger.entries import JournalEntry
from dpbeam.pipelines.cli.printing import line


def budget(found: Budget) -> RenderableType:
    """A dataset's balance, whom it protects and what it was spent on."""
    balance = found.balance
    table = Table(title=f"Budget of {found.dataset} (meter {balance.meter})", title_justify="left", min_width=40)
    table.add_column("")
    table.add_column(f"{balance.meter.symbol}, δ", justify="right")
    for name in ("cap", "spent", "held", "left"):
        table.add_row(name, str(getattr(balance, name)))
    protects = "whom its next run protects" if found.protected is None else str(found.protected)
    worth = [] if found.terms.stated is None else [f"The cap is worth {found.terms.stated}."]
    lines = [*worth, f"It protects {protects}.", *(f"Spent on {source}" for source in found.sources)]
    return Group(table, *map(line, lines))


def history(dataset: str, entries: list[JournalEntry]) -> RenderableType:
    """A dataset's journal."""
    table = Table(title=f"History of {dataset}")
    for heading in ("#", "time", "what", "amount", "charge"):
        table.add_column(heading, no_wrap=True)
    for entry in entries:
        record = entry.record
        cells = (entry.time[:19], words.heading(entry.fact), str(entry.amount), record.charge_id[:8] or "–")
        table.add_row(str(entry.seq), *map(line, cells))
    remarks = ((entry.seq, words.remark(entry.fact)) for entry in entries)
    return Group(table, *(line(f"{seq}: {said}") for seq, said in remarks if said is not None))
