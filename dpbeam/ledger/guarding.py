"""Charges only a ledger that its witness knows and that trusted keys signed; signs and tells what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dpbeam.errors import LedgerError
from dpbeam.ledger import refusals
from dpbeam.ledger.bookkeeping import utc_now
from dpbeam.ledger.checkpoints import Checkpoint, state_digest
from dpbeam.ledger.journaling import pin
from dpbeam.ledger.replay import Replayed
from dpbeam.ledger.signing import Signer, signed
from dpbeam.ledger.store import Store, Transaction, ledger_id
from dpbeam.ledger.verifying import Verifier
from dpbeam.ledger.witness import Kept, Unreachable, Witness


@dataclass(frozen=True, kw_only=True)
class Safeguards:
    """What watches a ledger from outside of it: a witness, the key that signs its checkpoints, and the keys whose
    signatures count. Each None: not used."""

    witness: Witness | None = None
    signer: Signer | None = None
    trusted: frozenset[str] | None = None


NO_SAFEGUARDS = Safeguards()


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The safeguards of one ledger."""

    store: Store
    verifier: Verifier
    safeguards: Safeguards

    @contextmanager
    def writing(self, dataset: str, *, must: bool) -> Iterator[Transaction]:
        """A transaction on the dataset's budget. The witness agrees before it, and is told after it; unless `must`, it
        is done without where the witness can't be reached.

        Raises:
            LedgerError: the ledger is older than the witness knows it, or another copy; or an entry that was signed is
                another now; or, if `must`, the witness can't be reached or was never made.
        """
        known = self._known(dataset, must=must)
        with self.store.write() as tx:
            if known is not None:
                self._check_holds(tx, known)
            if must and self.safeguards.trusted is not None:
                self._check_signed(tx, dataset)
            yield tx
        self._tell(dataset, must=must)

    def checkpoint(self, tx: Transaction, dataset: str) -> Checkpoint | None:
        """Signs the dataset's newest entry, after pinning the key if it is new; None where there is no key.

        Raises:
            LedgerError: the journal pins another key, which doesn't say that this one takes its place.
        """
        signer = self.safeguards.signer
        if signer is None:
            return None
        stands = self.verifier.current(tx, dataset, remember=False)
        pins = signer.since(stands.key)
        if pins is None:
            raise refusals.other_key(self.store.place, dataset, pinned=stands.key, used=signer.key)
        budget = stands.budget
        for fact in pins:
            budget = pin(tx, budget, fact)
        if pins:
            stands = self.verifier.current(tx, dataset, remember=False)
        made = signer.sign(_head(stands, state=state_digest(stands.standing)), ledger_id(self.store))
        tx.put_checkpoint(made)
        return made

    def check_key(self, stands: Replayed) -> None:
        """Before anything is charged: raises LedgerError if the key couldn't sign what will be published."""
        signer = self.safeguards.signer
        if signer is not None and signer.since(stands.key) is None:
            raise refusals.other_key(self.store.place, stands.budget.dataset, pinned=stands.key, used=signer.key)

    def check(self, tx: Transaction, dataset: str | None) -> None:
        """Raises LedgerError unless the ledger holds what the witness knows of the dataset, or of all."""
        witness = self.safeguards.witness
        if witness is not None:
            for head in self._of_this(witness, witness.read()).heads.values():
                if dataset in (None, head.dataset):
                    self._check_holds(tx, head)

    def begin(self) -> None:
        """Makes the witness of a ledger that has no budget yet, if there is none."""
        witness = self.safeguards.witness
        if witness is None or witness.read() is not None:
            return
        with self.store.read() as tx:
            new = not tx.datasets()
        if new:
            witness.update(lambda kept: kept or Kept(ledger=ledger_id(self.store)))

    def watch(self) -> Kept:
        """Makes the witness: from now on it keeps this ledger, all of whose histories are verified, as it stands.

        Raises:
            LedgerError: there is no witness to be made; it watches a ledger already; or this one doesn't verify.
        """
        witness = self.safeguards.witness
        if witness is None:
            raise LedgerError("no witness is named; name one with --witness or DPBEAM_WITNESS")
        with self.store.read() as tx:
            heads = {each.budget.dataset: self._signed(_head(each)) for each in self.verifier.everything(tx)}
        made = Kept(ledger=ledger_id(self.store), heads=heads)

        def only_new(kept: Kept | None) -> Kept:
            if kept is not None:
                raise LedgerError(
                    f"the witness {witness.place} exists. Remove it first if you are sure that this ledger is the one "
                    "that counts: what another one, or a later state of this one, spent is forgotten with it"
                )
            return made

        witness.update(only_new)
        return made

    def _known(self, dataset: str, *, must: bool) -> Checkpoint | None:
        """The witness's entry of the dataset; None where it has none yet, or there is no witness."""
        witness = self.safeguards.witness
        if witness is None:
            return None
        try:
            kept = witness.read()
        except Unreachable:
            if must:
                raise
            return None
        return self._of_this(witness, kept).heads.get(dataset)

    def _of_this(self, witness: Witness, kept: Kept | None) -> Kept:
        """What the witness keeps, if it is of this ledger and signed where signatures count."""
        if kept is None:
            raise refusals.no_witness(self.store.place, witness.place)
        if kept.ledger != ledger_id(self.store):
            raise refusals.other_ledger(self.store.place, witness.place)
        trusted = self.safeguards.trusted
        for head in kept.heads.values() if trusted is not None else ():
            if head.key not in (trusted or ()) or not signed(head, kept.ledger):
                raise refusals.unsigned_witness(witness.place, head.dataset, head.seq)
        return kept

    def _check_holds(self, tx: Transaction, known: Checkpoint) -> None:
        entry = tx.entry(known.dataset, known.seq)
        if entry is None or entry.hash != known.hash:
            witness = self.safeguards.witness
            where = "" if witness is None else witness.place
            raise refusals.older_than_witness(self.store.place, where, known, missing=entry is None)

    def _check_signed(self, tx: Transaction, dataset: str) -> None:
        """Raises LedgerError unless the newest entry that a trusted key signed is in the journal as it was signed."""
        for made in tx.checkpoints(dataset):
            if made.key in (self.safeguards.trusted or ()):
                entry = tx.entry(dataset, made.seq)
                if not signed(made, ledger_id(self.store)) or entry is None or entry.hash != made.hash:
                    raise refusals.not_as_signed(self.store.place, made)

    def _tell(self, dataset: str, *, must: bool) -> None:
        """Moves the witness to the ledger's newest entry, from one that the ledger holds."""
        witness = self.safeguards.witness
        if witness is None:
            return

        def move(kept: Kept | None) -> Kept | None:
            kept = self._of_this(witness, kept)
            with self.store.read() as tx:  # all that others told the witness was committed before
                known, budget = kept.heads.get(dataset), tx.budget(dataset)
                if known is not None:
                    self._check_holds(tx, known)
            if budget is None or (known is not None and known.seq >= budget.head_seq):
                return None
            head = Checkpoint(
                dataset=dataset,
                seq=budget.head_seq,
                hash=budget.head_hash,
                time=utc_now().isoformat(timespec="seconds"),
            )
            return kept.moved(self._signed(head))

        try:
            witness.update(move)
        except Unreachable:
            if must:
                raise

    def _signed(self, head: Checkpoint) -> Checkpoint:
        signer = self.safeguards.signer
        return head if signer is None else signer.sign(head, ledger_id(self.store))


def _head(stands: Replayed, state: str = "") -> Checkpoint:
    budget = stands.budget
    return Checkpoint(
        dataset=budget.dataset,
        seq=budget.head_seq,
        hash=budget.head_hash,
        time=utc_now().isoformat(timespec="seconds"),
        state=state,
    )
