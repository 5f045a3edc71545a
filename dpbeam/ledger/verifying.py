"""Verification: budgets and charges are given out after they were found to be what the journal amounts to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dpbeam.errors import LedgerError, UsageError
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import OPEN, Budget, Charge
from dpbeam.ledger.checks import check_dataset
from dpbeam.ledger.entries import entry_hash
from dpbeam.ledger.replay import BrokenJournal, Replayed, anchored, charge_alone, replay
from dpbeam.ledger.signatures import check_signatures
from dpbeam.ledger.store import Store, Transaction, ledger_id


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """Compares what the tables of a store hold with its journal.

    A dataset's history is verified by itself: amounts of two datasets never meet, so damage to the one can't make
    room for a charge in the other. Who charges a dataset asks no more than that; `everything` asks it of all, and that
    no row is left over.

    `trusted` are the keys whose signatures count, any if None; `seen` is what this process verified last of each
    dataset: it reads on from there.
    """

    store: Store
    trusted: frozenset[str] | None = None
    seen: dict[str, Replayed] = field(default_factory=dict, repr=False, compare=False)

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
            raise self._broken(dataset, f"dataset {dataset} doesn't stand at the end of its journal")
        return budget

    def current(self, tx: Transaction, dataset: str, *, remember: bool = True) -> Replayed:
        """Where the dataset stands, read on from what this process verified last, else from the newest entry that
        states it, else from the first one.

        Guarantee: the balance, whom it protects, its sources and terms, and its charges that aren't finished are what
        the journal amounts to from there on (`standing` says what that means), and the tables hold the same. The cost
        doesn't grow with the history, but with the charges that are unfinished. `remember` only what is committed.
        """
        budget = self.budget(tx, dataset)
        after = self.seen.get(dataset) or self._anchored(tx, dataset)
        if after is None:
            whole = self.verified(tx, dataset)
            return self._remembered(whole) if remember else whole
        with self._broken_named(dataset):
            entries = tx.entries(dataset, since=after.budget.head_seq)
            known = next(entries, None)
            if known is None or (known.seq, known.hash) != (after.budget.head_seq, after.budget.head_hash):
                raise BrokenJournal(after.budget.head_seq, "isn't what it was when it was verified before")
            if known.hash != entry_hash(known):
                raise BrokenJournal(known.seq, "doesn't match its own hash")
            replayed = replay(dataset, entries, ledger_id=ledger_id(self.store), after=after)
        self._same_budget(replayed, budget)
        stored = {charge.id: charge for charge in tx.unfinished(dataset)}
        for charge_id in sorted(stored.keys() | replayed.charges.keys()):
            row = stored.get(charge_id) or tx.charge(charge_id)
            self._same_charge(dataset, charge_id, row, replayed.charges.get(charge_id))
        return self._remembered(replayed) if remember else replayed

    def charge(self, tx: Transaction, replayed: Replayed, charge: Charge) -> Charge:
        """The charge, a row of the table, if it is what the journal amounts to: with all others where `replayed` knows
        it, else by its own entries."""
        dataset = replayed.budget.dataset
        said = replayed.charges.get(charge.id)
        if said is None:
            with self._broken_named(dataset):
                said = charge_alone(dataset, tx.entries_of(charge.id), replayed.budget)
            if said is not None and said.state in OPEN:
                said = None  # then it would be among those that are known
        self._same_charge(dataset, charge.id, charge, said)
        return charge

    def verified(self, tx: Transaction, dataset: str, *, signatures: bool = False) -> Replayed:
        """The dataset's budget and charges, if the tables hold what its whole journal amounts to; with `signatures`, if
        it is also what was signed."""
        budget = self.budget(tx, dataset)
        made = tx.checkpoints(dataset) if signatures else []
        with self._broken_named(dataset):
            replayed = replay(
                dataset,
                tx.entries(dataset),
                ledger_id=ledger_id(self.store),
                states_at=frozenset(each.seq for each in made),
            )
            if signatures:
                check_signatures(replayed, made, ledger=ledger_id(self.store), trusted=self.trusted)
        self._same_budget(replayed, budget)
        missing = set(replayed.charges)
        for charge in tx.charges(dataset):
            self._same_charge(dataset, charge.id, charge, replayed.charges.get(charge.id))
            missing.discard(charge.id)
        for charge_id in sorted(missing):
            self._same_charge(dataset, charge_id, None, replayed.charges[charge_id])
        return replayed

    def everything(self, tx: Transaction) -> Iterator[Replayed]:
        """All datasets in turn, verified with their signatures, after the database's own checks."""
        tx.check_integrity()
        datasets = tx.datasets()
        orphans = set(tx.journal_datasets()) | set(tx.charged_datasets())
        for orphan in sorted(orphans - set(datasets)):
            raise self._orphan(orphan)
        for dataset in datasets:
            yield self.verified(tx, dataset, signatures=True)

    def charges(self, tx: Transaction, dataset: str | None) -> list[Charge]:
        """The charges of a dataset, or of all, by increasing fence, as the verified journal alone tells them."""
        histories = self.everything(tx) if dataset is None else [self.verified(tx, dataset)]
        charges = [charge for replayed in histories for charge in replayed.charges.values()]
        return sorted(charges, key=lambda charge: charge.fence)

    def _anchored(self, tx: Transaction, dataset: str) -> Replayed | None:
        entry = tx.last_anchor(dataset)
        if entry is None:
            return None
        with self._broken_named(dataset):
            return anchored(entry)

    def _remembered(self, replayed: Replayed) -> Replayed:
        # Without the finished charges: it is kept for as long as the process lives.
        budget, standing = replayed.budget, replayed.unfinished
        self.seen[budget.dataset] = Replayed(
            budget=budget, charges=standing, fence=replayed.fence, key=replayed.key, anchored=replayed.anchored
        )
        return replayed

    def _same_budget(self, replayed: Replayed, budget: Budget) -> None:
        if replayed.budget != budget:
            dataset = budget.dataset
            raise self._broken(dataset, f"the balance of dataset {dataset} isn't what its journal amounts to")

    def _same_charge(self, dataset: str, charge_id: str, row: Charge | None, said: Charge | None) -> None:
        if row != said:
            raise self._broken(dataset, f"a charge of dataset {dataset} isn't what the journal says ({charge_id!r})")

    @contextmanager
    def _broken_named(self, dataset: str) -> Iterator[None]:
        try:
            yield
        except BrokenJournal as error:
            raise self._broken(dataset, f"dataset {dataset}, {error}") from None

    def _broken(self, dataset: str, what: str) -> LedgerError:
        return refusals.unverifiable(self.store.place, what, dataset=dataset)

    def _orphan(self, dataset: str) -> LedgerError:
        return self._broken(dataset, f"dataset {dataset} has a history but no budget")


def checked_name(dataset: str) -> str:
    """The dataset's name. UsageError if it is none."""
    try:
        check_dataset(dataset)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return dataset
