"""The commands of the command line, as typer has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from dpbeam.pipelines.cli.main import app


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from _commands(one, (*path, name))


COMMANDS = dict(_commands(typer.main.get_command(app)))
"""Each command and group by its words, the program itself by none."""
