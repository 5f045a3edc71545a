"""Finds a ledger's safeguards where an operator named them: in the environment, or by arguments that go before it."""

from __future__ import annotations

import os
from pathlib import Path

from dpbeam.ledger.guarding import Safeguards

WITNESS = "DPBEAM_WITNESS"
SIGNING_KEY = "DPBEAM_SIGNING_KEY"
TRUSTED_KEYS = "DPBEAM_TRUSTED_KEYS"
"""The environment variables: a file or http(s) URL, a key file, and a file of public keys."""


def safeguards(
    *, witness: str | None = None, signing_key: str | None = None, trusted_keys: str | None = None
) -> Safeguards:
    """The safeguards that are named; each that is None, by the environment.

    Raises:
        UsageError: a file that can't be used as what it is named for.
    """
    place, key, trusted = (
        named or os.environ.get(variable, "").strip()
        for named, variable in ((witness, WITNESS), (signing_key, SIGNING_KEY), (trusted_keys, TRUSTED_KEYS))
    )
    if not (place or key or trusted):
        return Safeguards()
    from dpbeam.ledger.keys import read_key, read_trusted  # who uses none loads none
    from dpbeam.ledger.witnesses import open_witness

    return Safeguards(
        witness=open_witness(place) if place else None,
        signer=read_key(Path(key).expanduser()) if key else None,
        trusted=read_trusted(Path(trusted).expanduser()) if trusted else None,
    )
