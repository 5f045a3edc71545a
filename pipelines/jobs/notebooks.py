"""Whether this process is a notebook's, without loading IPython to find out that it isn't.

Beam asks IPython as each transform is applied, and so loads it wherever it is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apache_beam.pipeline
from apache_beam.utils import interactive_utils

_beams_answer: Callable[[], bool] = interactive_utils.is_in_ipython


def is_in_ipython() -> bool:
    """Whether this runs within an IPython session: none is there before IPython is loaded."""
    return "IPython" in sys.modules and _beams_answer()


@contextmanager
def sparing_ipython() -> Iterator[None]:
    """Lets Beam ask as `is_in_ipython` does while this lasts; then Beam is as it was, for whoever else uses it in this
    process. The answers are the same, so it is no matter to pipelines that are built beside this one, or to a module of
    Beam's that is loaded meanwhile and keeps it."""
    modules = (interactive_utils, apache_beam.pipeline)
    for module in modules:
        vars(module)["is_in_ipython"] = is_in_ipython
    try:
        yield
    finally:
        for module in modules:
            vars(module)["is_in_ipython"] = _beams_answer
