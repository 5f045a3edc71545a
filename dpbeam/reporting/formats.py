"""The JSON Schemas of what dpbeam writes, and every rule of them that a document breaks."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

FORMATS = ("manifest", "plan", "run", "dry_run", "releases", "budget", "error", "benchmarks")


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one of `FORMATS`, as a fresh object.

    Raises:
        ValueError: there is no such format.
    """
    if name not in FORMATS:
        raise ValueError(f"a format must be one of {', '.join(FORMATS)}, got {name!r}")
    text = files("dpbeam.reporting").joinpath("schemas", f"{name}.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def violations(name: str, document: Any) -> list[str]:
    """Each rule of the format that `document` breaks, as "place: what is wrong"; empty if it keeps all."""
    broken: list[str] = []
    for error in sorted(_validator(name).iter_errors(document), key=lambda e: [str(part) for part in e.absolute_path]):
        broken.extend(f"{_place(leaf.absolute_path)}: {_shorten(leaf.message)}" for leaf in _leaves(error))
    return broken


def parse(text: str) -> Any:
    """Reads JSON as RFC 8259 has it, and no more.

    Raises:
        ValueError: not JSON; NaN, Infinity or a number beyond a double's range; a key given twice; text that is
            not Unicode (a lone surrogate); nesting beyond reason.
    """
    try:
        document = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("holds text that is not Unicode (a lone surrogate)") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None
    return document


@cache
def _validator(name: str) -> Any:
    return Draft202012Validator(schema(name))


def _leaves(error: Any) -> list[Any]:
    """The errors that name the fault: of a `oneOf` by `kind`, those of the alternative whose `kind` fits."""
    if error.validator != "oneOf":
        return [error]
    branches: dict[Any, list[Any]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    for inner_errors in branches.values():
        if all(list(inner.path) != ["kind"] for inner in inner_errors):
            return inner_errors
    return [error]


def _place(path: Any) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return text or "the document"


def _shorten(message: str) -> str:
    return message if len(message) <= 300 else message[:150] + " … " + message[-140:]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"gives the field {twice!r} twice")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"holds {name}, which JSON doesn't have")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"holds the number {digits[:40]}, which is beyond a double's range")
    return number


def _integer(digits: str) -> int:
    if len(digits) > 40:
        raise ValueError(f"holds the number {digits[:40]}…, which is beyond reason")
    return int(digits)
