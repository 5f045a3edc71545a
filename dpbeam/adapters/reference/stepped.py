"""PipelineDP's engine, whose additive noise comes in whole steps that the plan fixes, so that no bit tells of a value.

PipelineDP's mechanisms draw the noise, on a value of 0; it is rounded down to steps, and added to what PipelineDP added
up, exactly. What is made of noisy numbers is made as PipelineDP makes it.

Guarantee: the noise's law doesn't depend on any value, and a noisy number is the float nearest to (whole value + whole
noise) · step. So which numbers can come, and with which bits, is the same for all data; and with values that are
multiples of the steps, as they are, the noise is PipelineDP's own, rounded: post-processing. It rests on PyDP's samples
of one mechanism being right at 2**-39 of their width; its Gaussian's own error is about 2**-45 a sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pipeline_dp
from pipeline_dp import combiners, dp_computations
from pipeline_dp.budget_accounting import MechanismSpec

from dpbeam.errors import RunFailed

_ALWAYS_KEPT = 2.0**7
"""In standard deviations above the threshold: a count from which PipelineDP's thresholding keeps whatever it draws."""


def in_steps(value: float, noise: float, step: float) -> float:
    """value + noise: the value in the nearest whole steps, the noise in the next lower, added exactly."""
    return (round(value / step) + math.floor(noise / step)) * step


class SteppedEngine(pipeline_dp.DPEngine):
    """`pipeline_dp.DPEngine`, for the `steps` of `dpbeam.adapters.reference.steps`, by kind of quantity."""

    def __init__(self, budget_accountant: Any, backend: Any, steps: Mapping[str, float]) -> None:
        super().__init__(budget_accountant, backend)
        self._steps = steps

    def _create_compound_combiner(self, params: Any) -> Any:
        made = super()._create_compound_combiner(params)
        stepped = [_stepped(combiner, params, self._steps) for combiner in made._combiners]
        return combiners.CompoundCombiner(stepped, return_named_tuple=True)


def _stepped(combiner: Any, params: Any, steps: Mapping[str, float]) -> Any:
    match combiner:
        case combiners.CountCombiner():
            return _Scalar(combiner, params, steps, "count", steps["count"])
        case combiners.PrivacyIdCountCombiner():
            return _Scalar(combiner, params, steps, "privacy_id_count", steps["privacy_id_count"])
        case combiners.SumCombiner():
            return _Scalar(combiner, params, steps, "sum", steps["total" if "total" in steps else "sum"])
        case combiners.PostAggregationThresholdingCombiner():
            return _Thresholded(combiner, params, steps)
        case combiners.MeanCombiner():
            return _Mean(combiner, params, steps)
        case combiners.VarianceCombiner():
            return _Variance(combiner, params, steps)
        case combiners.VectorSumCombiner():
            return _Vector(combiner, params, steps)
        case combiners.QuantileCombiner():  # PyDP adds whole numbers to a tree's counts
            return combiner
    raise RunFailed(f"PipelineDP has {type(combiner).__name__}, whose noise isn't known in steps")


class _Stepped(combiners.Combiner):
    """One of PipelineDP's combiners, for all but its noise."""

    def __init__(self, inner: Any, params: Any, steps: Mapping[str, float]) -> None:
        self._inner, self._params, self._steps = inner, params, steps

    def create_accumulator(self, values: Iterable[Any]) -> Any:
        return self._inner.create_accumulator(values)

    def merge_accumulators(self, accumulator1: Any, accumulator2: Any) -> Any:
        return self._inner.merge_accumulators(accumulator1, accumulator2)

    def metrics_names(self) -> Any:
        return self._inner.metrics_names()

    def explain_computation(self) -> Any:
        return self._inner.explain_computation()

    def expects_per_partition_sampling(self) -> bool:
        return bool(self._inner.expects_per_partition_sampling())


class _Scalar(_Stepped):
    """A count or sum."""

    def __init__(self, inner: Any, params: Any, steps: Mapping[str, float], name: str, step: float) -> None:
        super().__init__(inner, params, steps)
        self._name, self._step = name, step

    def compute_metrics(self, accumulator: Any) -> dict[str, Any]:
        metrics: dict[str, Any] = self._inner.compute_metrics(0)
        return metrics | {self._name: in_steps(float(accumulator), metrics[self._name], self._step)}


