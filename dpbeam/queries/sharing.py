"""Which quantities serve which metrics: each quantity is drawn once, however many metrics are made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity, UnitCount


def quantities(metrics: Iterable[Metric]) -> tuple[Quantity, ...]:
    """The noisy quantities that serve these metrics, each once, in order of first use.

    A quantity that several metrics need is one mechanism with the sum of their weights, so that no metric loses by
    sharing.

    Raises:
        ValueError: two different quantities would have one name.
    """
    shared: dict[Quantity, Quantity] = {}
    names: set[str] = set()
    for metric in metrics:
        for needed in metric.quantities:
            old = shared.get(needed.definition)
            if old is None and needed.name in names:
                raise ValueError(f"two different quantities are called {needed.name}; rename a metric")
            names.add(needed.name)
            shared[needed.definition] = needed if old is None else old.joined(needed)
    return tuple(shared.values())


def with_own_noise(among: Sequence[Quantity], *, shares_count: bool) -> tuple[Quantity, ...]:
    """The quantities that need a mechanism of their own.

    Thresholding adds noise to the unit count of every partition: where units are to be counted in a stage that
    `shares_count`, that noisy count serves.
    """
    return tuple(quantity for quantity in among if not (shares_count and isinstance(quantity, UnitCount)))


def by_definition(among: Iterable[Quantity]) -> dict[Quantity, Quantity]:
    """Each quantity by what it is."""
    return {quantity.definition: quantity for quantity in among}


def named(metric: Metric, known: Mapping[Quantity, Quantity]) -> tuple[Quantity, ...]:
    """The quantities that make this metric, in the order of its quantities, of those `known` by their definitions.

    Raises:
        KeyError: one is missing.
    """
    return tuple(known[part.definition] for part in metric.quantities)


def served(metrics: Iterable[Metric]) -> dict[Quantity, list[Metric]]:
    """The metrics that each quantity, by its definition, is needed for, each once."""
    metrics_of: dict[Quantity, list[Metric]] = {}
    for metric in metrics:
        for definition in dict.fromkeys(part.definition for part in metric.quantities):
            metrics_of.setdefault(definition, []).append(metric)
    return metrics_of
