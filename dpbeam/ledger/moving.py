"""A ledger is moved: closed where it is, written whole into a file, and gone on with at the one place named for it.

Guarantee: at no moment can a dataset be charged at two places, whatever is killed in between. Who exports closes every
dataset first, by a fact that says where the ledger goes; it can't be taken back, and only that place takes the file.
There nothing is charged before all of it is stored and verified: every entry with its own hash, every budget and charge
as the journal amounts to. Assumes that the name of the place means one place: a path on one machine, a server.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from dpbeam.errors import LedgerError, Refused, UsageError
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import OPEN, Budget, Charge
from dpbeam.ledger.bookkeeping import chained, moved_to
from dpbeam.ledger.canonical import canonical
from dpbeam.ledger.checks import check_text
from dpbeam.ledger.entries import Arrived, JournalEntry, Moved
from dpbeam.ledger.replay import BrokenJournal, replay
from dpbeam.ledger.rows import budget_row, charge_row, entry_row, read_budget, read_charge, read_entry
from dpbeam.ledger.scope import MAX_TEXT
from dpbeam.ledger.store import Store, Transaction, ledger_id_of
from dpbeam.ledger.verifying import Verifier

_FORMAT = "dpbeam ledger export 1"


@dataclass(frozen=True, kw_only=True)
class Export:
    """A whole ledger that was closed; `to` is the only place where it goes on. Holds the ledger's secret."""

    to: str
    secret: bytes
    budgets: tuple[Budget, ...]
    charges: tuple[Charge, ...]
    entries: tuple[JournalEntry, ...]

    def __repr__(self) -> str:
        return f"<Export of {len(self.budgets)} datasets to {self.to}>"

    def to_bytes(self) -> bytes:
        """A JSON text a line: what it is, each row, and the digest of all lines before the last."""
        head = {"format": _FORMAT, "to": self.to, "secret": self.secret.hex()}
        rows = [
            *({"budget": list(budget_row(budget))} for budget in self.budgets),
            *({"charge": list(charge_row(charge))} for charge in self.charges),
            *({"entry": list(entry_row(entry))} for entry in self.entries),
        ]
        text = "".join(f"{canonical(line)}\n" for line in (head, *rows)).encode("ascii")
        return text + f"{canonical({'sha256': hashlib.sha256(text).hexdigest()})}\n".encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Export:
        """What `to_bytes` wrote; `name` is the file's, for messages.

        Raises:
            LedgerError: anything else, as a file that was changed or cut off.
        """
        body, _, _ = data.removesuffix(b"\n").rpartition(b"\n")
        try:
            head, *lines = [json.loads(line) for line in data.decode("ascii").splitlines()]
            rows: dict[str, list[Any]] = {"budget": [], "charge": [], "entry": []}
            for line in lines[:-1]:
                ((kind, row),) = line.items()
                rows[kind].append(row)
            made = cls(
                to=head["to"],
                secret=bytes.fromhex(head["secret"]),
                budgets=tuple(read_budget(tuple(row), name) for row in rows["budget"]),
                charges=tuple(read_charge(tuple(row), name) for row in rows["charge"]),
                entries=tuple(read_entry(tuple(row), name) for row in rows["entry"]),
            )
            whole = lines[-1] == {"sha256": hashlib.sha256(body + b"\n").hexdigest()} and made.to_bytes() == data
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, LedgerError, RecursionError):
            whole = False
        if not whole:
            raise LedgerError(
                f"{name} is no whole export of a ledger: it was changed, or cut off. Nothing was imported; write it "
                "again with `dpbeam budget export` from the ledger that was closed, which still has all of it"
            )
        return made


