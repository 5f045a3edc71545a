"""What people sign: the bytes of each statement, which no other statement has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from dpbeam.errors import UsageError
from dpbeam.ledger.canonical import canonical, parsed
from dpbeam.ledger.checks import check_dataset, check_sha256
from dpbeam.ledger.governance.state import Approved, check_time
from dpbeam.ledger.identities import SigningKey

Subject = Literal["policy", "guardrails"]


def submission(*, ledger: str, dataset: str, number: int, digest: str, submitter: str) -> bytes:
    """What is signed by who submits a version."""
    return canonical(["dpbeam policy submission 1", ledger, dataset, number, digest, submitter]).encode()


@dataclass(frozen=True, kw_only=True)
class Approval:
    """One person's signed word, for one dataset of one ledger: that the version `number` of its policy, by its digest,
    may be run; or, as `guardrails`, that these may take the place of those whose digest is `instead_of`."""

    subject: Subject
    ledger: str
    dataset: str
    number: int
    digest: str
    by: str
    expires: str
    instead_of: str = ""
    signature: str = ""

    @property
    def message(self) -> bytes:
        """What is signed."""
        return canonical(
            [
                f"dpbeam {self.subject} approval 1",
                self.ledger,
                self.dataset,
                self.number,
                self.digest,
                self.by,
                self.expires,
                self.instead_of,
            ]
        ).encode()

    @property
    def approved(self) -> Approved:
        """What of it is kept with the version. Raises ValueError if it isn't signed."""
        return Approved(by=self.by, expires=self.expires, signature=self.signature)

    def signed(self, key: SigningKey) -> Approval:
        """The same, signed."""
        return Approval(**vars(self) | {"signature": key.sign(self.message)})

    def to_text(self) -> str:
        """As a file holds it that goes from who approves to who has the ledger."""
        return canonical(vars(self)) + "\n"

    @classmethod
    def from_text(cls, text: str, *, name: str) -> Approval:
        """What `to_text` made. UsageError of anything else."""
        try:
            stated: dict[str, Any] = parsed(text.strip(), dict)
            made = cls(**stated)
            check_dataset(made.dataset)
            check_sha256("digest", made.digest)
            check_time("expires", made.expires)
            made.approved  # noqa: B018
        except (ValueError, TypeError):
            raise UsageError(f"{name} is no approval; `dpbeam policy approve … --output FILE` writes one") from None
        return made
