"""Without Beam and PipelineDP installed: the core works, and what needs them says which extra to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WITHOUT = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"apache_beam", "pipeline_dp"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
"""


def said(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


NEEDS = {
    "dpbeam.transforms.steps.read": "Apache Beam, which runs a release's jobs, isn't installed here; "
    "`pip install 'dpbeam[beam]'` brings it (in a checkout: '.[beam]')",
    "dpbeam.adapters.pipelinedp": "PipelineDP, whose jobs and engine these are, isn't installed here; "
    "`pip install 'dpbeam[pipelinedp]'` brings it (in a checkout: '.[pipelinedp]')",
}
NEEDS |= {
    "dpbeam.transforms.sources.python_rows": NEEDS["dpbeam.transforms.steps.read"],
    "dpbeam.beam": NEEDS["dpbeam.transforms.steps.read"],
    "dpbeam.pipelines.jobs.aggregate": NEEDS["dpbeam.transforms.steps.read"],
    "dpbeam.adapters.reference.plan": NEEDS["dpbeam.adapters.pipelinedp"],
}


@pytest.mark.parametrize("module", NEEDS)
def test_what_needs_an_extra_names_it(module: str) -> None:
    script = f"""
from dpbeam.errors import UsageError
try:
    import {module}
except UsageError as error:
    print(error)
    assert isinstance(error, ImportError)
"""
    assert said(script) == NEEDS[module]


def test_a_broken_package_is_not_taken_for_one_that_is_not_there() -> None:
    """An import within it fails: to install it again would not help."""
    script = """
import types, importlib.util
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "apache_beam":
            return importlib.util.spec_from_loader(name, self)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        import no_such_part
sys.meta_path.insert(0, Broken())
try:
    import dpbeam.pipelines.jobs
except ModuleNotFoundError as error:
    print(type(error).__name__, error.name)
"""
    assert said(script) == "ModuleNotFoundError no_such_part"
