"""In a notebook Beam loads parts of its own as a pipeline is built: that they can't be is told before the charge."""

from __future__ import annotations

import pytest

from dpbeam.errors import UsageError
from dpbeam.pipelines.jobs import runners
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
