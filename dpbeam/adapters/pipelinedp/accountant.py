"""One budget for our stages and for jobs that were written for PipelineDP: a `BudgetAccountant` that our engine takes.

PipelineDP's own engine gets nothing from it. An accountant hears only that an engine wants, say, a Laplace mechanism,
not what is added up under which bounds; so it can't know what one privacy id moves.
"""

from __future__ import annotations

from typing import Any

import pipeline_dp

from dpbeam.accounting.certify import Certificate
from dpbeam.accounting.plan import mechanisms_for
from dpbeam.accounting.requests import check_target
from dpbeam.accounting.stage_requests import stage_requests
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms import randomness
from dpbeam.mechanisms.events import Mechanism
from dpbeam.queries.query import Question, Stage


class StageBudget:
    """What `add_stage` promises: the stage's mechanisms, once the budgets are computed."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.requests = stage_requests(stage)
        self._mechanisms: tuple[Mechanism, ...] | None = None

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """In the order of the requests.

        Raises:
            UsageError: `compute_budgets` hasn't run yet.
        """
        if self._mechanisms is None:
            raise UsageError("the stage's mechanisms are not known yet: call compute_budgets() first")
        return self._mechanisms


class SharedBudgetAccountant(pipeline_dp.NaiveBudgetAccountant):
    """A PipelineDP accountant whose budget is our stages': of `dpbeam.adapters.pipelinedp.DPEngine`, and any others.

    It is a `NaiveBudgetAccountant` so that code for PipelineDP's accountants takes it; nothing is composed naively.

    Guarantee: all mechanisms of all stages are (`total_epsilon`, `total_delta`)-DP together, each for what one unit
    moves within its stage's bounds, derived twice (`check_plan`). No other mechanism is given any part of the budget:
    what PipelineDP's own engine asks for is refused, for its noise isn't always enough for what its sums move (a
    variance's over bounds around 0), its Gaussian shows the bits of what it is added to, and its parameters may have it
    bound nothing, or select nothing, without a word to the accountant.
    """

    def __init__(
        self,
        total_epsilon: float,
        total_delta: float,
        num_aggregations: int | None = None,
        aggregation_weights: list[float] | None = None,
    ) -> None:
        check_target(total_epsilon, total_delta)
        super().__init__(total_epsilon, total_delta, num_aggregations, aggregation_weights)
        self._stages: list[StageBudget] = []
        self._mechanisms_of_stages: tuple[Mechanism, ...] = ()
        self._certificate: Certificate | None = None

    def add_stage(self, stage: Stage, *, aggregation_weight: float | None = None) -> StageBudget:
        """Registers a stage of ours; its mechanisms are known after `compute_budgets`.

        A stage that stands for an aggregation of PipelineDP's gives its `aggregation_weight`, and counts as one of
        those that the constructor was told of.

        Raises:
            UsageError: called after `compute_budgets`, within a scope, or with a stage of a name that is registered.
        """
        # PipelineDP draws by itself; a process that is forked from this one is seen to as it is made
        randomness.discard_inherited()
        self._check_open()
        if self._scopes_stack:
            raise UsageError(
                "an aggregation of dpbeam's must stand outside of the accountant's scopes: give its weight as "
                "budget_weight, or in the requests"
            )
        if any(known.stage.name == stage.name for known in self._stages):
            raise UsageError(f"stage {stage.name} is registered already: give each stage a name of its own")
        if aggregation_weight is not None:
            self._actual_aggregation_weights.append(aggregation_weight)
        self._stages.append(StageBudget(stage))
        return self._stages[-1]

    def request_budget(
        self,
        mechanism_type: Any,
        sensitivity: float = 1,
        weight: float = 1,
        count: int = 1,
        noise_standard_deviation: float | None = None,
        name: str = "",
    ) -> Any:
        """PipelineDP's entry point, refused.

        Raises:
            UsageError: always.
        """
        asked = " ".join(part for part in (name, getattr(mechanism_type, "name", "")) if part) or "a mechanism"
        raise UsageError(
            f"PipelineDP's own engine asked for {asked}, which can't be promised: an accountant isn't told what one "
            "privacy id moves, nor what PipelineDP bounds. Give the same parameters to "
            "dpbeam.adapters.pipelinedp.DPEngine(accountant); what only PipelineDP can run needs an accountant, a "
            "budget and a guarantee of PipelineDP's own"
        )

    def compute_budgets(self) -> None:
        """Calibrates all stages, in one go, and fills them in.

        Raises:
            UsageError: called within a scope, or twice.
            Refused: nothing was asked for, or no noise scale passes the certifier; nothing is filled in then.
        """
        # PipelineDP draws by itself; a process that is forked from this one is seen to as it is made
        randomness.discard_inherited()
        self._check_open()
        if self._scopes_stack:
            raise UsageError("compute_budgets must be called outside of a scope")
        self._check_aggregation_restrictions()
        self._finalize()
        if not self._stages:
            raise Refused("a plan needs at least one mechanism")
        stages = tuple(budget.stage for budget in self._stages)
        asked = Question(stages=stages, epsilon=self._total_epsilon, delta=self._total_delta)
        mechanisms, self._certificate = mechanisms_for(asked)
        self._mechanisms_of_stages = mechanisms
        rest = iter(mechanisms)
        for stage in self._stages:
            stage._mechanisms = tuple(next(rest) for _ in stage.requests)

    @property
    def stages(self) -> int:
        """How many stages of ours were registered."""
        return len(self._stages)

    @property
    def total_delta(self) -> float:
        """The δ at which the certificate holds."""
        return float(self._total_delta)

    @property
    def certificate(self) -> Certificate:
        """Of all mechanisms of all stages together.

        Raises:
            UsageError: `compute_budgets` hasn't run yet.
        """
        if self._certificate is None:
            raise UsageError("the certificate is not known yet: call compute_budgets() first")
        return self._certificate

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """All that was composed, stage by stage."""
        return self._mechanisms_of_stages

    def _check_open(self) -> None:
        if self._finalized:
            raise UsageError("the budgets are computed already: ask for everything before compute_budgets()")
