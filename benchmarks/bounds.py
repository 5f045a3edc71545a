"""Automatic bounds against the best that could have been stated: `make bench CASES=bounds`.

Kernels alone, no Beam, by the same functions that a job calls: histograms are drawn, and bounds chosen, as in a run.
The error of what is released at given bounds is computed, not drawn: what is cut off, from rows bounded once; noise and
the chance that a partition is shown, from the plan.
"""

from __future__ import annotations

import itertools
import math
import secrets
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from dpbeam.accounting.at_bounds import at_bounds
from dpbeam.accounting.plan import plan
from dpbeam.accounting.utility import keep_probability
from dpbeam.array_types import F64
from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.aggregation.kernels import grid_of
from dpbeam.engine.automatic_bounds import count_grid
from dpbeam.engine.bounding import contributions, unit_rows
from dpbeam.engine.release.releaser import Releaser
from dpbeam.engine.stage import StageSpec, planned, planned_stage
from dpbeam.mechanisms.noise_width import std
from dpbeam.phases import bounds
from dpbeam.phases.phase import Parameters
from dpbeam.queries.metrics.sums import Sum
from dpbeam.queries.quantities import Summed
from dpbeam.queries.query import Query
from tests.helpers.contribution_shapes import SHAPES
from tests.helpers.queries import query_of

EPSILON, DELTA, RUNS, SEED, WEIGHT = 1.0, 1e-6, 10, 11, 0.3
"""`WEIGHT` is the share of each histogram, against the metric's: what docs/policy.md recommends."""

PRIVATE = {"private": {"strategy": "gaussian_thresholding"}}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question: a table, how its partitions are had, the most of each bound that is left to the run, and bounds and
    metrics that are stated."""

    name: str
    shape: str
    partitions: Mapping[str, Any]
    most: Mapping[str, int]
    metrics: Sequence[Any] = ("count",)
    stated: Mapping[str, int] = field(default_factory=dict)


AIRPORTS = {"public": {"values": list(range(105))}}
FILMS = {"public": {"values": list(range(3_700))}}
MILES = {"column": "value", "low": 0.0}
CASES = (
    Case(name="flights, public airports: count", shape="flights", partitions=AIRPORTS, most={"l0": 105, "linf": 200}),
    Case(name="flights, private airports: count", shape="flights", partitions=PRIVATE, most={"l0": 105, "linf": 200}),
    Case(name="flights, public airports: count, l1", shape="flights", partitions=AIRPORTS, most={"l1": 600}),
    Case(name="flights: sum of miles", shape="flights", partitions=AIRPORTS, most={}, stated={"l0": 12, "linf": 8},
         metrics=({"sum": MILES | {"high": {"auto": {"most": 1e6, "weight": WEIGHT}}}},)),
    Case(name="ratings, public films: count", shape="ratings", partitions=FILMS, most={"l0": 2_300},
         stated={"linf": 1}),
    Case(name="ratings, private films: count", shape="ratings", partitions=PRIVATE, most={"l0": 2_300},
         stated={"linf": 1}, metrics=("privacy_id_count",)),
    Case(name="phrases, private: count", shape="phrases", partitions=PRIVATE, most={"l0": 1_000}, stated={"linf": 1},
         metrics=("privacy_id_count",)),
)  # fmt: skip


def asked(case: Case, limits: Mapping[str, Any], metrics: Sequence[Any]) -> Query:
    stage = {
        "name": "s",
        "group_by": ["key"],
        "partitions": dict(case.partitions),
        "bounds": dict(case.stated) | dict(limits),
        "metrics": list(metrics),
        "noise": "gaussian",
    }
    return query_of(
        {
            "version": 1,
            "dataset": "bench",
            "source": {"format": "csv", "path": "x.csv"},
            "privacy_unit": "unit",
            "columns": {"unit": {"type": "int64"}, "key": {"type": "int64"}, "value": {"type": "float64"}},
            "run": {"epsilon": EPSILON, "delta": DELTA},
            "stages": [stage],
        }
    )


def stated(case: Case) -> Query:
    """The case with bounds stated, as wide as they may be: what is cheaper by what automatic bounds cost."""
    metrics = [_widest(metric) for metric in case.metrics]
    return asked(case, case.most, metrics)


def automatic(case: Case) -> Query:
    """The case with its bounds left to the run."""
    limits = {name: {"auto": {"max": most, "weight": WEIGHT}} for name, most in case.most.items()}
    return asked(case, limits, case.metrics)


def _widest(metric: Any) -> Any:
    if isinstance(metric, str):
        return metric
    ((kind, args),) = metric.items()
    return {kind: {key: 1e6 if isinstance(value, dict) else value for key, value in args.items()}}


def sweep(case: Case, errors: Errors) -> tuple[float, Mapping[str, float]]:
    """The least error of any bounds stated, and these bounds: at the whole budget, without histograms."""
    query = stated(case)
    mechanisms = plan(query).mechanisms
    (stage,) = query.stages
    highs = [2.0**i for i in range(4, 16)] if any(isinstance(m, Sum) for m in stage.metrics) else [None]
    names = list(case.most)
    found: list[tuple[float, Mapping[str, float]]] = []
    for *limits, high in itertools.product(*(count_grid(most) for most in case.most.values()), highs):
        chosen = dict(zip(names, limits, strict=True))
        metrics = tuple(m if high is None else replace(m, high=high) for m in stage.metrics)
        one = replace(stage, bounds=replace(stage.bounds, **chosen), metrics=metrics)
        spec = planned_stage(query.unit, one, at_bounds(one, mechanisms))
        found.append((errors.of(spec), chosen | ({} if high is None else {"high": high})))
    return min(found, key=lambda each: each[0])


def chosen(query: Query, rows: pa.RecordBatch) -> Parameters:
    """What one run chooses: histograms are made and drawn by the kernels of its phase."""
    made = plan(query)
    known = Parameters(query=query, plan=made, stages=planned(query, made.mechanisms), public={})
    tables = {}
    for spec in bounds.stages(known):
        bounded = unit_rows.bound([rows], spec, secrets.token_bytes(16), (0,))
        tables[spec.name] = pa.Table.from_batches([Releaser(spec=spec).released(accumulate.accumulate(bounded, spec))])
    return bounds.learn(known, tables)


@dataclass(kw_only=True)
class Errors:
    """The error of a case's metric at given bounds: the root mean square, over all partitions of its table, of what is
    released less what it is without bounds; what isn't shown counts as 0. Rows are bounded once for each bounds."""

    rows: pa.RecordBatch
    _cut: dict[Any, tuple[F64, F64]] = field(default_factory=dict)

    def of(self, spec: StageSpec) -> float:
        (quantity,) = spec.quantities
        keys = self.rows.column("key").to_numpy()
        true = np.bincount(keys, weights=self.rows.column("value").to_numpy() if quantity.kind == "sum" else None)
        if quantity.kind == "privacy_id_count":  # units of this table have a key once
            true = np.bincount(keys)
        values, users = self._bounded(spec)
        noise = spec.noise.get(quantity.name) or spec.thresholding
        wrong, there = (values - true) ** 2 + std(noise) ** 2, true > 0
        if spec.selection is None:
            return math.sqrt(float(wrong[there].mean()))
        each, place = np.unique(users, return_inverse=True)
        chance = np.array([keep_probability(spec.selection, int(units)) for units in each])[place]
        return math.sqrt(float((chance * wrong + (1 - chance) * true**2)[there].mean()))

    def _bounded(self, spec: StageSpec) -> tuple[F64, F64]:
        """What is added up by partition, and of how many units."""
        (quantity,) = spec.quantities
        known = (spec.bounds, getattr(quantity, "high", None))
        if known not in self._cut:
            salt = secrets.token_bytes(16)
            made = accumulate.accumulate(contributions.bound([self.rows], spec, salt, (0,)), spec)
            sums = made.column(accumulate.quantity_column(spec, quantity)).to_numpy()
            step = grid_of(quantity).step if isinstance(quantity, Summed) else 1.0
            size = int(self.rows.column("key").to_numpy().max()) + 1
            values, users = np.zeros(size), np.zeros(size)
            at = made.column("key").to_numpy()
            values[at], users[at] = sums * step, made.column(accumulate.USERS).to_numpy()
            self._cut[known] = values, users
        return self._cut[known]


