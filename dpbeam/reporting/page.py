"""What all pages for people have in common: one style sheet, one script, and a policy that lets nothing else run.

Guarantee: a browser that keeps to the content security policy runs this script and no other, whatever stands in the
page, and fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dpbeam.reporting.numbers import exact, one_in, significant
from dpbeam.reporting.visible import visible

MAX_TEXT = 300


@cache
def environment() -> Environment:
    """The templates, in which all text is escaped; `style`, `script` and `csp` are at hand in each."""
    made = Environment(
        loader=PackageLoader("dpbeam.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"text": text, "significant": significant, "one_in": one_in, "exact": exact}
    style, script = (_source(made, name) for name in ("page.css", "page.js"))
    made.globals |= {"style": style, "script": script, "csp": _csp(style, script)}
    return made


def text(value: str) -> str:
    """Any text, made visible and cut to a length that a page can bear; the template escapes it."""
    clean = visible(value[: MAX_TEXT + 1])
    return clean[:MAX_TEXT] + "…" if len(clean) > MAX_TEXT else clean


def _source(made: Environment, name: str) -> Markup:
    """A file of ours, as it is: it holds nothing from outside."""
    found, _, _ = made.loader.get_source(made, name)  # type: ignore[union-attr]
    return Markup("\n" + found)


def _csp(style: str, script: str) -> str:
    """Only elements with just this text apply; a style or a handler in an attribute never does."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
