"""Importing dpbeam, all of it, changes nothing that others in the process share."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LOOK = """
import ast, decimal, importlib, json, logging, os, signal, sys, threading, warnings
from pathlib import Path
import dpbeam

ROOT = Path(dpbeam.__file__).parent
FILES = [Path(folder, name) for folder, _, names in os.walk(ROOT, followlinks=True) for name in names]
FILES = [file.relative_to(ROOT) for file in FILES if file.suffix == ".py"]
NAMES = [".".join(("dpbeam", *file.with_suffix("").parts)).removesuffix(".__init__") for file in FILES]

def of_others():
    "What our modules import of others', imported first: what that changes isn't ours to keep."
    for file in FILES:
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for other in names:
                if other.split(".")[0] != "dpbeam":
                    try:
                        importlib.import_module(other)
                    except ImportError:
                        pass  # an optional part, which only a function imports

UNTOUCHED = [logging.NOTSET, 0, 0, True, False]

def logger(found):
    return [found.level, len(found.handlers), len(found.filters), found.propagate, found.disabled]

def shared():
    loggers = logging.root.manager.loggerDict.items()
    loggers = {name: logger(found) for name, found in loggers if isinstance(found, logging.Logger)}
    return {
        "root logger": logger(logging.root),
        "loggers": {name: found for name, found in loggers.items() if found != UNTOUCHED},
        "disabled logging": logging.root.manager.disable,
        "warnings filters": [str(each) for each in warnings.filters],
        "warnings shown by": str(warnings.showwarning),
        "hooks": [str(each) for each in (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook)],
        "signals": {str(each): str(signal.getsignal(each)) for each in signal.valid_signals()},
        "streams": [str(each) for each in (sys.stdin, sys.stdout, sys.stderr)],
        "environment": dict(os.environ),
        "path": sys.path,
        "decimals": str(decimal.getcontext()),
        "threads": len(threading.enumerate()),
        "recursion": sys.getrecursionlimit(),
    }

"""

COMPARE = """
after = shared()
changed = {what: [before[what], after[what]] for what in before if before[what] != after[what]}
print(json.dumps(changed))
"""


def changed_by(statement: str, *, after: str = "") -> dict[str, object]:
    """What `statement` changes of what is shared, in a process of its own."""
    program = "\n".join((LOOK, after, "before = shared()", statement, COMPARE))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_every_module_changes_nothing_that_others_share() -> None:
    every = "for name in NAMES:\n    importlib.import_module(name)\nassert len(NAMES) > 150"
    assert changed_by(every, after="of_others()") == {}


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("logging.getLogger().addFilter(lambda record: True)", "root logger"),
        ("logging.getLogger().setLevel(logging.ERROR)", "root logger"),
        ("logging.getLogger('apache_beam').addFilter(lambda record: True)", "loggers"),
        ("warnings.simplefilter('ignore')", "warnings filters"),
        ("sys.excepthook = print", "hooks"),
    ],
)
def test_a_change_would_be_seen(statement: str, what: str) -> None:
    assert list(changed_by(statement)) == [what]
