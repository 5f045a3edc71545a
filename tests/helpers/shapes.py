"""Made-up tables of different shape, on which the same bounds do well and badly: a person, a place, an amount."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

Shape = Callable[[np.random.Generator], pa.Table]


def skewed_people(rng: np.random.Generator) -> pa.Table:
    """4,000 people; most go to a place or two, a few to most of the 60."""
    places = np.minimum(60, 1 + rng.pareto(1.1, 4_000).astype(int) * 2)
    people, where = [], []
    for person, count in enumerate(places.tolist()):
        people += [person] * count
        where += rng.choice(60, count, replace=False).tolist()
    return _table(people, where, rng.uniform(0, 10, len(people)))


def skewed_places(rng: np.random.Generator) -> pa.Table:
    """6,000 people, two visits each; a few of 400 places have most of them."""
    people = np.repeat(np.arange(6_000), 2)
    where = np.minimum(399, rng.zipf(1.5, len(people)) - 1)
    return _table(people, where, rng.uniform(0, 10, len(people)))


def small_places(rng: np.random.Generator) -> pa.Table:
    """5,000 people in 12 each of 500 places, so that each place has some 120."""
    people = np.repeat(np.arange(5_000), 12)
    where = np.concatenate([rng.choice(500, 12, replace=False) for _ in range(5_000)])
    return _table(people, where, rng.uniform(0, 10, len(people)))


def heavy_tails(rng: np.random.Generator) -> pa.Table:
    """5,000 people, two visits to each of 5 of 20 places; the largest amounts are some hundred times the usual."""
    people = np.repeat(np.arange(5_000), 10)
    where = np.concatenate([np.repeat(rng.choice(20, 5, replace=False), 2) for _ in range(5_000)])
    return _table(people, where, rng.lognormal(0.0, 1.0, len(people)))


def one_row(rng: np.random.Generator) -> pa.Table:
    """20,000 people with one row each, in 100 places."""
    return _table(np.arange(20_000), rng.integers(0, 100, 20_000), rng.uniform(0, 10, 20_000))


def _table(people: object, places: object, amounts: object) -> pa.Table:
    return pa.table(
        {
            "person_id": [f"p{number}" for number in np.asarray(people).tolist()],
            "place": [f"place{number}" for number in np.asarray(places).tolist()],
            "amount": np.asarray(amounts, dtype=np.float64),
        }
    )


SHAPES: dict[str, Shape] = {
    "skewed people": skewed_people,
    "skewed places": skewed_places,
    "many small places": small_places,
    "heavy tails": heavy_tails,
    "one row a person": one_row,
}
