"""Reference made from the code whenever the site is built: the commands, the keys of a policy, the Python names.

Each function gives MyST text, which takes the place of `<!-- made when the site is built -->` in its page. Nothing of
it is committed, so that none can drift from the code.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import dpbeam
from dpbeam.pipelines.cli.commands import CODES
from dpbeam.pipelines.cli.main import app

MARK = "<!-- made when the site is built -->"


def commands() -> str:
    """Every command: what it does, its arguments and options, examples, its exit codes."""
    return "\n".join(_command(typer.main.get_command(app), ("dpbeam",)))


def _command(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    yield f"{'#' * min(4, len(path) + 1)} {' '.join(path)}\n\n{_prose(command.help)}\n"
    arguments = " ".join(p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument")
    yield f"```text\n{' '.join(path)} {arguments or ('COMMAND' if inner else '')} [OPTIONS]\n```\n".replace("  ", " ")
    rows = [_row(each) for each in command.params if not getattr(each, "hidden", False)]
    if rows:
        yield "\n".join(["| takes | what it is | default |", "|---|---|---|", *rows]) + "\n"
    examples = re.search(r"Examples:\n(.*?)\n\n", command.epilog or "", re.DOTALL)
    if examples:
        yield "```text\n" + "\n".join(line.strip() for line in examples[1].split("\n")) + "\n```\n"
    codes = [code for code in CODES if re.search(rf"^  {code} ", command.epilog or "", re.MULTILINE)]
    if codes and not inner:
        yield f"Exit codes: {', '.join(f'`{code}`' for code in codes)} ([what to do](exit_codes.md)).\n"
    for name, each in inner.items():
        yield from _command(each, (*path, name))


def _row(each: Any) -> str:
    names = ", ".join(f"`{name}`" for name in each.opts)
    if each.param_type_name == "argument":
        names = f"`{each.metavar or each.name.upper()}`"
    default = each.default
    shown = "" if default is None or default is False or callable(default) else f"`{default}`"
    variable = getattr(each, "envvar", None)
    more = f" (variable `{variable}`)" if isinstance(variable, str) else ""
    return f"| {names} | {_cell(_prose(each.help or ''))}{more} | {shown if not each.required else 'must be given'} |"


def keys() -> str:
    """Every key of a policy with its type, limits and default, from the JSON Schema that editors use."""
    schema = json.loads((Path(dpbeam.__file__).parent / "policy" / "policy.schema.json").read_text(encoding="utf-8"))
    text = [_keys("The policy", schema)]
    for name, each in schema["$defs"].items():
        if "properties" in each:
            text.append(_keys(name, each))
    return "\n".join(text)


def _keys(name: str, of: dict[str, Any]) -> str:
    rows = []
    for key, each in of["properties"].items():
        default = "" if each.get("default") is None else f"`{json.dumps(each['default'])}`"
        default = "must be given" if key in of.get("required", ()) else default
        rows.append(f"| `{key}` | {_cell(_kind(each))} | {default} |")
    told = "\n\n".join(_prose(part) for part in of.get("description", "").split("\n\n"))
    return "\n".join([f"## {name}\n\n{told}\n", "| key | what it takes | default |", "|---|---|---|", *rows, ""])


def _kind(of: dict[str, Any]) -> str:
    """What a value may be, in words; other sections by a link."""
    match of:
        case {"$ref": str(to)}:
            name = to.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": list(ways)} | {"oneOf": list(ways)}:
            return " or ".join(dict.fromkeys(_kind(way) for way in ways if way != {"type": "null"}))
        case {"enum": list(words)}:
            return ", ".join(f"`{word}`" for word in words)
        case {"type": "array", **more}:
            return "a list of " + (_kind(more["items"]) if isinstance(more.get("items"), dict) else "values")
        case {"type": "object", "additionalProperties": dict(inner)}:
            return f"names, each with {_kind(inner)}"
        case {"type": list(kinds)}:
            return " or ".join(kinds)
        case {"type": str(kind)}:
            low, high = of.get("minimum", of.get("exclusiveMinimum")), of.get("maximum", of.get("exclusiveMaximum"))
            limits = (
                ""
                if low is None and high is None
                else f" ({'' if low is None else low} … {'' if high is None else high})"
            )
            return kind + limits
        case _:
            return "a value"


def names() -> str:
    """The public face: each name with its signature and docstring."""
    text = []
    for name in dpbeam.__all__:
        value = getattr(dpbeam, name)
        if inspect.isclass(value):
            directive = f"autoclass:: dpbeam.{name}\n   :members:\n   :show-inheritance:"
        elif inspect.isroutine(value):
            directive = f"autofunction:: dpbeam.{name}"
        elif inspect.ismodule(value):
            directive = f"automodule:: dpbeam.{name}\n   :members:\n   :imported-members:"
        else:
            continue
        text.append(f"## dpbeam.{name}\n\n```{{eval-rst}}\n.. {directive}\n```\n")
    return "\n".join(text)


def _prose(text: str) -> str:
    """Text of the code as one line of MyST: what looks like a mark-up isn't one, but for names in backticks."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<\[\]$])", r"\\\1", part) for part in parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {"docs/commands": commands, "docs/keys": keys, "docs/api": names}
