"""Whether this process is a notebook's, without loading IPython to find out that it isn't.

Beam asks IPython as each transform is applied, and so loads it wherever it is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import apache_beam.pipeline
from apache_beam.utils import interactive_utils

_beams_answer: Callable[[], bool] = interactive_utils.is_in_ipython


def is_in_ipython() -> bool:
    """Whether this runs within an IPython session: none is there before IPython is loaded."""
    return "IPython" in sys.modules and _beams_answer()


def spare_ipython() -> None:
    """Lets Beam ask as `is_in_ipython` does, from now on in this process: the answers are the same."""
    for module in (interactive_utils, apache_beam.pipeline):
        vars(module)["is_in_ipython"] = is_in_ipython
