"""In a notebook Beam loads parts of its own as a pipeline is built: that they can't be is told before the charge."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import apache_beam as beam
import pytest
from apache_beam.utils import interactive_utils

from dpbeam.errors import UsageError
from dpbeam.pipelines.jobs import notebooks, runners
from dpbeam.pipelines.jobs.options import beam_options


def test_a_notebook_in_which_beam_can_not_work_is_refused(monkeypatch) -> None:
    real = runners.importlib.import_module

    def broken(name: str, *more: object) -> object:
        if name.endswith(".interactive_environment"):
            raise AttributeError("type object 'DataFrame' has no attribute 'first'")
        return real(name, *more)

    monkeypatch.setattr(runners, "is_in_ipython", lambda: True)
    monkeypatch.setattr(runners.importlib, "import_module", broken)
    with pytest.raises(UsageError, match=r"^Apache Beam can't work in this notebook .*Nothing was charged$"):
        beam_options([])


BUILT = """
import sys, apache_beam as beam
from dpbeam.pipelines.jobs.notebooks import sparing_ipython
with sparing_ipython():
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        pipeline | beam.Impulse()
sys.exit("IPython" in sys.modules)
"""


def test_a_pipeline_is_built_and_run_without_loading_ipython() -> None:
    assert subprocess.run([sys.executable, "-c", BUILT], check=False).returncode == 0


def test_where_ipython_runs_beam_still_learns_of_it(monkeypatch) -> None:
    session = ModuleType("IPython")
    session.get_ipython = lambda: object()
    monkeypatch.setitem(sys.modules, "IPython", session)
    with notebooks.sparing_ipython():
        assert interactive_utils.is_in_ipython()
        assert beam.pipeline.is_in_ipython()


def test_afterwards_beam_is_as_it_was_for_others_in_the_process() -> None:
    before = (interactive_utils.is_in_ipython, beam.pipeline.is_in_ipython)
    with notebooks.sparing_ipython():
        assert interactive_utils.is_in_ipython is beam.pipeline.is_in_ipython is notebooks.is_in_ipython
    assert (interactive_utils.is_in_ipython, beam.pipeline.is_in_ipython) == before
    assert before[0].__module__ == "apache_beam.utils.interactive_utils"
