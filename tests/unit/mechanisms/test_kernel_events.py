"""A mechanism can't be built with a parameter outside its range, and reads back from JSON as it was written."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from dpbeam.mechanisms.events import (
    KINDS,
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Other,
    TruncatedGeometric,
    WeightedThresholding,
    from_json,
    in_others,
    to_json,
)

SELECTS = {"stage": "s", "delta": 1e-6, "l0": 2}
ALL = (
    Laplace(stage="s", metric="count", scale=2.0, l1=3.0),
    Gaussian(stage="s", metric="count", sigma=2.0, l2=3.0),
    TruncatedGeometric(epsilon=1.0, **SELECTS),
    LaplaceThresholding(scale=2.0, l1=2.0, threshold=9.0, **SELECTS),
    GaussianThresholding(sigma=2.0, l2=2.0, threshold=9.0, **SELECTS),
    WeightedThresholding(metric="partitions.round1", strategy="mad", sigma=2.0, l2=1.0, threshold=9.0, **SELECTS),
)
POSITIVE = ("scale", "l1", "sigma", "l2", "epsilon", "threshold")
CASES = [
    *(
        (mechanism, name, value, f"{name} must be a positive finite number, got {value!r}")
        for mechanism in ALL
        for name in POSITIVE
        if hasattr(mechanism, name)
        for value in (0.0, -1.0, math.nan, math.inf, "1")
    ),
    *(
        (mechanism, "delta", value, f"delta must be above 0 and below 1, got {value!r}")
        for mechanism in ALL[2:]
        for value in (0.0, 1.0, -0.1, math.nan, 1)
    ),
    *(
        (mechanism, name, value, f"{name} must be a whole number of at least 1, got {value!r}")
        for mechanism in ALL[2:]
        for name in ("l0", "pre_threshold")
        for value in (0, -1, 1.0, True)
    ),
    *((ALL[-1], "saturation", value, "saturation must be a positive finite") for value in (-1.0, math.inf, math.nan)),
    *((ALL[-1], "least_bias", value, "least_bias must be above 0 and at most 1") for value in (0.0, 1.5, math.nan, 1)),
    (ALL[-1], "strategy", "best", "strategy must be one of dp_sips, mad, mad2r, got 'best'"),
]


@pytest.mark.parametrize(("mechanism", "name", "value", "message"), CASES)
def test_a_parameter_out_of_its_range_is_refused(mechanism, name, value, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(mechanism, **{name: value})


@pytest.mark.parametrize("mechanism", ALL)
def test_parameters_at_the_ends_of_their_ranges_are_taken(mechanism):
    ends = {name: 5e-324 for name in POSITIVE if hasattr(mechanism, name)}
    if hasattr(mechanism, "delta"):
        ends |= {"delta": math.nextafter(1.0, 0.0), "l0": 1, "pre_threshold": 1}
    if isinstance(mechanism, WeightedThresholding):
        ends |= {"saturation": 5e-324, "least_bias": 5e-324}
    made = replace(mechanism, **ends)
    assert {name: getattr(made, name) for name in ends} == ends


@pytest.mark.parametrize("mechanism", ALL)
def test_a_mechanism_reads_back_as_it_was_written(mechanism):
    written = to_json(mechanism)
    assert list(written)[:3] == ["stage", "metric", "kind"]
    assert KINDS[written["kind"]] is type(mechanism)
    assert from_json(json.loads(json.dumps(written))) == mechanism


def test_unknown_kinds_and_fields_are_refused():
    for kind in ("exponential", None):
        with pytest.raises(ValueError, match=rf"^kind must be one of laplace, gaussian, .*, got {kind!r}$"):
            from_json({"kind": kind} if kind else {})
    written = to_json(ALL[0])
    for other in (written | {"extra": 1}, {name: value for name, value in written.items() if name != "scale"}):
        with pytest.raises(ValueError, match=r"^a mechanism of kind laplace has other fields: "):
            from_json(other)
    assert from_json(written) == ALL[0]
    assert written == to_json(ALL[0])  # reading takes nothing out of what it is given


def test_an_other_has_its_noise_times_that_of_a_leaf():
    others = Other(leaves=9, rows=9, most=9.0, noise=3.0)
    leaf = Gaussian(stage="s", metric="count", sigma=2.0, l2=3.0)
    assert in_others(leaf) == leaf
    assert in_others(replace(leaf, other=others)) == Gaussian(stage="s", metric="count", sigma=6.0, l2=3.0)
    assert in_others(in_others(replace(leaf, other=others))) == in_others(replace(leaf, other=others))
    laplace = Laplace(stage="s", metric="count", scale=2.0, l1=3.0, other=replace(others, noise=1.0))
    assert in_others(laplace) == laplace


def test_json_says_what_an_other_is_where_there_is_one():
    leaf = Gaussian(stage="s", metric="count", sigma=2.0, l2=3.0)
    plain = {"stage": "s", "metric": "count", "kind": "gaussian", "sigma": 2.0, "l2": 3.0}
    assert to_json(leaf) == plain
    others = {"leaves": 9, "rows": None, "most": 9.0, "noise": 3.0}
    assert to_json(replace(leaf, other=Other(**others))) == plain | {"other": others}
