"""The metrics as a policy states them: the arguments of each family, what is wrong with them, what they become."""

from __future__ import annotations

from collections.abc import Mapping

from dpbeam.policy.metrics.base import MetricArgs
from dpbeam.queries import metrics

_OF_KIND: Mapping[str, type[MetricArgs]] = {
    kind: stated for family in metrics.load(__name__) for kind, stated in family.ARGUMENTS.items()
}

ARGUMENTS: Mapping[str, type[MetricArgs]] = {kind: _OF_KIND[kind] for kind in metrics.KINDS}
"""What stands under each metric's key, in the order in which metrics are listed."""
