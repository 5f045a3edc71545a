"""What has been spent, ever: budgets, charges against them, and a journal that neither forgets nor changes.

    ledger = open_ledger("sqlite:///ledger.sqlite")
    ledger.balance("visits").left

`Ledger` has all that may be asked of a ledger and done to it. It needs Python and SQLite, and nothing else of dpbeam.
"""

from __future__ import annotations

from dpbeam.ledger.accounts import Balance, Budget, Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.entries import JournalEntry
from dpbeam.ledger.guarding import Safeguards
from dpbeam.ledger.ledger import Ledger
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.refusals import FenceLost, KeyTaken, Locked
from dpbeam.ledger.safeguards import safeguards as named
from dpbeam.ledger.scope import Protected, Scope
from dpbeam.ledger.stores import open_store

__all__ = [
    "Amount",
    "Balance",
    "Budget",
    "Charge",
    "FenceLost",
    "JournalEntry",
    "KeyTaken",
    "Ledger",
    "Locked",
    "Owner",
    "Protected",
    "Safeguards",
    "Scope",
    "open_ledger",
]


def open_ledger(
    url: str, *, create: bool = False, reading: bool = False, safeguards: Safeguards | None = None
) -> Ledger:
    """Opens a ledger: `sqlite:///relative/path`, `sqlite:////absolute/path`, or a plain path to a SQLite file;
    `~` at its start is the home folder.

    `create` makes a new ledger where there is none; only creating a budget should ask for that.
    `reading` changes nothing in it, so that it may lie where nothing can be written.
    `safeguards` (a witness, keys) are those that the environment names, if None: see `dpbeam.ledger.safeguards`.

    Raises:
        LedgerError: another kind of database; or the file is missing (and not `create`), damaged, no ledger, of a
            newer version, or can't be written.
        UsageError: a witness or key that is named can't be used.
    """
    store = open_store(url, create=create, reading=reading)
    return Ledger(store=store, safeguards=named() if safeguards is None else safeguards)
