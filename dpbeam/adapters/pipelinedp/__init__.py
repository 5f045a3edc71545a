"""For jobs that were written for PipelineDP: its engine's calls and parameters, on our engine and our budget."""

from dpbeam.extras import require

require("pipelinedp")

from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant  # noqa: E402  # they import PipelineDP
from dpbeam.adapters.pipelinedp.engine import DPEngine  # noqa: E402

__all__ = ["DPEngine", "SharedBudgetAccountant"]
