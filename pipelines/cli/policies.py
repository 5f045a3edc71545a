"""The commands of `dpbeam policy`: to review policies, and to say which of them may be run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpbeam.errors import Refused, UsageError
from dpbeam.pipelines.cli.arguments import (
    DEFAULT_LEDGER,
    AsJson,
    Dataset,
    GuardrailsFile,
    LedgerUrl,
    PolicyPath,
    Quiet,
    Verbose,
)
from dpbeam.pipelines.cli.commands import Group, epilog
from dpbeam.pipelines.cli.printing import console, note, remark, say, say_json, working

policy_app = typer.Typer(
    cls=Group,
    help="Review policies, approve their versions, and keep them within the organisation's guardrails.",
    epilog=epilog(
        "dpbeam policy check policy.yaml --guardrails guardrails.yaml",
        "dpbeam policy diff visits@active policy.yaml",
        "dpbeam policy submit policy.yaml",
    ),
    no_args_is_help=True,
)

Version = Annotated[int, typer.Argument(metavar="VERSION", help="The version's number.", min=1)]
Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Your key, as `dpbeam policy key` makes one.")]
Expires = Annotated[
    str,
    typer.Option("--expires", metavar="WHEN", help="Until when it counts: a date, such as 2027-01-31, or days: 90d."),
]
Reference = "A policy file, or DATASET@active, DATASET@latest or DATASET@3 from the ledger."


@policy_app.command("check", epilog=epilog("dpbeam policy check policy.yaml --json", codes=(0, 2, 3, 4)))
def policy_check(
    policy_path: PolicyPath,
    guardrails: GuardrailsFile = None,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Check that a policy is valid and within the guardrails, and show what a run would cost. Needs no ledger."""
    from dpbeam.pipelines.cli import policy_text
    from dpbeam.pipelines.governance.figures import reviewed
    from dpbeam.pipelines.governance.references import read_file
    from dpbeam.pipelines.lifecycle import guarding
    from dpbeam.policy.guardrails.breaches import GuardrailsBroken

    with working("Planning and certifying", silent=as_json):
        policy, _ = read_file(policy_path)
        held = guarding.stated(guardrails)
        made = reviewed(policy)
    found = [] if held is None else guarding.all_breaches(held, policy, made.plan)
    if found:
        raise GuardrailsBroken(policy.dataset, found)
    if as_json:
        say_json(policy_text.check_json(made, held))
    else:
        console().print(policy_text.check(made, held))


@policy_app.command(
    "diff", epilog=epilog("dpbeam policy diff old.yaml new.yaml", "dpbeam policy diff visits@active policy.yaml")
)
def policy_diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=Reference)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same.")],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Say what changes between two policies: the guarantee, the cost, noise, the people that a partition needs."""
    from dpbeam.pipelines.cli import policy_text
    from dpbeam.pipelines.governance.difference import changes
    from dpbeam.pipelines.governance.figures import reviewed
    from dpbeam.pipelines.governance.references import named

    with working("Planning both", silent=as_json):
        before, after = (reviewed(named(each, ledger).policy) for each in (old, new))
        found = changes(before, after)
    if as_json:
        say_json(policy_text.diff_json(before, after, found))
    else:
        console().print(policy_text.diff((old, before), (new, after), found))


@policy_app.command("key", epilog=epilog("dpbeam policy key alice.pem", codes=(0, 2)))
def policy_key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where your key goes: a new file, for you alone.")],
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Make your key, and print its public half for the guardrails' approvers or submitters."""
    from dpbeam.ledger.identities import make_key

    say(make_key(path).public)


