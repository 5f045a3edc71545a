"""Means, variances and standard deviations, as a policy states them."""

from __future__ import annotations

from dpbeam.policy.metrics.base import ValueArgs

ARGUMENTS = {"mean": ValueArgs, "variance": ValueArgs, "stddev": ValueArgs}
