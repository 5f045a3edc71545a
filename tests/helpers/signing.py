"""Keys of people that are the same in each run of the tests, and guardrails that name them."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dpbeam.ledger.canonical import canonical
from dpbeam.ledger.identities import PREFIX, SigningKey


def key(seed: int) -> SigningKey:
    """The key of this number."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return SigningKey(public=PREFIX + private.public_key().public_bytes_raw().hex(), _private=private)


ALICE, BOB, CAROL, MALLORY = map(key, (1, 2, 3, 4))
FAR, PAST = "2100-01-31T00:00:00.000+00:00", "2020-01-31T00:00:00.000+00:00"


def guardrails(*, approvals: int = 1, **more: object) -> str:
    """The canonical text of guardrails by which Alice and Carol approve what Bob, or one of them, submits."""
    people = {"approvers": {"alice": ALICE.public, "carol": CAROL.public}, "submitters": {"bob": BOB.public}}
    return canonical({"version": 1, "approvals": approvals, **people, **more})