@policy_app.command("bind", epilog=epilog("dpbeam policy bind visits --guardrails guardrails.yaml", codes=(0, 2, 3, 4)))
def policy_bind(
    dataset: Dataset,
    guardrails: GuardrailsFile = None,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="FILE", help="The key of an approver, to take the place of others; repeatable."),
    ] = None,
    approval: Annotated[
        list[Path] | None,
        typer.Option("--approval", metavar="FILE", help="An approver's word that --output wrote; repeatable."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the word of --key into this file, and bind nothing.")
    ] = None,
    expires: Expires = "90d",
    ledger: LedgerUrl = DEFAULT_LEDGER,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Bind a dataset's budget to the organisation's guardrails: no run is charged that wasn't checked against them."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.canonical import canonical
    from dpbeam.ledger.governance.book import PolicyBook
    from dpbeam.ledger.identities import read_key
    from dpbeam.pipelines.governance import approving
    from dpbeam.pipelines.lifecycle import guarding

    stated = guarding.stated(guardrails)
    if stated is None:
        raise UsageError(f"name the organisation's file with --guardrails, or in {guarding.VARIABLE}")
    text, until = canonical(stated.canonical_form()), approving.until(expires)
    book = PolicyBook(ledger=open_ledger(ledger))
    approving.check_cap(stated, dataset, book.ledger.balance(dataset).cap)
    words = [approving.read_approval(path) for path in approval or []]
    for path in key or []:
        words.append(book.guardrails_approval(dataset, text, key=read_key(path), expires=until))
    if output is not None:
        approving.write_approval(output, words)
        remark(f"Wrote {output}: the word of {words[0].by} for {stated.digest}, until {until[:16]}.")
        return
    digest = book.bind(dataset, text, approvals=words)
    needed = f"; each version needs {stated.approvals} approvals" if stated.approvals else ""
    remark(f"The budget of {dataset} is bound to the guardrails {digest}{needed}.")


@policy_app.command("submit", epilog=epilog("dpbeam policy submit policy.yaml --key bob.pem", codes=(0, 2, 3, 4)))
def policy_submit(
    policy_path: PolicyPath,
    key: Key = None,
    guardrails: GuardrailsFile = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Write a policy into the ledger as its dataset's next version, once it keeps to the guardrails."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.canonical import canonical
    from dpbeam.ledger.governance.book import PolicyBook
    from dpbeam.ledger.identities import read_key
    from dpbeam.pipelines.cli import policy_text
    from dpbeam.pipelines.governance.figures import reviewed
    from dpbeam.pipelines.governance.references import read_file
    from dpbeam.pipelines.lifecycle import guarding
    from dpbeam.policy.guardrails.breaches import GuardrailsBroken

    with working("Planning and certifying", silent=as_json):
        policy, written = read_file(policy_path)
        signer = None if key is None else read_key(key)
        book = PolicyBook(ledger=open_ledger(ledger))
        held = guarding.holding(book.ledger, policy.dataset, guardrails)
        plan = reviewed(policy).plan
    found = [] if held is None else guarding.all_breaches(held, policy, plan)
    if found:
        raise GuardrailsBroken(policy.dataset, found)
    version = book.submit(policy.dataset, text=canonical(policy.canonical_form()), written=written, key=signer)
    if as_json:
        say_json({"version": 1, "dataset": policy.dataset, "submitted": policy_text.version_json(version)})
    else:
        remark(f"Version {version.number} of the policy of {policy.dataset}, {version.digest}, by {version.submitter}.")


@policy_app.command(
    "approve",
    epilog=epilog(
        "dpbeam policy approve visits 3 --key alice.pem --expires 2027-01-31",
        "dpbeam policy approve visits 3 --key alice.pem --output approval.json",
        codes=(0, 2, 3, 4),
    ),
)
def policy_approve(
    dataset: Dataset,
    version: Version,
    key: Key = None,
    approval: Annotated[
        Path | None, typer.Option("--approval", metavar="FILE", help="An approver's word that --output wrote.")
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--digest", help="The digest that you mean to approve; another is refused.")
    ] = None,
    expires: Expires = "90d",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write your word into this file, and not into the ledger.")
    ] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Approve a version that somebody else submitted, signed with your key."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.governance.book import PolicyBook
    from dpbeam.ledger.identities import read_key
    from dpbeam.pipelines.governance import approving

    if (key is None) == (approval is None):
        raise UsageError("give --key FILE to approve yourself, or --approval FILE with somebody's word; not both")
    book = PolicyBook(ledger=open_ledger(ledger, reading=output is not None))
    if approval is not None:
        word = approving.read_approval(approval)
    elif key is not None:
        word = book.approval(dataset, version, key=read_key(key), expires=approving.until(expires))
    if digest is not None and digest != word.digest:
        raise Refused(
            f"dataset {dataset}: version {version} is {word.digest}, not {digest}; look at what changed first"
        )
    if (word.dataset, word.number) != (dataset, version):
        raise Refused(f"{approval} is for version {word.number} of dataset {word.dataset}; name that")
    if output is not None:
        approving.write_approval(output, [word])
        remark(f"Wrote {output}: the word of {word.by} for {word.digest}, until {word.expires[:16]}.")
        return
    book.approve(dataset, word)
    remark(f"Version {version} of {dataset}, {word.digest}, is approved by {word.by} until {word.expires[:16]}.")


@policy_app.command("activate", epilog=epilog("dpbeam policy activate visits 3", codes=(0, 2, 3, 4)))
def policy_activate(
    dataset: Dataset,
    version: Version,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Make a version the one that runs are of; any other policy of the dataset is refused from then on."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.governance.book import PolicyBook

    active = PolicyBook(ledger=open_ledger(ledger)).activate(dataset, version)
    remark(f"Runs of {dataset} are of version {active.number}, {active.digest}.")


@policy_app.command(
    "revert", epilog=epilog('dpbeam policy revert visits --reason "fewer places than expected"', codes=(0, 2, 3, 4))
)
def policy_revert(
    dataset: Dataset,
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="Default: the one that was active before.", min=1)
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal.")] = "",
    ledger: LedgerUrl = DEFAULT_LEDGER,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Go back to an earlier version that was active."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.governance.book import PolicyBook

    if not reason.strip():
        raise UsageError("say why with --reason: the journal keeps it")
    active = PolicyBook(ledger=open_ledger(ledger)).revert(dataset, version, reason=reason)
    remark(f"Runs of {dataset} are of version {active.number} again, {active.digest}.")


@policy_app.command("history", epilog=epilog("dpbeam policy history visits --json", codes=(0, 2, 3, 4)))
def policy_history(
    dataset: Dataset,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Show the versions of a dataset's policy: who submitted and approved each, which is active, and since when."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.governance.book import PolicyBook
    from dpbeam.pipelines.cli import policy_text

    book = PolicyBook(ledger=open_ledger(ledger, reading=True))
    governance, place, entries = book.governance(dataset), book.place(dataset), book.ledger.history(dataset)
    if as_json:
        say_json(policy_text.history_json(dataset, governance, place, entries))
    else:
        console().print(policy_text.history(dataset, governance, place, entries))


@policy_app.command(
    "show",
    epilog=epilog(
        "dpbeam policy show visits --output policy.yaml",
        "dpbeam policy show visits --release 20261130T101500Z-1a2b3c4d --plan",
        codes=(0, 2, 3, 4),
    ),
)
def policy_show(
    dataset: Dataset,
    version: Annotated[
        str, typer.Option("--version", metavar="WHICH", help="A version's number, active or latest.")
    ] = "active",
    release: Annotated[
        str | None, typer.Option("--release", metavar="ID", help="The policy that this release was made by.")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print the plan, made anew; a release's must be the recorded one to the byte."),
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; default: the screen.")] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Print a version's policy as it was submitted, or that of a release; or its plan, made anew from the journal."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.governance.book import PolicyBook
    from dpbeam.pipelines.governance import reproducing
    from dpbeam.pipelines.governance.approving import write_text

    book = PolicyBook(ledger=open_ledger(ledger, reading=True))
    found = reproducing.configuration(book, dataset, version=version, release_id=release)
    note(*found.lines)
    text = reproducing.plan_text(dataset, found) if plan else found.submitted.written
    if output is None:
        say(*text.removesuffix("\n").split("\n"))
    else:
        write_text(output, text)
        remark(f"Wrote {output}.")