class _Vector(_Stepped):
    def compute_metrics(self, accumulator: Any) -> dict[str, Any]:
        noise = self._inner.compute_metrics(np.zeros(accumulator.shape))["vector_sum"]
        step = self._steps["vector"]
        found = [in_steps(*pair, step) for pair in zip(accumulator.tolist(), noise.tolist(), strict=True)]
        return {"vector_sum": np.array(found)}


class _Thresholded(_Stepped):
    """The unit count that selects its partition: the noise is read off a count that is kept for sure."""

    def compute_metrics(self, accumulator: int) -> dict[str, Any]:
        mechanism, step = self._inner.get_mechanism(), self._steps["privacy_id_count"]
        threshold = mechanism.threshold()
        # A power of two beyond what noise can undo: the step is at least 2**-21 of the noise's standard deviation.
        kept = 2.0 ** math.ceil(math.log2(abs(threshold) + _ALWAYS_KEPT * 2.0**21 * step + 1))
        drawn = mechanism.noised_value_if_should_keep(int(kept))
        if drawn is None:
            raise RunFailed("PipelineDP's thresholding drew noise beyond what can be; nothing can be released")
        noisy = in_steps(accumulator, drawn - int(kept), step)
        return {"privacy_id_count": noisy if noisy > threshold else None}


class _Moments(_Stepped):
    def _noisy(self, kind: str, value: float, spec: Any, sensitivities: Any) -> float:
        mechanism = dp_computations.create_additive_mechanism(spec, sensitivities)
        return in_steps(float(value), mechanism.add_noise(0.0), self._steps[kind])

    def _middle(self) -> float:
        return float(dp_computations.compute_middle(self._params.min_value, self._params.max_value))

    def _asked(self, **moments: float) -> dict[str, float]:
        return {name: moments[name] for name in self.metrics_names()}


class _Mean(_Moments):
    """PipelineDP's formula, `MeanMechanism.compute_mean`."""

    def compute_metrics(self, accumulator: tuple[int, float]) -> dict[str, Any]:
        for_count, for_sum = self._inner.mechanism_spec()
        count = self._noisy(
            "count", accumulator[0], for_count, dp_computations.compute_sensitivities_for_count(self._params)
        )
        total = self._noisy(
            "sum", accumulator[1], for_sum, dp_computations.compute_sensitivities_for_normalized_sum(self._params)
        )
        mean = self._middle() + total / max(1.0, count)
        return self._asked(count=count, sum=mean * count, mean=mean)


class _Variance(_Moments):
    """PipelineDP's formula, `dp_computations.compute_dp_var`, with its own split of the budget and sensitivities."""

    def compute_metrics(self, accumulator: tuple[int, float, float]) -> dict[str, Any]:
        params, whole = self._params, self._inner.mechanism_spec()
        thirds = [self._third(*part) for part in dp_computations.equally_split_budget(whole.eps, whole.delta, 3)]
        low, high = dp_computations.compute_squares_interval(params.min_value, params.max_value)
        of_squares = dp_computations.Sensitivities(
            l0=params.max_partitions_contributed,
            linf=params.max_contributions_per_partition * abs(dp_computations.compute_middle(low, high) - low),
        )
        sensitivities = (
            dp_computations.compute_sensitivities_for_count(params),
            dp_computations.compute_sensitivities_for_normalized_sum(params),
            of_squares,
        )
        count, total, squares = (
            self._noisy(kind, value, spec, taken)
            for kind, value, spec, taken in zip(
                ("count", "sum", "squares"), accumulator, thirds, sensitivities, strict=True
            )
        )
        shown = max(1.0, count)
        variance = squares / shown - (total / shown) ** 2
        mean = self._middle() + total / shown
        return self._asked(count=count, sum=mean * count, mean=mean, variance=variance)

    def _third(self, epsilon: float, delta: float) -> Any:
        spec = MechanismSpec(mechanism_type=self._params.noise_kind.convert_to_mechanism_type())
        spec.set_eps_delta(epsilon, delta)
        return spec
