"""Checks mechanisms against the requests that they were calibrated for: tests of calibration start from no stage."""

from __future__ import annotations

from collections.abc import Sequence

from dpbeam.accounting.certify import Certificate
from dpbeam.accounting.check import check_mechanisms
from dpbeam.accounting.expected import Expected
from dpbeam.accounting.requests import Request
from dpbeam.mechanisms.events import Mechanism


def check_requested(
    requests: Sequence[Request], mechanisms: Sequence[Mechanism], *, epsilon: float, delta: float
) -> Certificate:
    """Certifies that the mechanisms are what the requests say; what these protect is taken as they state it."""
    wanted = [
        Expected(
            stage=request.stage,
            metric=request.metric,
            kind=request.kind,
            l1=request.sensitivity[0],
            l2=request.sensitivity[1],
            l0=request.l0,
            pre_threshold=request.pre_threshold,
            weight=request.weight,
            strategy=request.strategy,
            least_bias=request.least_bias,
        )
        for request in requests
    ]
    return check_mechanisms(wanted, mechanisms, epsilon=epsilon, delta=delta)
