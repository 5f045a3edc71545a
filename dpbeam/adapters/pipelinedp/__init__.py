"""For jobs that were written for PipelineDP: its engine's calls and parameters, on our engine and our budget."""

from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
from dpbeam.adapters.pipelinedp.engine import DPEngine

__all__ = ["DPEngine", "SharedBudgetAccountant"]
