"""For jobs that were written for PipelineDP: its calls and parameters, on our engine and our budget.

`DPEngine` and `private_beam` for Beam collections, `dataframes` for pandas and Beam data frames.
"""

from dpbeam.extras import require

require("pipelinedp")

from dpbeam.adapters.pipelinedp import dataframes, private_beam  # noqa: E402  # they import PipelineDP
from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant  # noqa: E402
from dpbeam.adapters.pipelinedp.engine import DPEngine  # noqa: E402
from dpbeam.adapters.pipelinedp.explain import ExplainComputationReport  # noqa: E402
from dpbeam.adapters.pipelinedp.private_beam import MakePrivate, PrivatePCollection  # noqa: E402

__all__ = [
    "DPEngine",
    "ExplainComputationReport",
    "MakePrivate",
    "PrivatePCollection",
    "SharedBudgetAccountant",
    "dataframes",
    "private_beam",
]
