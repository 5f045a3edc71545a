"""A release's configuration, from the journal alone: its policy, its plan to the byte, the version that ran it.

Guarantee: the policy that is shown has the digest under which the release was charged; its plan, made anew, is shown
only if its digest is the recorded one. Assumes that the files which the policy names are there, unchanged, and that the
plan is made by the recorded version of dpbeam, and its libraries: else it is refused, and the version named.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpbeam._version import __version__
from dpbeam.errors import Refused, RunFailed
from dpbeam.ledger.canonical import canonical
from dpbeam.ledger.entries import Reserved
from dpbeam.ledger.governance.book import PolicyBook
from dpbeam.ledger.governance.facts import PolicySubmitted
from dpbeam.pipelines.governance import references
from dpbeam.policy.digest import digest_of


@dataclass(frozen=True, kw_only=True)
class ReleaseConfiguration:
    """A version as it was submitted; of a release also what its charge says, and when."""

    submitted: PolicySubmitted
    reserved: Reserved | None = None
    time: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is known of it, for people."""
        said = [f"version {self.submitted.number}, {self.submitted.digest}, submitted by {self.submitted.submitter}."]
        if self.reserved is not None:
            by = self.reserved.code or "a version of dpbeam that didn't note itself"
            plan = self.reserved.plan_digest or "not noted"
            said.append(
                f"release {self.reserved.release_id} was charged at {self.time[:19]} by {by}; its plan is {plan}."
            )
        return tuple(said)


def configuration(book: PolicyBook, dataset: str, *, version: str, release_id: str | None) -> ReleaseConfiguration:
    """The configuration of a release, or of a version.

    Raises:
        Refused: there is no such release or version, or the release's policy was never submitted.
    """
    if release_id is None:
        return ReleaseConfiguration(submitted=book.submitted(dataset, references.number(book, dataset, version)))
    entry, reserved = book.charged(dataset, release_id)
    numbers = [each.number for each in book.governance(dataset).versions if each.digest == reserved.policy_digest]
    if not numbers:
        raise Refused(
            f"dataset {dataset}: release {release_id} is of the policy {reserved.policy_digest}, which was never "
            "submitted, so the journal has its digest and not its text. `dpbeam policy submit POLICY` writes it down, "
            "if you still have it"
        )
    return ReleaseConfiguration(submitted=book.submitted(dataset, numbers[-1]), reserved=reserved, time=entry.time)


def plan_text(dataset: str, found: ReleaseConfiguration) -> str:
    """The canonical text of the plan, made anew; its SHA-256 is the recorded one.

    Raises:
        RunFailed: it is another plan than the release's.
    """
    from dpbeam.accounting.plan import plan  # lazily: to print a policy takes no plan
    from dpbeam.policy.compile import query

    made = plan(query(references.policy_of(dataset, found.submitted))).to_json()
    recorded = "" if found.reserved is None else found.reserved.plan_digest
    if recorded and recorded != digest_of(made) and found.reserved is not None:
        raise RunFailed(
            f"the plan that dpbeam {__version__} makes is {digest_of(made)}; the release's was {recorded}, by "
            f"{found.reserved.code}: install that version, and the libraries of then, to make it again"
        )
    return canonical(made) + "\n"