def results(runs: int = RUNS, cases: Sequence[Case] = CASES) -> list[dict[str, Any]]:
    """One row a case: the least error with bounds stated, and that with automatic bounds, of each run."""
    found = []
    for case in cases:
        errors = Errors(rows=SHAPES[case.shape](SEED))
        best, at = sweep(case, errors)
        query = automatic(case)
        made = [chosen(query, errors.rows) for _ in range(runs)]
        ratios = [errors.of(known.stages[0]) / best for known in made]
        true = np.bincount(errors.rows.column("key").to_numpy())
        row = {
            "case": case.name,
            "best": ", ".join(f"{name} {value:g}" for name, value in at.items()),
            "automatic": " or ".join(sorted({_named(known) for known in made})),
            "kept": statistics.median(math.prod(b.kept for b in known.chosen if b.metric is None) for known in made),
            "error": best / math.sqrt(float((true[true > 0].astype(float) ** 2).mean())),
            "ratio": math.sqrt(statistics.fmean(ratio**2 for ratio in ratios)),
            "worst": max(ratios),
        }
        found.append(row)
        print(row, flush=True)
    return found


def _named(known: Parameters) -> str:
    return ", ".join(f"{bound.parameter} {bound.value:g}" for bound in known.chosen)


def section(found: Sequence[Mapping[str, Any]] = ()) -> str:
    """This page's part of docs/benchmarks.md, of results or of new ones."""
    found = found or results()
    about = (
        f"The root mean square error over all partitions of a made table, against its counts without any bounds: "
        f"{RUNS} runs with automatic bounds, whose histograms have the recommended weight of {WEIGHT:g} each, over "
        "that with the best "
        f"bounds that a sweep finds, which has no histograms to pay; both at ε {EPSILON:g}, δ {DELTA:g}, Gaussian "
        "noise. What isn't shown counts as 0. The tables are made by tests/helpers/contribution_shapes.py: 4,000 "
        "aircraft with 350,000 flights, 6,000 people with 870,000 ratings, 3,500 authors with phrases. `kept` is the "
        "share of rows that the automatic bounds keep, as the histograms tell."
    )
    lines = [
        "## Automatic bounds",
        "",
        *textwrap.wrap(about, 120),
        "",
        "| case | best bounds | automatic bounds | kept | error against the best | worst run |",
        "|---|---|---|---|---|---|",
    ]
    for row in found:
        figures = f"{row['kept']:.0%} | {row['ratio']:.2f}× | {row['worst']:.2f}×"
        lines.append(f"| {row['case']} | {row['best']} | {row['automatic']} | {figures} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(section())
