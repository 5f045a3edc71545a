"""The ledger's refusals: the errors that callers tell apart, and the text of each no."""

from __future__ import annotations

from dpbeam.errors import LedgerError, Refused, RunFailed
from dpbeam.ledger.accounts import Balance, Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.checkpoints import Checkpoint
from dpbeam.ledger.checks import is_dataset
from dpbeam.ledger.meters import Meter


class KeyTaken(Refused):
    """A run of the same idempotency key is unfinished or published; `charge` is its charge."""

    def __init__(self, charge: Charge) -> None:
        self.charge = charge
        if charge.state == "PUBLISHED":
            text = "is published already; read it again at no cost, or ask for a fresh one, which is charged anew"
        else:
            text = "is unfinished; wait for it, or settle it with `dpbeam recover`"
        super().__init__(f"release {charge.release_id} of dataset {charge.dataset} {text} (charge {charge.id})")


class FenceLost(RunFailed):
    """The run was given up or taken over in the meantime; it must stop and publish nothing.

    `charge` is its charge as it stands: what it was charged stays spent, unless it was given up before it had begun.
    """

    def __init__(self, held: Charge, now: Charge) -> None:
        self.charge = now
        became = "was given back" if now.state == "REFUNDED" else "stays spent"
        super().__init__(
            f"charge {now.id} went on without this run: it holds fence {held.fence}, the ledger stands at "
            f"{now.fence} ({now.state}); stop here and publish nothing. Its {now.amount} {became}"
        )


class Unavailable(LedgerError):
    """The ledger can't be used now; nothing of what was asked was done, so it may be asked again."""


class Unreachable(Unavailable):
    """The ledger's server can't be reached, or went away."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(
            f"the ledger {place} can't be reached: {why}. Nothing was done; check the address, the user, the password "
            "and the server, then try again"
        )


class Locked(Unavailable):
    """Others kept the ledger for too long."""

    def __init__(self, place: str, seconds: float) -> None:
        super().__init__(
            f"the ledger {place} can't be used: other runs kept it locked for {seconds:.0f} s; try again when they are "
            "done"
        )


def not_enough(dataset: str, asked: Amount, balance: Balance) -> Refused:
    """The budget doesn't cover the run."""
    ways = ["ask for less (run.epsilon, run.delta)"]
    if balance.held != Amount.zero(balance.meter):
        ways.append("wait for the runs that hold budget, or settle those that broke off with `dpbeam recover`")
    ways.append("read a published release again under its name, at no cost")
    return Refused(
        f"dataset {dataset}: the run asks for {asked}, but only {balance.left} is left of the cap {balance.cap} "
        f"(spent {balance.spent}; held by unfinished runs {balance.held}). Nothing was charged. "
        f"What you can do: {'; '.join(ways)}."
    )


def no_quota(dataset: str, account: str) -> Refused:
    """The charge names a quota that the dataset's budget hasn't."""
    return Refused(f"dataset {dataset}: its budget has no quota {account}. Nothing was charged.")


def cap_differs(dataset: str, stated: Amount, cap: Amount) -> Refused:
    """The policy states another cap than the ledger, and the ledger's counts."""
    return Refused(
        f"dataset {dataset}: the policy states a budget of {stated}, the ledger's cap is {cap}. The ledger's cap is "
        "the authority: correct `budget` in the policy, or leave it out. Nothing was charged."
    )


def meter_differs(dataset: str, stated: Meter, meter: Meter) -> Refused:
    """The policy's budget, or an amount, is of another meter than the ledger's, which was fixed when it was made."""
    return Refused(
        f"dataset {dataset}: its budget's meter is {meter}, fixed when it was created, but the run states {stated}; "
        f"state budget.meter: {meter} in the policy, or an amount of that meter. Nothing was charged."
    )


def moved(dataset: str, to: str) -> Refused:
    """The ledger went on elsewhere."""
    return Refused(
        f"dataset {dataset}: the ledger was moved to {to}, and nothing is charged here any more; name that one with "
        "--ledger (or DPBEAM_LEDGER)"
    )


def budget_exists(dataset: str, asked: Amount, balance: Balance) -> Refused:
    """A budget is created once."""
    asks = "the same again" if asked == balance.cap else f"a budget of {asked}"
    return Refused(
        f"dataset {dataset} already has a budget of {balance.cap} (meter {balance.meter}), so {asks} can't be "
        f"created; `dpbeam budget show {dataset}` says what is left"
    )


