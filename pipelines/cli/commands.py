"""How commands are offered: in groups and in the order of use, with examples and exit codes."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

SETTINGS = {"help_option_names": ["-h", "--help"]}

BEFORE, RUN, AFTER = "Before a run", "A run", "After it"

CODES = {
    0: "done",
    2: "the command, the policy or the input can't be used; nothing was charged",
    3: "the budget, the ledger or a guard refuses",
    4: "the run failed, a release doesn't verify, or what is only shown can't be written",
    130: "stopped by Ctrl-C (129 by SIGHUP, 143 by SIGTERM), cleared up",
}


def epilog(*examples: str, codes: tuple[int, ...] = tuple(CODES)) -> str:
    """The end of a command's help: example lines, and the exit codes that it has."""
    shown = "\n".join(f"  {example}" for example in examples)
    named = "\n".join(f"  {code:<4} {CODES[code]}" for code in codes)
    return f"\b\nExamples:\n{shown}\n\n\b\nExit codes (docs/exit_codes.md says what to do):\n{named}"


class Group(TyperGroup):
    """Commands under the heading of their group (`rich_help_panel`), in the order in which they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        room = formatter.width - 6 - max(map(len, self.commands))
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None)
            heading = heading if isinstance(heading, str) else "Commands"
            headings.setdefault(heading, []).append((name, command.get_short_help_str(room)))
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
