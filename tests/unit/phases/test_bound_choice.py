"""Bounds by the error that a stage's results would have: what is chosen, and by which mechanisms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dpbeam.accounting.at_bounds import at_bounds
from dpbeam.accounting.plan import plan
from dpbeam.engine.automatic_bounds import Clips, Contributions, count_grid
from dpbeam.mechanisms.events import Gaussian, to_json
from dpbeam.phases.bound_choice import Seen, choose, kept
from dpbeam.phases.expected_error import Kept, StageError, Values, layouts
from tests.helpers.queries import query_of

AUTO = {"auto": {"max": 500}}
PUBLIC = {"public": {"values": [f"k{i}" for i in range(20)]}}
PRIVATE = ("truncated_geometric", "laplace_thresholding", "gaussian_thresholding", "dp_sips", "mad2r")


def asked(bounds=None, metrics=("count",), partitions=None, noise="gaussian", epsilon=1.0):
    return query_of(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": "d.csv"},
            "privacy_unit": "user",
            "columns": {name: {"type": "string"} for name in ("user", "k")} | {"hours": {"type": "float64"}},
            "run": {"epsilon": epsilon, "delta": 1e-6},
            "stages": [
                {
                    "name": "a",
                    "group_by": ["k"],
                    "partitions": partitions or PUBLIC,
                    "bounds": bounds or {"l0": AUTO, "linf": 1},
                    "metrics": list(metrics),
                    "noise": noise,
                }
            ],
        }
    )


def units(most=500, by_row=False, **numbers):
    """`k<bin>` units in the bin that ends there."""
    by_bin = np.zeros(len(count_grid(most)))
    for name, number in numbers.items():
        by_bin[count_grid(most).index(int(name[1:]))] = number
    return Contributions(most=most, units=by_bin, by_row=by_row)


def chosen(query, **seen):
    (stage,) = query.stages
    return choose(stage, plan(query).mechanisms, Seen(**({"contributions": {}, "clips": {}} | seen)))


@pytest.mark.parametrize("strategy", [None, *PRIVATE])
@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
def test_mechanisms_at_other_bounds_are_those_that_a_plan_makes_for_them(strategy, noise) -> None:
    """So that a candidate is judged by the noise and the thresholds that it would really have."""
    auto = {"auto": {"most": 64.0}}
    metrics = ["count", "privacy_id_count", {"sum": {"column": "hours", "low": 0.0, "high": auto}}]
    partitions = None if strategy is None else {"private": {"strategy": strategy}}
    query = asked({"l0": {"auto": {"max": 12}}, "linf": {"auto": {"max": 9}}}, metrics, partitions, noise)
    values = {"l0": 3, "linf": 2, "high": 4.0}
    other = query.with_chosen({key: values[key[2]] for key in query.automatic})
    found = at_bounds(other.stages[0], plan(query).mechanisms)
    for one, planned in zip(found, plan(other).mechanisms, strict=True):
        was, now = to_json(planned), to_json(one)
        assert was.keys() == now.keys()
        for name, value in was.items():
            assert now[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


def test_the_choice_follows_the_noise_and_not_a_power_of_the_bound() -> None:
    """The same people: with little noise nothing is cut, with much of it nearly everything."""
    seen = units(k1=3_000, k8=1_000, k64=300)
    found = [chosen(asked(epsilon=e), contributions={"l0": seen}).bounds.l0 for e in (0.003, 0.1, 1.0, 100.0)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (1, 64)


def test_where_all_contribute_alike_the_bound_is_what_they_contribute() -> None:
    assert chosen(asked(), contributions={"l0": units(k12=5_000)}).bounds.l0 == 12


def test_two_bounds_are_chosen_together() -> None:
    """Alone, each would be wide; together they share the noise, which grows with √l0·linf."""
    seen = {"l0": units(k1=2_000, k12=1_000), "linf": units(k1=2_000, k24=500, by_row=True)}
    both = chosen(asked({"l0": AUTO, "linf": AUTO}, epsilon=0.05), contributions=seen).bounds
    l0 = chosen(asked({"l0": AUTO, "linf": 1}, epsilon=0.05), contributions={"l0": seen["l0"]}).bounds.l0
    assert both.l0 <= l0
    assert both.linf < 24


CLIPS = Clips(
    values=np.array([3.0, 6.0, 768.0]),
    parts=np.array([0.5, 0.499, 0.001]),
    pairs=((0.0, 1024.0), *((0.0, 2.0**k) for k in range(2, 10))),
)
SUM = {"sum": {"column": "hours", "low": 0.0, "high": {"auto": {}}}}


@pytest.mark.parametrize(("people", "high"), [(3_000.0, 8.0), (1e7, 1024.0)])
def test_a_sum_is_clipped_where_noise_outweighs_what_is_cut(people, high) -> None:
    found = chosen(asked({"l0": 1, "linf": 1}, [SUM]), clips={"hours_sum": CLIPS}, people=people)
    assert found.metrics[0].high == high


ZERO = Clips(values=np.zeros(1), parts=np.ones(1), pairs=((0.0, 2.0**-20),))


@pytest.mark.parametrize("name", ["sum", "mean", "variance"])
def test_values_that_are_all_0_are_counted_and_leave_a_choice(name) -> None:
    """There is nothing to measure an error by but the bounds themselves."""
    metric = {name: {"column": "hours", "low": {"auto": {}}, "high": {"auto": {}}}}
    seen = {"l0": units(k1=3_000, k8=3_000)}
    query = asked({"l0": AUTO, "linf": 1}, ["count", metric], epsilon=100.0)
    found = chosen(query, contributions=seen, clips={f"hours_{name}": ZERO})
    assert found.bounds.l0 == 8
    assert (found.metrics[1].low, found.metrics[1].high) == (0.0, 2.0**-20)


def test_a_quantile_takes_the_widest_bounds() -> None:
    median = {"median": {"column": "hours", "low": 0.0, "high": {"auto": {}}}}
    found = chosen(asked({"l0": 1, "linf": 1}, [median]), clips={"hours_median": CLIPS}, people=300.0)
    assert found.metrics[0].high == 1024.0


def test_a_mean_keeps_no_more_rows_than_its_noise_is_worth_and_a_count_does() -> None:
    """Rows that are left out at random don't move a mean."""
    mean = {"mean": {"column": "hours", "low": 0.0, "high": 8.0}}
    seen = {"l0": units(k1=3_000, k64=300)}
    of_mean = chosen(asked(metrics=[mean], epsilon=100.0), contributions=seen).bounds.l0
    assert of_mean < chosen(asked(epsilon=100.0), contributions=seen).bounds.l0 == 64


