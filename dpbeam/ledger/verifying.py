"""Verification: budgets and charges are given out after they were found to be what the journal amounts to."""

from __future__ import annotations

from dataclasses import dataclass

from dpbeam.errors import LedgerError, UsageError
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import Budget, Charge
from dpbeam.ledger.checks import check_dataset
from dpbeam.ledger.entries import entry_hash
from dpbeam.ledger.replay import BrokenJournal, Replayed, replay
from dpbeam.ledger.store import Store, Transaction, ledger_id


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """Compares what the tables of a store hold with its journal.

    A dataset's history is verified by itself: amounts of two datasets never meet, so damage to the one can't make
    room for a charge in the other. Who charges a dataset asks no more than that; `everything` asks it of all, and that
    no row is left over.
    """

    store: Store

    def budget(self, tx: Transaction, dataset: str) -> Budget:
        """The dataset's budget as the table has it, unverified. LedgerError where there is none."""
        budget = tx.budget(checked_name(dataset))
        if budget is None:
            self.no_history(tx, dataset)
            raise refusals.no_budget(dataset, self.store.place)
        return budget

    def no_history(self, tx: Transaction, dataset: str) -> None:
        """Raises LedgerError if the dataset, which has no budget, has a history."""
        if tx.last_entry(dataset) is not None:
            raise self._orphan(dataset)

    def headed(self, tx: Transaction, dataset: str) -> Budget:
        """The dataset's budget, if it stands at the last entry of its journal."""
        budget, last = self.budget(tx, dataset), tx.last_entry(dataset)
        if (
            last is None
            or (last.seq, last.hash) != (budget.head_seq, budget.head_hash)
            or last.hash != entry_hash(last)
        ):
            what = f"dataset {dataset} doesn't stand at the end of its journal"
            raise refusals.unverifiable(self.store.place, what, dataset=dataset)
        return budget

    def verified(self, tx: Transaction, dataset: str) -> Replayed:
        """The dataset's budget and charges, if the tables hold what its whole journal amounts to."""
        budget = self.budget(tx, dataset)
        try:
            replayed = replay(dataset, tx.entries(dataset), ledger_id=ledger_id(self.store))
        except BrokenJournal as error:
            raise refusals.unverifiable(self.store.place, f"dataset {dataset}, {error}", dataset=dataset) from None
        if replayed.budget != budget:
            what = f"the balance of dataset {dataset} isn't what its journal amounts to"
            raise refusals.unverifiable(self.store.place, what, dataset=dataset)
        stored = {charge.id: charge for charge in tx.charges(dataset)}
        for charge_id in sorted(stored.keys() | replayed.charges.keys()):
            if stored.get(charge_id) != replayed.charges.get(charge_id):
                what = f"a charge of dataset {dataset} isn't what the journal says ({charge_id!r})"
                raise refusals.unverifiable(self.store.place, what, dataset=dataset)
        return replayed

    def everything(self, tx: Transaction) -> list[Replayed]:
        """All datasets, verified, after the database's own checks."""
        tx.check_integrity()
        datasets = tx.datasets()
        orphans = set(tx.journal_datasets()) | {charge.dataset for charge in tx.charges()}
        for orphan in sorted(orphans - set(datasets)):
            raise self._orphan(orphan)
        return [self.verified(tx, dataset) for dataset in datasets]

    def charges(self, tx: Transaction, dataset: str | None) -> list[Charge]:
        """The charges of a dataset, or of all, by increasing fence, as the verified journal alone tells them."""
        histories = self.everything(tx) if dataset is None else [self.verified(tx, dataset)]
        charges = [charge for replayed in histories for charge in replayed.charges.values()]
        return sorted(charges, key=lambda charge: charge.fence)

    def _orphan(self, dataset: str) -> LedgerError:
        what = f"dataset {dataset} has a history but no budget"
        return refusals.unverifiable(self.store.place, what, dataset=dataset)


def checked_name(dataset: str) -> str:
    """The dataset's name. UsageError if it is none."""
    try:
        check_dataset(dataset)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return dataset
