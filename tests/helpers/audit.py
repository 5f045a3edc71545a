"""A black-box audit: what two neighbouring tables release goes in, a lower bound on the ε between them comes out.

Nothing here knows how the engine works. Each scenario stands in the table many times, with people and partitions of its
own each time, so that one run of the engine gives that many independent releases of it. Half of them train a
classifier (a linear discriminant on the released values, whether partitions are there, and how far the values lie out),
the other half bounds its error rates: if an event has probability p on one table and q on the other, then
(ε, δ)-privacy means p ≤ e^ε·q + δ.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from scipy import stats

from dpbeam.accounting.plan import Plan, plan
from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.aggregation.accumulate import USERS
from dpbeam.engine.arrays.grouping import group
from dpbeam.engine.bounding import contributions, hierarchy, votes
from dpbeam.engine.release import results
from dpbeam.engine.release.releaser import Releaser
from dpbeam.engine.stage import LEVEL, StageSpec, planned_stage
from dpbeam.mechanisms.selection import Selector
from dpbeam.phases import rounds
from dpbeam.phases.coverage import counting
from dpbeam.phases.phase import Parameters
from dpbeam.policy.schema.policy import Policy
from dpbeam.reading import rows
from dpbeam.reading.tallies import prepare_counted
from tests.helpers.queries import load_query

FAILURE = 1e-9
"""The probability that a bound of this file is above the truth."""

EPSILON, DELTA = 1.0, 0.04
PLACES = ("a", "b", "c", "d")
EDGES = (0.0, 4.0, 8.0)
BANDS = ("< 0", "[0, 4)", "[4, 8)", "≥ 8")
"""The texts of the column `band`, which `value` falls in."""
TEXT = {"type": "string"}
OTHER = "other"
Row = tuple[str | None, str | None, float | None]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The rows (unit, place, value) of everybody else, and of the one unit that is there or not."""

    name: str
    others: tuple[Row, ...]
    one: tuple[Row, ...]


def others(people: int, places: Sequence[str] = PLACES) -> tuple[Row, ...]:
    return tuple((f"o{i}", place, 5.0) for i in range(people) for place in places)


MANY_PLACES = tuple(f"z{i}" for i in range(25))
ALL_IN_ONE_OTHER = Scenario(
    name="one whose leaves all fall into one other",
    others=(*others(260, "a"), *(("p", place, 5.0) for place in MANY_PLACES)),
    one=tuple(("me", place, 10.0) for place in MANY_PLACES for _ in range(2)),
)
"""Of hierarchical keys: `a` is kept, places of few people never are."""

SCENARIOS = (
    Scenario(name="one more in one partition", others=others(3), one=(("me", "a", 10.0),)),
    Scenario(
        name="one who hits every bound",
        others=others(3),
        one=tuple(("me", place, 10.0) for place in PLACES for _ in range(6)),
    ),
    Scenario(
        name="one with NaN, null and huge values",
        others=others(3),
        one=tuple(
            ("me", place, value)
            for place in PLACES
            for value in (float("nan"), None, float("inf"), -float("inf"), 1e300, -1e300, 5e-324)
        ),
    ),
    Scenario(
        name="one who alone holds a partition",
        others=others(3, PLACES[:1]),
        one=(("me", "b", 10.0), ("me", "c", 10.0)),
    ),
)


def policy_for(folder: Path, stage: dict[str, Any], copies: int) -> Policy:
    """A policy over people, places and values with this stage; public partitions are all places of all copies. A
    `coverage` that stands with the stage is bought."""
    bought = {"coverage": stage["coverage"]} if "coverage" in stage else {}
    stage = {key: value for key, value in stage.items() if key != "coverage"}
    if "public" in stage["partitions"]:
        places = [f"{copy}|{place}" for copy in range(copies) for place in PLACES]
        pq.write_table(pa.table({"place": places}), folder / "places.parquet")
        stage = stage | {"partitions": {"public": {"file": "places.parquet"}}}
    policy = {
        "version": 1,
        "dataset": "audit",
        "source": {"format": "csv", "path": "unread.csv"},
        "privacy_unit": "person",
        "columns": {"person": TEXT, "group": TEXT, "place": TEXT, "value": {"type": "float64"}},
        "derive": {"band": {"bin": "value", "edges": EDGES}},
        "run": {"epsilon": EPSILON, "delta": DELTA},
        "stages": [{"name": "audited", "group_by": ["place"], "bounds": {"l0": 2, "linf": 2}} | stage],
    } | bought
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(policy))
    return load_query(path)


def planned(folder: Path, stage: dict[str, Any], copies: int) -> tuple[Policy, Plan]:
    """The policy with its plan, which all scenarios are run by."""
    policy = policy_for(folder, stage, copies)
    return policy, plan(policy)