def test_a_release_of_keys_alone_has_a_choice_too() -> None:
    query = asked({"l0": AUTO}, [], {"private": {"strategy": "gaussian_thresholding"}})
    assert chosen(query, contributions={"l0": units(k4=5_000)}).bounds.l0 <= 4


def test_what_is_kept_is_the_product_over_its_bounds() -> None:
    (stage,) = asked({"l0": AUTO, "linf": AUTO}).stages
    stage = replace(stage, bounds=replace(stage.bounds, l0=2, linf=1))
    seen = Seen(contributions={"l0": units(k1=10, k4=10), "linf": units(k1=10, k4=10)}, clips={})
    assert kept(stage, seen) == Kept(pairs=30 / 50, within=20 / 50)


@pytest.mark.parametrize("public", [None, 1, 7, 3_000])
def test_a_layout_holds_all_contributions_and_loses_what_is_cut(public) -> None:
    made = list(layouts(9_000.0, 27_000.0, 5.0, public))
    assert len(made) == (1 if public == 1 else 3 if public else 6)
    for layout in made:
        assert float((layout.number * layout.share).sum()) == pytest.approx(1.0)
        lost = 1 - layout.within(Kept(within=0.99))
        assert float((layout.number * layout.share * lost).sum()) == pytest.approx(0.01)
    if public is not None:
        assert {float(layout.number.sum()) for layout in made} == {float(public)}


def test_the_error_is_what_is_cut_and_the_noise_against_what_there_is() -> None:
    """20 even partitions of 500 rows: a tenth is cut off, and the noise has a standard deviation of 30."""
    (stage,) = asked({"l0": 4, "linf": 1}).stages
    mechanisms = (Gaussian(stage="a", metric="count", sigma=30.0, l2=2.0),)
    error = StageError(stage=stage, mechanisms=mechanisms, kept=Kept(pairs=0.9), values={})
    (even, *_) = layouts(10_000.0, 10_000.0, 1.0, 20)
    assert error.of([even], stage.metrics) == [pytest.approx(math.hypot(0.1, 30 / 500))]


def test_what_is_not_shown_has_an_error_of_all_of_it() -> None:
    (stage,) = asked({"l0": 4, "linf": 1}, partitions={"private": {"strategy": "gaussian_thresholding"}}).stages
    query = asked({"l0": 4, "linf": 1}, partitions={"private": {"strategy": "gaussian_thresholding"}})
    error = StageError(stage=stage, mechanisms=plan(query).mechanisms, kept=Kept(), values={})
    few, many = (next(layouts(pairs, pairs, 10.0, None)) for pairs in (100.0, 1e6))
    assert error.of([few, many], stage.metrics) == [1.0, pytest.approx(0.0, abs=0.01)]


def test_clipping_moves_a_value_to_the_nearest_bound() -> None:
    values = Values(values=np.array([-4.0, 1.0, 9.0]), parts=np.array([0.25, 0.5, 0.25]))
    assert (values.mean_size, values.lost(-1.0, 5.0), values.lost(-4.0, 9.0)) == (3.75, 1.75, 0.0)
