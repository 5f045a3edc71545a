"""What coverage costs: the share of its stage's budget that is stated, as a mechanism of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dpbeam.accounting.check import check_plan
from dpbeam.accounting.plan import mechanisms_for, plan
from dpbeam.errors import Refused
from dpbeam.mechanisms.events import Gaussian, Laplace
from dpbeam.mechanisms.targets import OfCoverage, target_of
from tests.helpers.queries import query_of

PRIVATE = [
    {"strategy": "truncated_geometric"},
    {"strategy": "laplace_thresholding"},
    {"strategy": "gaussian_thresholding"},
    {"strategy": "dp_sips"},
    {"strategy": "mad2r"},
    {"strategy": "laplace_thresholding", "hierarchical": True},
]


def policy(noise: str = "gaussian", share: float | None = 0.02, stages: int = 1, **more: Any) -> dict[str, Any]:
    stage = {
        "group_by": ["city"],
        "partitions": {"public": {"values": ["a"]}},
        "bounds": {"l0": 3, "linf": 2},
        "metrics": ["count", "privacy_id_count", {"mean": {"column": "spend", "low": 0, "high": 9, "weight": 2}}],
        "noise": noise,
    } | more
    return {
        "version": 1,
        "dataset": "v",
        "source": {"format": "csv", "path": "v.csv"},
        "privacy_unit": "who",
        "columns": {"who": {"type": "string"}, "city": {"type": "string"}, "spend": {"type": "float64"}},
        "run": {"epsilon": 1, "delta": 1e-6},
        "stages": [{"name": f"s{i}", **stage} for i in range(stages)],
        **({} if share is None else {"coverage": {"share": share}}),
    }


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
@pytest.mark.parametrize("private", [None, *PRIVATE], ids=str)
def test_the_plan_of_each_kind_of_stage_passes_its_check_with_coverage(noise, private) -> None:
    more = {} if private is None else {"partitions": {"private": private}}
    mechanisms, certificate = mechanisms_for(query_of(policy(noise, **more)))
    (own,) = (m for m in mechanisms if isinstance(target_of(m), OfCoverage))
    assert (own.kind, own.stage, own.metric) == (noise, "s0.coverage", "rows")
    assert (own.l1 if isinstance(own, Laplace) else own.l2 if isinstance(own, Gaussian) else None) == 1
    assert certificate.epsilon <= 1


def test_each_stage_has_its_own() -> None:
    mechanisms, _ = mechanisms_for(query_of(policy(stages=3)))
    assert [m.stage for m in mechanisms if isinstance(target_of(m), OfCoverage)] == [
        "s0.coverage",
        "s1.coverage",
        "s2.coverage",
    ]


@pytest.mark.parametrize(("noise", "power"), [("laplace", 1), ("gaussian", 2)])
def test_it_has_the_stated_share_of_what_the_stage_costs(noise, power) -> None:
    mechanisms, _ = mechanisms_for(query_of(policy(noise, share=0.1)))
    spent = [(m.l1 / m.scale if isinstance(m, Laplace) else m.l2 / m.sigma) ** power for m in mechanisms]
    assert spent[-1] / sum(spent) == pytest.approx(0.1)


def test_a_plan_without_it_is_refused_where_it_was_asked_for() -> None:
    query = query_of(policy())
    mechanisms, _ = mechanisms_for(replace(query, stages=tuple(replace(s, coverage=None) for s in query.stages)))
    with pytest.raises(Refused, match=r"must have the mechanisms .*s0\.coverage/rows in this order"):
        check_plan(query.stages, mechanisms, epsilon=1, delta=1e-6)


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
def test_a_plan_whose_coverage_has_too_little_noise_is_refused(noise) -> None:
    query = query_of(policy(noise))
    *others, own = plan(query).mechanisms
    field = "scale" if noise == "laplace" else "sigma"
    changed = replace(own, **{field: getattr(own, field) / 1.01})
    with pytest.raises(Refused, match=r"stage s0\.coverage, rows: its noise must follow its weight"):
        check_plan(query.stages, [*others, changed], epsilon=1, delta=1e-6)
