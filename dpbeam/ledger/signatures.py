"""Whether a dataset's history is what was signed of it, by keys that may sign it."""

from __future__ import annotations

from collections.abc import Sequence

from dpbeam.ledger.checkpoints import Checkpoint
from dpbeam.ledger.replay import BrokenJournal, Replayed
from dpbeam.ledger.signing import rotation_signed, signed


def check_signatures(
    replayed: Replayed, made: Sequence[Checkpoint], *, ledger: str, trusted: frozenset[str] | None
) -> None:
    """Compares a whole history with its checkpoints.

    Guarantee: each key that the journal pins, but for the first, was named by the one before it; each checkpoint is by
    one of them, and says what the journal says; the last one has made one. With `trusted`, the last key is among those,
    so nobody who lacks such a key can have changed what lies before its newest checkpoint.

    Raises:
        BrokenJournal: the first entry that isn't what was signed, or a key that may not sign.
        UsageError: there is a signature, and the package that checks it isn't installed.
    """
    pins = replayed.pins
    head = replayed.budget.head_seq
    for pin in pins:
        if pin.follows and not rotation_signed(pin):
            raise BrokenJournal(head, f"or one before it pins key {pin.key[:16]}, which {pin.follows[:16]} never named")
    keys = {pin.key for pin in pins}
    for each in made:
        if each.key not in keys:
            raise BrokenJournal(each.seq, f"was signed with key {each.key[:16]}, which the journal doesn't pin")
        if not signed(each, ledger):
            raise BrokenJournal(each.seq, f"has a checkpoint that key {each.key[:16]} didn't sign")
        if replayed.states.get(each.seq) != (each.hash, each.state):
            raise BrokenJournal(each.seq, f"isn't what key {each.key[:16]} signed on {each.time}")
    if pins and pins[-1].key not in {each.key for each in made}:
        raise BrokenJournal(head, f"or one before it was signed with key {pins[-1].key[:16]}; the checkpoint is gone")
    if pins and trusted is not None and pins[-1].key not in trusted:
        raise BrokenJournal(head, f"is signed with key {pins[-1].key[:16]}, which isn't among the trusted keys")
