"""The commands of `dpbeam budget` that watch a ledger from outside: checkpoints, keys and the witness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpbeam.pipelines.cli.arguments import DEFAULT_LEDGER, LedgerUrl, Quiet, Verbose
from dpbeam.pipelines.cli.budgets import budget_app
from dpbeam.pipelines.cli.commands import Group, epilog
from dpbeam.pipelines.cli.printing import remark, working

__all__ = ["budget_app"]

key_app = typer.Typer(
    cls=Group,
    help="Keys that sign checkpoints.",
    no_args_is_help=True,
    epilog=epilog("dpbeam budget key new ~/keys/ledger", "dpbeam budget key list", codes=(0, 2, 3)),
)
witness_app = typer.Typer(
    cls=Group,
    help="What keeps the last entry that it saw, elsewhere.",
    no_args_is_help=True,
    epilog=epilog("dpbeam budget witness new --witness /mnt/other/witness", codes=(0, 2, 3)),
)
budget_app.add_typer(key_app, name="key")
budget_app.add_typer(witness_app, name="witness")

SigningKey = Annotated[
    str | None,
    typer.Option("--signing-key", help="The file of the key that signs.", envvar="DPBEAM_SIGNING_KEY"),
]
Witness = Annotated[
    str | None,
    typer.Option("--witness", help="The witness: a file, or an http(s) URL.", envvar="DPBEAM_WITNESS"),
]
KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The key's file, outside of any repository.")]
Trusted = Annotated[
    Path | None, typer.Option("--trusted-keys", help="A file of public keys, to which this one is added.")
]


@budget_app.command("checkpoint", epilog=epilog("dpbeam budget checkpoint visits", codes=(0, 2, 3)))
def budget_checkpoint(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; default: all.")] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    signing_key: SigningKey = None,
    witness: Witness = None,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Sign the newest entry of a dataset's journal, and with it all before. Publishing does so where there is a key."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.safeguards import safeguards

    book = open_ledger(ledger, safeguards=safeguards(witness=witness, signing_key=signing_key))
    for each in book.datasets() if dataset is None else [dataset]:
        made = book.checkpoint(each)
        remark(f"{each}: entries up to {made.seq} are signed with key {made.key[:16]}.")


@key_app.command("new", epilog=epilog("dpbeam budget key new ~/keys/ledger", codes=(0, 2)))
def key_new(file: KeyFile, trusted: Trusted = None, _verbose: Verbose = False, _quiet: Quiet = False) -> None:
    """Make a key, for you alone. Name it in DPBEAM_SIGNING_KEY, and who is to trust it gets the public one."""
    from dpbeam.ledger.keys import trust, write_key
    from dpbeam.ledger.signing import Signer

    signer = Signer.new()
    write_key(file.expanduser(), signer)
    if trusted is not None:
        trust(trusted.expanduser(), signer.key, "made by dpbeam budget key new")
    remark(f"{file} holds a new key. Its public key is {signer.key}.")


@key_app.command("rotate", epilog=epilog("dpbeam budget key rotate ~/keys/ledger", codes=(0, 2)))
def key_rotate(file: KeyFile, trusted: Trusted = None, _verbose: Verbose = False, _quiet: Quiet = False) -> None:
    """Put a new key in the place of one, which signs that. Journals note it with the next checkpoint."""
    from dpbeam.ledger.keys import read_key, trust, write_key

    old = read_key(file.expanduser())
    new = old.rotated()
    write_key(file.expanduser(), new, replace=True)
    if trusted is not None:
        trust(trusted.expanduser(), new.key, f"follows {old.key[:16]}")
    remark(f"{file} holds a new key, which follows {old.key[:16]}. Its public key is {new.key}.")


@key_app.command("list", epilog=epilog("dpbeam budget key list", codes=(0, 2, 3)))
def key_list(ledger: LedgerUrl = DEFAULT_LEDGER, _verbose: Verbose = False, _quiet: Quiet = False) -> None:
    """List the keys that each dataset's journal pins, oldest first."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.marks import KeyPinned

    book = open_ledger(ledger, reading=True)
    for dataset in book.datasets():
        pinned = [(entry.seq, entry.fact.key) for entry in book.history(dataset) if isinstance(entry.fact, KeyPinned)]
        for seq, key in pinned:
            remark(f"{dataset}: {key} from entry {seq} on")
        if not pinned:
            remark(f"{dataset}: no key; nothing of it is signed")


@witness_app.command("new", epilog=epilog("dpbeam budget witness new --witness /mnt/other/witness", codes=(0, 2, 3)))
def witness_new(
    ledger: LedgerUrl = DEFAULT_LEDGER, witness: Witness = None, _verbose: Verbose = False, _quiet: Quiet = False
) -> None:
    """Make the witness of a ledger, as it stands now, after verifying all of it."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.safeguards import safeguards

    with working("Replaying the journal"):
        kept = open_ledger(ledger, safeguards=safeguards(witness=witness)).watch()
    remark(f"The witness knows {len(kept.heads)} dataset(s) of this ledger, and from now on refuses an older one.")
