"""What tuning draws privately: one row a unit, one bin a row, and nothing that the policy doesn't decide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpbeam.accounting.plan import plan
from dpbeam.engine.stage import Flat, UnitRows, planned
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms.events import Laplace
from dpbeam.pipelines.tuning.soundings import soundings
from dpbeam.policy.load import policy_of
from dpbeam.queries.bounds import Bounds
from tests.conftest import base_policy


def policy(**changes):
    said = base_policy()
    said["stages"][0] |= changes
    return policy_of(said)


def test_one_unit_moves_each_histogram_by_one_whatever_it_may_contribute():
    made = soundings(policy(bounds={"l0": 50, "linf": 7}, noise="laplace"), epsilon=0.5, delta=1e-6)
    found = plan(made.query)
    assert found.certificate.epsilon <= 0.5
    assert [(m.stage, m.metric) for m in found.mechanisms] == [
        ("by_place_values", "amount"),
        ("by_place_units", "l0"),
        ("by_place_units", "linf"),
    ]
    # A third of ε each, up to the calibration's and the checks' last half percent.
    for mechanism in found.mechanisms:
        assert isinstance(mechanism, Laplace)
        assert mechanism.l1 == 1.0
        assert 6.0 - 1e-6 <= mechanism.scale <= 6.0 * 1.005


def test_units_are_rows_within_the_most_that_is_looked_for():
    made = soundings(policy(bounds={"l0": 50, "linf": 7}), epsilon=0.5, delta=1e-6)
    values, units = planned(made.query, plan(made.query).mechanisms)
    assert values.mode == Flat()
    assert isinstance(units.mode, UnitRows)
    assert units.mode.bounds == Bounds(l0=800, linf=112)
    assert (values.bounds, units.bounds) == (Bounds(l0=1, linf=1), Bounds(l0=1, linf=1))
    assert len({values.stream, units.of_input.stream}) == 2


@pytest.mark.parametrize("bounds", [Bounds(l0=2, linf=1), Bounds(l0=1, linf=2), Bounds(l1=1)])
def test_a_stage_of_units_rows_with_other_bounds_cant_be_asked_for(bounds):
    units = soundings(policy(), epsilon=0.5, delta=1e-6).query.stages[1]
    with pytest.raises(ValueError, match=r"^stage by_place_units: one row a unit has no keys, bounds of 1"):
        replace(units, bounds=bounds)


def test_its_digest_is_of_the_policy_without_what_its_runs_spend_and_of_what_it_spends_itself():
    def digest(epsilon=0.5, delta=1e-6, **changes):
        return soundings(policy_of(base_policy() | changes), epsilon=epsilon, delta=delta).query.digest

    assert digest() == digest(run={"epsilon": 2.0, "delta": 1e-7}) == digest(guardrails={"max_epsilon_per_run": 2.0})
    others = [
        digest(),
        digest(epsilon=0.6),
        digest(delta=1e-7),
        digest(where=[{"column": "amount", "op": ">", "value": 0.0}]),
    ]
    assert len({*others, policy_of(base_policy()).digest}) == 5


def test_where_every_row_is_a_unit_only_values_are_looked_for():
    said = base_policy() | {"privacy_unit": "row"}
    del said["columns"]["person"]
    said["stages"][0]["bounds"] = {"l0": 1, "linf": 1}
    said["stages"][0]["metrics"] = ["count", {"sum": {"column": "amount", "low": 0.0, "high": 10.0}}]
    made = soundings(policy_of(said), epsilon=0.5, delta=1e-6)
    assert [stage.name for stage in made.query.stages] == ["by_place_values"]


def test_a_plan_without_the_noise_of_a_histogram_is_refused():
    from dpbeam.accounting.check import check_plan

    query = soundings(policy(), epsilon=0.5, delta=1e-6).query
    with pytest.raises(Refused, match=r"^the plan must have the mechanisms by_place_values/amount, by_place_units/l0"):
        check_plan(query.stages, plan(query).mechanisms[:2], epsilon=0.5, delta=1e-6)


def test_what_has_no_bound_to_tune_is_refused_before_anything_is_charged():
    said = base_policy() | {"privacy_unit": "row"}
    del said["columns"]["person"]
    said["stages"][0] |= {"bounds": {"l0": 1, "linf": 1}, "metrics": ["count"]}
    with pytest.raises(UsageError, match=r"^no stage has a bound on contributions or values that could be tuned"):
        soundings(policy_of(said), epsilon=0.5, delta=1e-6)