def releases(policy: Policy, by: Plan, table: Sequence[Row], copies: int) -> F64:
    """What `copies` independent releases of the table show: a row each, for every place whether it is there, then its
    released numbers (0 if it isn't), and those that are of one value of `band` by value, with whether it is shown. Of
    hierarchical keys, the copy's `other` comes last; that of all copies is left out. Where coverage is bought, its
    noisy numbers come after all."""
    (stage,) = policy.stages
    spec = planned_stage(policy.unit, stage, by.mechanisms)
    raw, salt = _copied(table, copies), secrets.token_bytes(16)
    batch = rows.prepare(raw, policy.source)
    released = _release(batch, spec, stage.public, salt)
    numbers = [name for name in released.schema.names if name not in spec.keys and released[name].type == pa.float64()]
    shown = [released.column(name).fill_null(0).to_numpy() for name in numbers]
    for label in (name for name in released.schema.names if f"{name}_count" in numbers):
        for band in BANDS:
            there = pc.equal(released.column(label), band).fill_null(False).to_numpy(zero_copy_only=False)
            shown += [there.astype(float), there * shown[numbers.index(f"{label}_count")]]
    places = (*PLACES, OTHER)
    found = np.zeros((copies, len(places), 1 + len(shown)))
    keys = [key.split("|") for key in _keys(released)]
    mine = np.array([len(key) == 2 and key[1] in places for key in keys], dtype=np.bool_)
    keys = [key for key, own in zip(keys, mine, strict=True) if own]
    at = (np.array([int(copy) for copy, _ in keys], dtype=np.int64), [places.index(place) for _, place in keys])
    found[at] = np.column_stack([np.ones(len(mine)), *shown])[mine]
    shown_by_copy = found.reshape(copies, -1)
    if stage.coverage is None:
        return shown_by_copy
    known = Parameters(query=policy, plan=by, stages=(spec,), public={})
    return np.column_stack([shown_by_copy, _coverage(raw, known, stage.public, copies, salt)])


def _coverage(raw: pa.RecordBatch, known: Parameters, public: pa.Table | None, copies: int, salt: bytes) -> F64:
    """The noisy votes of each copy's people, by the steps of a main job; each copy is a partition of its own here."""
    (spec,) = known.stages
    (counted,) = (each for each in counting(known).stages if each.votes)
    kept, tallied = prepare_counted(raw, known.query.source, spec.unit)
    if public is not None:
        kept = accumulate.filter_public(kept, spec, public)
    bounded = votes.bound([kept.select(contributions.input_columns(counted.of_input)), tallied], counted, salt, (0,))
    people = group([tallied.column("person")], tallied.num_rows).keys[0].to_pylist()
    copy_of = np.array([int(person.partition("|")[0]) for person in people], dtype=np.int64)
    by_copy = replace(
        bounded, keys=(pa.array([f"{i:06}" for i in range(copies)]),), partitions=copies, rows=copy_of, pairs=copy_of
    )
    spec_of_copies = replace(counted, keys=("copy",), key_types=("string",))
    summed = accumulate.accumulate(by_copy, spec_of_copies)
    zeros = accumulate.zeros(pa.table({"copy": [f"{i:06}" for i in range(copies)]}), spec_of_copies)
    released = Releaser(spec=spec_of_copies).released(accumulate.merge([summed, zeros], spec_of_copies))
    return np.column_stack([released.column(f"rows_{fate}").to_numpy() for fate in range(3)])


def _keys(released: pa.RecordBatch) -> list[str]:
    """ "copy|place" of each row, "copy|other" of an `other`; something else of the `other` of all copies."""
    if LEVEL not in released.schema.names:
        return released.column("place").to_pylist()
    rows_of = released.select(["group", "place", LEVEL]).to_pylist()
    return [["", f"{row['group']}|{OTHER}", row["place"]][row[LEVEL]] for row in rows_of]


def _release(batch: pa.RecordBatch, spec: StageSpec, public: pa.Table | None, salt: bytes) -> pa.RecordBatch:
    """The engine's steps in their order, on one worker."""
    if spec.hierarchical:
        return _hierarchical(batch, spec)
    found = _selected(batch, spec, public, salt)
    return Releaser(spec=spec).released(found)


