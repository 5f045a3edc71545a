"""Plans are what they were before all doors shared one value in the middle: mechanism for mechanism."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.helpers.golden_plans import FILE, of_jobs, of_policy

GOLDEN = json.loads(gzip.decompress(FILE.read_bytes()))


def same(was: Any, now: Any) -> None:
    """Equal but for the last digits of floats, which other versions of numerical libraries may move."""
    match was:
        case dict():
            assert was.keys() == now.keys()
            for key, value in was.items():
                same(value, now[key])
        case list():
            assert len(was) == len(now)
            for one, other in zip(was, now, strict=True):
                same(one, other)
        case float():
            assert now == pytest.approx(was, rel=1e-6)
        case _:
            assert was == now


@pytest.mark.parametrize("place", range(0, len(GOLDEN["policies"]), 10))
def test_policies_have_the_digests_and_mechanisms_they_had(place: int) -> None:
    for made in GOLDEN["policies"][place : place + 10]:
        policy = made["policy"]
        same({key: value for key, value in made.items() if key != "policy"}, of_policy(policy))


@pytest.mark.parametrize("place", range(0, len(GOLDEN["pipelinedp"]), 10))
def test_jobs_for_pipelinedp_have_the_mechanisms_they_had(place: int) -> None:
    for made in GOLDEN["pipelinedp"][place : place + 10]:
        same({"mechanisms": made["mechanisms"]}, of_jobs(made["jobs"]))