def wrong_state(charge: Charge, wanted: str, step: str) -> Refused:
    """The charge isn't where this step starts from."""
    return Refused(
        f"charge {charge.id} is {charge.state}; only a charge that is {wanted} can be {step}; "
        f"`dpbeam budget history {charge.dataset}` shows how it came there"
    )


def no_attempts(charge: Charge) -> Refused:
    """A charge may be retried only so often."""
    return Refused(
        f"charge {charge.id} has had {charge.attempt} of {charge.max_attempts} attempts; close it with "
        "`dpbeam recover` (its amount stays spent) and run again under a new charge"
    )


def no_budget(dataset: str, place: str) -> LedgerError:
    """A dataset without a budget can't be charged or shown."""
    return LedgerError(
        f"dataset {dataset} has no budget in the ledger {place}; create one first with `dpbeam budget create POLICY`"
    )


def no_charge(charge_id: str, place: str) -> LedgerError:
    """An id that no charge has."""
    return LedgerError(f"the ledger {place} has no charge {charge_id}; name the ledger that the run was charged to")


def unverifiable(place: str, what: str, *, dataset: object = None) -> LedgerError:
    """The ledger's content contradicts itself: someone or something changed it. `dataset` is whose history it is, as
    the file has it, where that of others isn't touched."""
    stopped = "to it"
    if dataset is not None:
        whose = f"dataset {dataset}" if is_dataset(dataset) else "the dataset that it was of"
        stopped = f"to {whose}; others are charged on, if `dpbeam budget verify DATASET` holds for them"
    return LedgerError(
        f"the ledger {place} doesn't verify: {what}. Nothing more is charged {stopped}. Keep the file as it is, find "
        "out who changed it, and restore the latest backup that verifies (docs/ledger.md, 'Backup')"
    )


_COMPARE = (
    "find out which charges are missing (`dpbeam budget history`, and the manifests of the release folders), put the "
    "ledger back that has them"
)


def older_than_witness(place: str, witness: str, known: Checkpoint, *, missing: bool) -> LedgerError:
    """The ledger forgot what its witness knows."""
    what = f"has no entry {known.seq}" if missing else f"has another entry {known.seq}"
    return LedgerError(
        f"the ledger {place} is older than its witness {witness}, or another copy of it: dataset {known.dataset} "
        f"{what} than the witness saw on {known.time}. Was it restored from a backup, or do two copies run? Nothing is "
        f"charged. What you can do: {_COMPARE}; only if it is lost for good, count what it spent as spent, and make a "
        "new witness with `dpbeam budget witness new` (docs/ledger.md, 'A witness')"
    )


def other_ledger(place: str, witness: str) -> LedgerError:
    """The witness watches another ledger."""
    return LedgerError(
        f"the witness {witness} watches another ledger than {place}: this one was made anew, or the wrong one is "
        "named. Nothing is charged. Name the ledger that the witness watches, or another witness"
    )


def no_witness(place: str, witness: str) -> LedgerError:
    """A witness that was named isn't there."""
    return LedgerError(
        f"the witness {witness} of the ledger {place} doesn't exist. Nothing is charged. If it was removed, find out "
        "by whom; if this is the first time, make it with `dpbeam budget witness new`"
    )


def unsigned_witness(witness: str, dataset: str, seq: int) -> LedgerError:
    """What the witness keeps isn't signed by a key that is trusted."""
    return LedgerError(
        f"the witness {witness} says of dataset {dataset}, entry {seq}, what no trusted key has signed. Nothing is "
        "charged. Find out who wrote it; if a key was rotated, add the new one to the trusted keys"
    )


def other_key(place: str, dataset: str, *, pinned: str, used: str) -> LedgerError:
    """A key that the journal doesn't know is to sign."""
    return LedgerError(
        f"the ledger {place}: checkpoints of dataset {dataset} are signed with key {pinned[:16]}, not with "
        f"{used[:16]}, and that key never said that this one takes its place. Nothing was signed. Use the right "
        "key, or rotate it with `dpbeam budget key rotate`"
    )


def not_as_signed(place: str, made: Checkpoint) -> LedgerError:
    """The journal isn't what was signed."""
    what = f"dataset {made.dataset}, entry {made.seq} isn't what key {made.key[:16]} signed on {made.time}"
    return unverifiable(place, what, dataset=made.dataset)
