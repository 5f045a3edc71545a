"""Made tables whose units contribute as they do in data that people have: flights of aircraft, ratings, phrases.

Each is a function of a seed. Columns: `unit` and `key`, int64, and `value`, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

I64 = npt.NDArray[np.int64]


def flights(seed: int, people: int = 4_000, places: int = 105) -> pa.RecordBatch:
    """Aircraft that fly again and again to some of 105 airports: many rows in a pair, and few aircraft with most of
    them. Values are distances, some hundred to some thousand."""
    random = np.random.default_rng(seed)
    popular = 1 / np.arange(1, places + 1) ** 0.8
    rows = np.minimum(random.lognormal(3.9, 1.1, people).astype(np.int64) + 1, 600)
    units, keys = [], []
    for unit, count in enumerate(rows.tolist()):
        fleet = random.gamma(0.4, 1.0, places) * popular  # an aircraft has airports of its own
        keys.append(random.choice(places, count, p=fleet / fleet.sum()))
        units.append(np.full(count, unit))
    key = np.concatenate(keys)
    miles = random.lognormal(6.6, 0.6, places)[key] * random.uniform(0.95, 1.05, len(key))
    return _table(np.concatenate(units), key, miles)


def ratings(seed: int, people: int = 6_000, films: int = 3_700) -> pa.RecordBatch:
    """People who rate some of 3,700 films once each, 20 at least and some of them a thousand; values are stars."""
    random = np.random.default_rng(seed)
    popular = random.lognormal(0.0, 1.4, films)
    counts = np.minimum(20 + random.lognormal(4.1, 1.2, people).astype(np.int64), films * 5 // 8)
    # The films of a person: those with the lowest exponential draws, each at its own rate.
    keys = [np.argpartition(random.exponential(1.0, films) / popular, count)[:count] for count in counts.tolist()]
    key = np.concatenate(keys)
    return _table(np.repeat(np.arange(people), counts), key, random.integers(1, 6, len(key)).astype(np.float64))


def phrases(seed: int, people: int = 3_500) -> pa.RecordBatch:
    """Authors of a few to a thousand phrases, most of which hardly anybody else has: Zipf's law of a million."""
    random = np.random.default_rng(seed)
    counts = np.minimum((random.pareto(0.9, people) * 5).astype(np.int64) + 1, 1_500)
    chances = np.cumsum(1 / np.arange(1, 1_000_001) ** 1.05)
    key = np.searchsorted(chances, random.random(int(counts.sum())) * chances[-1])
    pairs = np.unique(np.stack([np.repeat(np.arange(people), counts), key]), axis=1)
    return _table(pairs[0], pairs[1], np.ones(pairs.shape[1]))


SHAPES: Mapping[str, Callable[[int], pa.RecordBatch]] = {"flights": flights, "ratings": ratings, "phrases": phrases}


def _table(unit: I64, key: I64, value: npt.NDArray[np.float64]) -> pa.RecordBatch:
    columns = {"unit": unit.astype(np.int64), "key": key.astype(np.int64), "value": value}
    return pa.record_batch({name: pa.array(column) for name, column in columns.items()})