def _hierarchical(batch: pa.RecordBatch, spec: StageSpec) -> pa.RecordBatch:
    """The two jobs of a stage with hierarchical keys."""
    leaves = pa.Table.from_batches(
        [_selected(batch, rounds._round(spec, 1), None, secrets.token_bytes(16)).select(list(spec.keys))]
    )
    rolled, salt = rounds._rolled(spec), secrets.token_bytes(16)
    kept_leaves = hierarchy.Hierarchy(keys=spec.keys, kept=leaves)
    halves = [batch.slice(0, batch.num_rows // 2), batch.slice(batch.num_rows // 2)]
    cut = [
        contributions.prebound(half, rolled.of_input, salt, (0, i), kept_leaves.cells_of)
        for i, half in enumerate(halves)
    ]
    counted = accumulate.accumulate(hierarchy.bound(cut, rolled, kept_leaves, salt, (0,)), rolled)
    zeros = accumulate.zeros(hierarchy.cells(leaves, spec.keys), rolled)
    return Releaser(spec=rolled).released(accumulate.merge([counted, zeros], rolled))


def _selected(batch: pa.RecordBatch, spec: StageSpec, public: pa.Table | None, salt: bytes) -> pa.RecordBatch:
    """Accumulators of the partitions that are kept."""
    if public is not None:
        batch = accumulate.filter_public(batch, spec, public)
    halves = [batch.slice(0, batch.num_rows // 2), batch.slice(batch.num_rows // 2)]
    cut = [contributions.prebound(half, spec, salt, (0, i)) for i, half in enumerate(halves)]
    merged = [accumulate.accumulate(contributions.bound(cut, spec, salt, (0,)), spec)]
    if public is not None:
        merged.append(accumulate.zeros(public, spec))
    found = accumulate.merge(merged, spec)
    if spec.selection is not None:
        selector, users = Selector(mechanism=spec.selection), found.column(USERS).to_numpy()
        if spec.shares_count:
            kept, noisy = selector.keep_noisy(users)
            found = found.append_column(results.NOISY_USERS, pa.array(noisy))
        else:
            kept = selector.keep(users)
        found = found.filter(pa.array(kept, pa.bool_()))
    return found


def _copied(table: Sequence[Row], copies: int) -> pa.RecordBatch:
    copy = np.repeat(np.arange(copies), len(table)).astype(str)

    def text(column: int) -> pa.Array:
        values = np.tile(np.array([row[column] for row in table], dtype=str), copies)
        return pa.array(np.char.add(np.char.add(copy, "|"), values).tolist(), pa.string())

    values = pa.array([row[2] for row in table] * copies, pa.float64())
    columns = [text(0), pa.array(copy.tolist(), pa.string()), text(1), values]
    return pa.RecordBatch.from_arrays(columns, names=["person", "group", "place", "value"])


def least_epsilon(one: F64, other: F64, delta: float) -> float:
    """A lower bound on the ε at `delta` of releases drawn from two neighbouring tables, right but for `FAILURE`.

    Both directions are tried and the better one taken on the training half, so each bound is on one event fixed before.
    """
    half = len(one) // 2
    score = _classifier(one[:half], other[:half])
    train, test = (score(one[:half]), score(other[:half])), (score(one[half:]), score(other[half:]))
    best = max(
        ((_gap(*_rates(train, sign, cut), delta), sign, cut) for sign in (1, -1) for cut in _cuts(*train)),
        key=lambda found: found[0],
    )
    _, sign, cut = best
    p, q = _rates(test, sign, cut)
    n = len(test[0])
    low = stats.beta.ppf(FAILURE / 2, p * n, n - p * n + 1) if p > 0 else 0.0
    high = stats.beta.isf(FAILURE / 2, q * n + 1, n - q * n) if q < 1 else 1.0
    return float(np.log((low - delta) / high)) if low > delta else 0.0


def _classifier(one: F64, other: F64) -> Any:
    """A linear discriminant on the features that vary, their ranks' tails among them."""
    both = np.concatenate([one, other])
    centre, width = np.median(both, axis=0), np.std(both, axis=0)
    varying = width > 0

    def features(table: F64) -> F64:
        scaled = (table[:, varying] - centre[varying]) / width[varying]
        return np.column_stack([np.clip(scaled, -6, 6), np.abs(np.clip(scaled, -6, 6))])

    x, y = features(one), features(other)
    covariance = (np.cov(x, rowvar=False) + np.cov(y, rowvar=False)) / 2
    covariance = np.atleast_2d(covariance)
    ridge = 1e-6 * np.trace(covariance) / len(covariance) + 1e-12
    weights = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), x.mean(axis=0) - y.mean(axis=0))
    return lambda table: features(table) @ weights


def _cuts(one: F64, other: F64) -> F64:
    return np.unique(np.quantile(np.concatenate([one, other]), np.linspace(0.002, 0.998, 499)))


def _rates(scores: tuple[F64, F64], sign: int, cut: float) -> tuple[float, float]:
    """(p, q): how often the event happens on the table that makes it likelier, and on the other."""
    first, second = (float((sign * (score - cut) >= 0).mean()) for score in scores)
    return (first, second) if sign == 1 else (second, first)


def _gap(p: float, q: float, delta: float) -> float:
    """log((p − δ)/q) for training, pessimistic where the rates are known badly."""
    spread = 6 * np.sqrt(max(q, 1e-4) / 5_000)
    return float(np.log(max(p - delta - spread / 4, 1e-9) / (q + spread)))
