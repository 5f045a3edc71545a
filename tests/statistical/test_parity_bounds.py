"""Where bounds bite, what stays of a unit has the law of what PipelineDP keeps; so have the partitions that are kept.

Kolmogorov–Smirnov and Fisher tests, each failing by chance with probability 1e-9, and each shown to reject a wrong
bound or selection.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers import parity

pytestmark = pytest.mark.usefixtures("reference_engine")
PUBLIC = {"public": {"values": [0, 1]}}
SUM = {"sum": {"column": "v", "low": 0.0, "high": 32.0}}
GROUPS = 10_000
"""Independent draws a test of bounds: groups of partitions that share no unit."""
SELECTIONS = ["truncated_geometric", "laplace_thresholding", "gaussian_thresholding"]


def wrong(planned, **bounds):
    """The stage with other bounds than planned."""
    return replace(planned, spec=replace(planned.spec, bounds=replace(planned.spec.bounds, **bounds)))


BITING = {  # by name: bounds, partitions a group, rows of each of its two units in each, their value, and wrong bounds
    # Values are of units, or 1, 2, 4 … of rows: sums tell which stayed.
    "l0": ({"l0": 2, "linf": 1}, 3, 1, lambda u, n: 2.0**u, {"l0": 3}),
    "linf": ({"l0": 2, "linf": 2}, 2, 3, lambda u, n: 2.0**n, {"linf": 3}),
    "l1": ({"l1": 3}, 2, 3, lambda u, n: 2.0**n, {"l1": 5}),
    "l0 and linf": ({"l0": 1, "linf": 2}, 2, 3, lambda u, n: 2.0**n, {"l0": 2}),
}


@pytest.mark.parametrize("case", BITING)
def test_what_bounds_leave_of_a_unit_has_pipelinedps_law(tmp_path, case) -> None:
    bounds, partitions, each, value, other = BITING[case]
    planned = parity.stage(tmp_path, epsilon=100.0, noise="laplace", metrics=[SUM], bounds=bounds, partitions=PUBLIC)
    pattern = np.array([(u, p, value(u, n)) for u in range(2) for p in range(partitions) for n in range(each)])
    at = np.repeat(np.arange(GROUPS), len(pattern))
    u, p, v = np.tile(pattern, (GROUPS, 1)).T
    rows, public = parity.batch(u + 2 * at, p + partitions * at, v), parity.public(partitions * GROUPS)

    def independent(found):
        """Of one partition in each group: those of a group depend on one another."""
        return found[::partitions]

    reference = independent(parity.theirs(planned, rows, public)["sum"])
    assert len(set(np.round(reference, 0))) > 3  # the choice shows through the noise
    assert parity.one_law(independent(parity.ours(planned, rows, public)["v_sum"]), reference)
    assert not parity.one_law(independent(parity.ours(wrong(planned, **other), rows, public)["v_sum"]), reference)


@pytest.mark.parametrize(("pre_threshold", "sizes"), [(1, (2, 3, 4)), (3, (2, 5, 6))])
@pytest.mark.parametrize("strategy", SELECTIONS)
def test_as_many_partitions_are_kept_as_by_pipelinedp(tmp_path, strategy, pre_threshold, sizes) -> None:
    """Partitions of units of their own, of sizes about the middle of where the strategy decides."""
    private = {"strategy": strategy, "pre_threshold": pre_threshold}
    planned = parity.stage(
        tmp_path, epsilon=10.0, noise="gaussian", metrics=["count"], bounds={"l0": 1, "linf": 1},
        partitions={"private": private},
    )  # fmt: skip
    decided = set()
    for units in sizes:
        rows = parity.alike([(i, 0.0, 0.0) for i in range(units)], 10_000)
        reference, found = len(parity.theirs(planned, rows)["p"]), len(parity.ours(planned, rows)["p"])
        assert parity.one_rate(found, reference, 10_000), units
        if units < pre_threshold:
            assert found == reference == 0
        if 500 < reference < 9_500:
            decided.add(units)
            fewer = parity.alike([(i, 0.0, 0.0) for i in range(units // 2)], 10_000)
            assert not parity.one_rate(len(parity.ours(planned, fewer)["p"]), reference, 10_000), units
    assert decided


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
def test_a_unit_count_that_selects_is_released_as_by_pipelinedp(tmp_path, noise) -> None:
    planned = parity.stage(
        tmp_path, epsilon=10.0, noise=noise, metrics=["privacy_id_count"], bounds={"l0": 2},
        partitions={"private": {"strategy": f"{noise}_thresholding"}},
    )  # fmt: skip
    units = round(planned.spec.selection.threshold)
    rows = parity.alike([(i, 0.0, 0.0) for i in range(units)], 10_000)
    reference, found = parity.theirs(planned, rows)["privacy_id_count"], parity.ours(planned, rows)["privacy_id_count"]
    assert parity.one_rate(len(found), len(reference), 10_000)
    assert parity.one_law(found, reference)
    more = parity.alike([(i, 0.0, 0.0) for i in range(units + 2)], 10_000)
    assert not parity.one_law(parity.ours(planned, more)["privacy_id_count"], reference)
