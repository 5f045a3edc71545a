"""A plan of a thousand mechanisms takes few compositions: its work is pinned here, its time in the benchmarks."""

from __future__ import annotations

import itertools

import pytest

from dpbeam.accounting import calibrate, composition
from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.plan import solve
from dpbeam.accounting.requests import Request

KINDS = ("laplace", "gaussian", "truncated_geometric", "laplace_thresholding", "gaussian_thresholding")


def requests(count: int, *, same_weight: bool) -> list[Request]:
    return [
        Request(
            stage=f"stage_{i}",
            metric="m",
            kind=kind,
            weight=1.0 if same_weight else 1 + i / count,
            **({"l1": 30.0, "l2": 10.0} if kind in ("laplace", "gaussian") else {"l0": 10}),
        )
        for i, kind in zip(range(count), itertools.cycle(KINDS), strict=False)
    ]


@pytest.mark.parametrize(("same_weight", "parts", "certified"), [(True, 3, 3), (False, 80, 601)])
def test_a_thousand_mechanisms_are_composed_a_few_times(monkeypatch, same_weight, parts, certified):
    """At most 5 trial scales, each composing mechanisms of one kind and nearly one ε in one go; one certification."""
    trials, transforms = [], []
    composed, transform = calibrate._composed_epsilon, composition.tilted_epsilon
    monkeypatch.setattr(calibrate, "_composed_epsilon", lambda mix, *rest: trials.append(mix) or composed(mix, *rest))
    monkeypatch.setattr(
        composition, "tilted_epsilon", lambda found, *rest: transforms.append(found) or transform(found, *rest)
    )
    mechanisms, certificate = solve(
        requests(1000, same_weight=same_weight), lambda found: certify_events(found, epsilon=1.0, delta=1e-6), 1.0, 1e-6
    )
    assert len(mechanisms) == 1000
    assert 0.97 < certificate.epsilon <= 1.0 + 1e-9
    assert len(trials) <= 5
    assert all(len(mix.pure_epsilons) + (mix.mu > 0) <= parts for mix in trials)
    assert [len(found) for found in transforms] == [certified]
