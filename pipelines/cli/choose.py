"""`dpbeam choose`: walks a decision tree in the terminal, and ends with lines for the policy. Reads no file."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dpbeam.errors import UsageError
from dpbeam.pipelines.choosing import text
from dpbeam.pipelines.choosing.tree import Advice, Question, Tree
from dpbeam.pipelines.choosing.trees import TREES
from dpbeam.pipelines.cli.arguments import Quiet, Verbose
from dpbeam.pipelines.cli.commands import epilog
from dpbeam.pipelines.cli.printing import is_terminal, note, say

CHOOSE = epilog(
    "dpbeam choose",
    "dpbeam choose selection",
    "dpbeam choose selection --answers no,coarse,yes,more",
    "dpbeam choose bounds --print-tree",
    codes=(0, 2, 4, 130),
)
_NAMES = ", ".join(TREES)


def choose(
    topic: Annotated[
        str | None, typer.Argument(metavar="[CHOICE]", help=f"{_NAMES}; without it all are named.", show_default=False)
    ] = None,
    answers: Annotated[
        str | None, typer.Option("--answers", help="Answers by their words, between commas, so that nothing is asked.")
    ] = None,
    print_tree: Annotated[bool, typer.Option("--print-tree", help="Print all questions and where they lead.")] = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Answer questions about your data's domain; get lines for the policy. Reads no data."""
    if topic is None:
        _name_all(answers, print_tree=print_tree)
        return
    if topic not in TREES:
        raise UsageError(f"CHOICE must be one of {_NAMES}, got {topic!r}")
    if print_tree:
        if answers is not None:
            raise UsageError("--print-tree prints all answers, so it takes no --answers; leave one of them out")
        say(*text.tree(TREES[topic]))
        return
    say(*text.advice(_walked(TREES[topic], [] if answers is None else answers.split(","))))


def _name_all(answers: str | None, *, print_tree: bool) -> None:
    if answers is not None:
        raise UsageError(f"--answers needs a CHOICE to answer for: {_NAMES}")
    for number, tree in enumerate(TREES.values()):
        say(
            *([""] if number and print_tree else []),
            *(text.tree(tree) if print_tree else [f"{tree.name:<10} {tree.about}"]),
        )


def _walked(tree: Tree, words: list[str]) -> Advice:
    """Where the answers lead; what they leave open is asked, if there is somebody to ask.

    Raises:
        UsageError: an answer isn't one, or one is missing.
    """
    at, asked = tree.follow(words), False
    while isinstance(at, Question):
        if not (is_terminal() and sys.stdin is not None and sys.stdin.isatty()):
            named = ", ".join(answer.word for answer in at.answers)
            given = f" after {','.join(words)}" if words else ""
            raise UsageError(
                f"{at.asks!r} has no answer{given}, and nobody can be asked here; add one of {named} to --answers"
            )
        say("", *text.question(at))
        words, asked = _asked(tree, words), True
        at = tree.follow(words)
    if asked:
        note(f"the same without questions: dpbeam choose {tree.name} --answers {','.join(words)}")
    return at


def _asked(tree: Tree, words: list[str]) -> list[str]:
    """The answers so far, and one more, which is asked for until it is one."""
    while True:
        say("Answer:")
        line = sys.stdin.readline()
        if not line:
            raise UsageError(f"{tree.name} isn't decided: the input ended before the last answer")
        more = [*words, line.strip().lower()]
        try:
            tree.follow(more)
        except UsageError as error:
            note(*error.lines)
            continue
        return more