def export_from(store: Store, *, here: str, to: str) -> Export:
    """Closes the ledger, whose place is `here`, for good, and gives all of it, to be imported at `to`. Asked again, it
    gives the same again.

    Raises:
        UsageError: `to` can't be recorded, or is this very place.
        Refused: a run is unfinished; it has no budget; or it was exported to another place.
        LedgerError: its history doesn't verify.
    """
    try:
        check_text("the place to move to", to, most=MAX_TEXT)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if to == here:
        raise UsageError(f"the ledger is at {to} already; name the place that it shall move to")
    with store.write() as tx:
        tx.check_schema()
        verifier = Verifier(store=store)
        histories = verifier.everything(tx)
        if not histories:
            raise Refused(f"the ledger {store.place} has no budget, so there is nothing to move; just make a new one")
        _check_free(store, tx, to)
        gone = moved_to(tx)
        for replayed in histories if gone is None else ():
            budget = replayed.budget
            fact = Moved(to=to, datasets=tuple(tx.datasets()))
            entry = chained(budget.dataset, budget, fact)
            tx.append(entry)
            terms = replace(budget.terms, moved_to=to)
            tx.update_budget(replace(budget, head_seq=entry.seq, head_hash=entry.hash, terms=terms))
        datasets = tx.datasets()
        made = Export(
            to=to,
            secret=store.secret,
            budgets=tuple(verifier.budget(tx, dataset) for dataset in datasets),
            charges=tuple(tx.charges()),
            entries=tuple(entry for dataset in datasets for entry in tx.entries(dataset)),
        )
    _check_whole(made, store.place)
    return made


def check_import(export: Export, here: str) -> None:
    """For before a ledger is made at the place `here`.

    Raises:
        Refused: the export is for another place.
        LedgerError: what it holds contradicts itself.
    """
    if here != export.to:
        raise Refused(
            f"the export is for {export.to}, and can be imported there alone, so that no budget is spent at two "
            f"places; got {here}. If that is the same place, write it as it was written then"
        )
    _check_whole(export, here)


def import_into(store: Store, export: Export) -> int:
    """Stores the export in a new ledger, at the place that it is for, and goes on there; returns how many entries were
    verified. `check_import` comes first.

    Raises:
        Refused: there is a ledger already, as when it is imported twice.
        LedgerError: what the export holds contradicts itself.
    """
    with store.write() as tx:
        if tx.datasets() or store.secret != export.secret:
            raise Refused(
                f"there is a ledger at {store.place} already (was this imported before?); an export is imported once, "
                "where there is none. Nothing was changed"
            )
        for budget in export.budgets:
            tx.insert_budget(budget)
        for charge in export.charges:
            tx.insert_charge(charge)
        for entry in export.entries:
            tx.append(entry)
        for budget in export.budgets:
            arrived = chained(budget.dataset, budget, Arrived(at=export.to))
            tx.append(arrived)
            terms = replace(budget.terms, moved_to=None)
            tx.update_budget(replace(budget, head_seq=arrived.seq, head_hash=arrived.hash, terms=terms))
        return sum(replayed.budget.head_seq for replayed in Verifier(store=store).everything(tx))


def _check_free(store: Store, tx: Transaction, to: str) -> None:
    gone = moved_to(tx)
    if gone is not None and gone != to:
        raise Refused(
            f"the ledger {store.place} was moved to {gone} before, and goes on there; it can be exported again to that "
            "place alone"
        )
    unfinished = [charge for charge in tx.charges() if charge.state in OPEN]
    if unfinished:
        raise Refused(
            f"the ledger {store.place} has {len(unfinished)} unfinished runs (the first is charge {unfinished[0].id}); "
            "wait for them, or settle those that broke off with `dpbeam recover`, then export it"
        )


def _check_whole(export: Export, place: str) -> None:
    """Raises LedgerError unless the export is what its own journals amount to, all closed and none left out."""
    identity = ledger_id_of(export.secret)
    datasets = tuple(budget.dataset for budget in export.budgets)
    told: dict[str, Charge] = {}
    for budget in export.budgets:
        entries = [entry for entry in export.entries if entry.dataset == budget.dataset]
        try:
            replayed = replay(budget.dataset, entries, ledger_id=identity)
        except BrokenJournal as error:
            raise refusals.unverifiable(place, f"in the export, dataset {budget.dataset}, {error}") from None
        last = entries[-1].fact
        if replayed.budget != budget or last != Moved(to=export.to, datasets=datasets):
            raise refusals.unverifiable(place, f"in the export, dataset {budget.dataset} isn't what its journal says")
        told |= replayed.charges
    stored = {charge.id: charge for charge in export.charges}
    if stored != told or len(stored) != len(export.charges) or {e.dataset for e in export.entries} != set(datasets):
        raise refusals.unverifiable(place, "in the export, the charges aren't what the journals say")
