"""Events that nest: what can't be built, and their JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.mechanisms import events
from dpbeam.mechanisms.cost_events import Composed, PoissonSampled, Repeated, from_json, to_json
from dpbeam.mechanisms.events import Gaussian, Laplace, Other, TruncatedGeometric

GAUSSIAN = Gaussian(stage="s", metric="m", sigma=1.5, l2=1.0)
FLAT = (
    GAUSSIAN,
    Laplace(stage="s", metric="m", scale=2.0, l1=1.0, other=Other(leaves=1, rows=None, most=1.0, noise=1.0)),
    TruncatedGeometric(stage="s", epsilon=0.1, delta=1e-9, l0=2),
)
DEEP = st.recursive(
    st.sampled_from(FLAT),
    lambda inner: st.one_of(
        st.builds(lambda events: Composed(events=tuple(events)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda event, count: Repeated(event=event, count=count), inner, st.integers(1, 10**9)),
        st.builds(
            lambda event, q: PoissonSampled(event=event, probability=q),
            inner,
            st.floats(0, 1, exclude_min=True),
        ),
    ),
    max_leaves=8,
)


@given(DEEP)
def test_an_event_is_what_its_json_says(event):
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


@pytest.mark.parametrize("mechanism", FLAT)
def test_a_mechanism_has_the_json_that_it_has_by_itself(mechanism):
    assert json.dumps(to_json(mechanism)) == json.dumps(events.to_json(mechanism))


def test_the_json_of_training_says_what_it_is():
    event = Repeated(event=PoissonSampled(probability=0.01, event=GAUSSIAN), count=1000)
    assert to_json(event) == {
        "kind": "repeated",
        "event": {"kind": "poisson_sampled", "probability": 0.01, "event": events.to_json(GAUSSIAN)},
        "count": 1000,
    }


@pytest.mark.parametrize("count", [0, -1, 1.0, True, 10**9 + 1])
def test_a_count_that_is_none_is_refused(count):
    with pytest.raises(ValueError) as refused:
        Repeated(event=GAUSSIAN, count=count)
    assert str(refused.value) == f"count must be a whole number from 1 to 1000000000, got {count!r}"


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1, math.nan, 1, True, "0.5"])
def test_a_probability_that_is_none_is_refused(probability):
    with pytest.raises(ValueError) as refused:
        PoissonSampled(event=GAUSSIAN, probability=probability)
    assert str(refused.value) == f"probability must be a float above 0 and at most 1, got {probability!r}"


@pytest.mark.parametrize("inner", [(), [GAUSSIAN]])
def test_a_composition_of_nothing_or_of_a_list_is_refused(inner):
    with pytest.raises(ValueError) as refused:
        Composed(events=inner)
    assert str(refused.value) == f"events must be a tuple of at least one event, got {inner!r}"


def test_what_is_no_event_is_refused():
    with pytest.raises(ValueError) as refused:
        Repeated(event="gaussian", count=1)
    assert str(refused.value) == "an event must be a mechanism, Composed, Repeated or PoissonSampled, got 'gaussian'"


def test_events_nest_32_deep_and_no_deeper():
    event, written = GAUSSIAN, to_json(GAUSSIAN)
    for _ in range(32):
        event, written = Composed(events=(event,)), {"kind": "composed", "events": [written]}
    assert from_json(written) == event
    for build in (lambda: Composed(events=(event,)), lambda: from_json({"kind": "composed", "events": [written]})):
        with pytest.raises(ValueError) as refused:
            build()
        assert str(refused.value) == ("events may lie within each other 32 deep at most; write equal ones as Repeated")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "an event must be an object with the field kind, got list"),
        (
            {"kind": "shuffled"},
            "kind must be one of laplace, gaussian, truncated_geometric, laplace_thresholding, gaussian_thresholding, "
            "weighted_thresholding, composed, repeated, poisson_sampled, got 'shuffled'",
        ),
        ({"kind": "repeated", "count": 2}, "an event of kind repeated has the fields count, event, kind, no others"),
        ({"kind": "composed", "events": "ab"}, "events must be a list of events"),
    ],
)
def test_json_that_is_no_event_is_refused(fields, message):
    with pytest.raises(ValueError) as refused:
        from_json(fields)
    assert str(refused.value) == message
