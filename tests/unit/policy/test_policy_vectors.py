"""A policy's vectors: what may be said of one, what it becomes, and that its length decides what a row can do."""

from __future__ import annotations

import math

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from dpbeam.accounting import plan as plans
from dpbeam.adapters.reference.params import reference_call
from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.aggregation.kernels import grid_of
from dpbeam.engine.bounding import contributions
from dpbeam.engine.stage import planned
from dpbeam.errors import Refused
from dpbeam.policy import compile as compiled
from dpbeam.policy.json_schema import json_schema
from dpbeam.policy.load import load_policy
from dpbeam.policy.yamlfile import read_yaml
from dpbeam.queries.quantities import Vector
from dpbeam.queries.source import Column, Rule
from dpbeam.reading import vectors
from tests.helpers.policy_text import problems

BASE = """\
version: 1
dataset: visits
source: {format: parquet, path: data.parquet}
privacy_unit: person
columns:
  person: {type: string}
  place: {type: string}
  hours: {type: float64}
  e: {type: vector, length: 3, on_nan: {replace: 0}, field: at.e}
  f: {type: vector, length: 2}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: by_place
    group_by: [place]
    partitions: {private: {strategy: truncated_geometric}}
    bounds: {l0: 4, linf: 1}
    metrics: [vector_sum: {columns: [e], norm: l2, max_norm: 5}]
    noise: gaussian
"""
E = "[vector_sum: {columns: [e], norm: l2, max_norm: 5}]"


def load(tmp_path, **changes):
    text = BASE
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "policy.yaml").write_text(text)
    return load_policy(tmp_path / "policy.yaml")


def metrics(columns, norm="l2"):
    return (E, f"[vector_sum: {{columns: [{columns}], norm: {norm}, max_norm: 5}}]")


def test_a_vector_and_its_rules_reach_the_engine(tmp_path):
    zero = Rule(action="replace", value=0.0)
    assert compiled.input_spec(load(tmp_path)).columns[3:] == (
        Column(name="e", type="vector", length=3, on_nan=zero, field="at.e"),
        Column(name="f", type="vector", length=2),
    )


@pytest.mark.parametrize(("columns", "length"), [("e", 3), ("e, f", 5), ("f, hours", 3), ("hours", 1)])
def test_a_vector_sum_has_a_result_for_each_number_of_its_columns(tmp_path, columns, length):
    (metric,) = compiled.query(load(tmp_path, of=metrics(columns))).stages[0].metrics
    assert metric.released == tuple(f"vector_sum_{i}" for i in range(length))
    assert metric.length == (length if columns != "hours" else 0)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_the_plan_counts_with_all_numbers_of_a_vector(tmp_path, norm):
    policy = load(tmp_path, of=metrics("e, hours", norm), noise=("noise: gaussian", "noise: laplace"))
    (noise,) = [m for m in plans.plan(compiled.query(policy)).mechanisms if m.metric == "vector_sum"]
    assert noise.l1 == pytest.approx(4 * 5 * {"l1": 1, "l2": 2, "linf": 4}[norm])


def test_the_check_refuses_a_plan_for_vectors_of_one_number(tmp_path, monkeypatch):
    """Seeded: the plan forgets how long vectors are."""
    query = compiled.query(load(tmp_path, of=metrics("e", "linf")))
    monkeypatch.setattr(Vector, "size", 1)
    with pytest.raises(Refused, match="by the stage's bounds, got"):
        plans.plan(query)


def test_a_policy_s_digest_changes_with_the_length_of_a_vector(tmp_path):
    assert load(tmp_path).digest != load(tmp_path, longer=("length: 3", "length: 4")).digest
    swapped = ("{type: vector, length: 2}", "{length: 2, type: vector}")
    assert load(tmp_path).digest == load(tmp_path, same=swapped).digest


VECTORS = "Name another column: a vector serves vector_sum alone."
REFUSALS = {
    "no length": (
        ("type: vector, length: 2", "type: vector"),
        "10: columns.f.length is required for a vector",
        "Say how many numbers the list of each row has: length: 384.",
    ),
    "a length of another type": (
        ("hours: {type: float64}", "hours: {type: float64, length: 3}"),
        "8: columns.hours.length applies to vectors only, and hours is float64, got 3",
        "Leave the key out.",
    ),
    "text to trim": (
        ("length: 2", "length: 2, trim: true"),
        "10: columns.f.trim applies to text, and f is a vector of numbers, got true",
        "Leave the key out.",
    ),
    "a length of none": (
        ("length: 2", "length: 0"),
        "10: columns.f.length must be at least 1, got 0",
        f"Say how many numbers each row's list has, from 1 to {vectors.MAX_LENGTH}.",
    ),
    "a length of too many": (
        ("length: 2", f"length: {vectors.MAX_LENGTH + 1}"),
        f"10: columns.f.length must be at most {vectors.MAX_LENGTH}, got {vectors.MAX_LENGTH + 1}",
        f"Say how many numbers each row's list has, from 1 to {vectors.MAX_LENGTH}.",
    ),
    "a stand-in that is no number": (
        ("length: 2", "length: 2, on_null: {replace: x}"),
        "10: columns.f.on_null.replace must be a finite number, for f is vector, got 'x'",
        "Give a value of the column's type.",
    ),
    "CSV": (
        ("source: {format: parquet, path: data.parquet}", "source: {format: csv, path: data.csv}"),
        "10: columns.f.type must not be vector in the format csv, which has no lists, got 'vector'",
        "Declare a float64 column for each number and list them in vector_sum, or write Parquet.",
    ),
    "a folder's name": (
        ("path: data.parquet}", "path: data, path_columns: [f]}"),
        "3: source.path_columns[0] must name a column of type string or int64 or float64 or bool or date or timestamp, "
        "and f is vector, got 'f'",
        VECTORS,
    ),
    "the privacy unit": (
        ("privacy_unit: person", "privacy_unit: f"),
        "4: privacy_unit must name a column of type string or int64, and f is vector, got 'f'",
        VECTORS,
    ),
    "a condition": (
        ("run: {", "where: [{column: f, op: '>', value: 1}]\nrun: {"),
        "11: where[0].column must name a column of type string or int64 or float64 or bool or date or timestamp, "
        "and f is vector, got 'f'",
        VECTORS,
    ),
    "a derived column": (
        ("run: {", "derive: {band: {bin: f, edges: [1]}}\nrun: {"),
        "11: derive.band.bin must name a column of type int64 or float64, and f is vector, got 'f'",
        VECTORS,
    ),
    "a key": (
        ("group_by: [place]", "group_by: [place, f]"),
        "14: stages[0].group_by[1] must name a column of type string or int64 or bool or date or timestamp, "
        "and f is vector, got 'f'",
        VECTORS,
    ),
    "another metric": (
        (E, "[sum: {column: f, low: 0, high: 1}]"),
        "17: stages[0].metrics[0].sum.column must name a column of type int64 or float64, and f is vector, got 'f'",
        VECTORS,
    ),
    "distinct values": (
        (E, "[distinct_count: {column: f}]"),
        "17: stages[0].metrics[0].distinct_count.column must name a column of type string or int64 or bool or date or "
        "timestamp, and f is vector, got 'f'",
        VECTORS,
    ),
    "a column of text in a sum": (
        metrics("e, place"),
        "17: stages[0].metrics[0].vector_sum.columns[1] must name a column of type int64 or float64 or vector, "
        "and place is string, got 'place'",
        "Name another column, or declare another type for it.",
    ),
    "counts of rows": (
        ("path: data.parquet}", "path: data.parquet, pre_aggregated: {count: f}}"),
        "3: source.pre_aggregated.count must name a column of type int64, and f is vector, got 'f'",
        VECTORS,
    ),
}


@pytest.mark.parametrize("name", list(REFUSALS))
def test_what_no_vector_can_be_is_refused_by_name(name, tmp_path):
    (old, new), said, remedy = REFUSALS[name]
    assert old in BASE
    assert (said, remedy) in problems(tmp_path, BASE.replace(old, new))


def test_several_vectors_have_no_more_numbers_together_than_one(tmp_path):
    text = BASE.replace("length: 2", f"length: {vectors.MAX_LENGTH - 2}").replace(E, metrics("e, f")[1])
    (found,) = problems(tmp_path, text)
    assert found == (
        f"17: stages[0].metrics[0].vector_sum.columns must have at most {vectors.MAX_LENGTH} numbers in all, "
        f"and has {vectors.MAX_LENGTH + 1}",
        "Give each vector a vector_sum of its own.",
    )
    assert load(tmp_path, longer=("length: 2", f"length: {vectors.MAX_LENGTH - 3}"), of=metrics("e, f"))


def test_two_sums_of_vectors_need_names_that_keep_apart(tmp_path):
    both = "[vector_sum: {columns: [e], norm: l2, max_norm: 5}, vector_sum: {columns: [f], norm: l2, max_norm: 5NAME}]"
    (found, *_) = problems(tmp_path, BASE.replace(E, both.replace("NAME", "")))
    assert "would make a result column 'vector_sum_0', which is already" in found[0]
    assert load(tmp_path, of=(E, both.replace("NAME", ", name: other")))


@pytest.mark.parametrize(("old", "new"), [("length: 2", "on_inf: drop"), ("float64}", "float64, length: 3}")])
def test_the_json_schema_wants_a_length_of_a_vector_and_of_nothing_else(tmp_path, old, new):
    (tmp_path / "policy.yaml").write_text(BASE)
    jsonschema.validate(read_yaml(tmp_path / "policy.yaml").data, json_schema())
    (tmp_path / "policy.yaml").write_text(BASE.replace(old, new))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read_yaml(tmp_path / "policy.yaml").data, json_schema())


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_a_list_column_adds_up_to_what_a_column_for_each_number_does(tmp_path, norm):
    """To the last bit, pre-bounded, routed and merged; each partition's rows are within the bounds, so none is cut."""
    rng = np.random.default_rng(5)
    rows, parts = 200, [f"x{i}" for i in range(4)]
    numbers = rng.normal(0, 4, (rows, 4)) * rng.choice([1e-6, 1.0, 1e6], (rows, 1))
    keys = {
        "person": pa.array([f"p{i // 4}" for i in range(rows)]),
        "place": pa.array([parts[i % 4] for i in range(rows)]),
    }
    listed = pa.record_batch(keys | {"e": vectors.column(numbers[:, :3]), "hours": pa.array(numbers[:, 3].copy())})
    apart = pa.record_batch(keys | {name: pa.array(numbers[:, i].copy()) for i, name in enumerate("abcd")})
    separate = (
        "  e: {",
        "  a: {type: float64}\n  b: {type: float64}\n  c: {type: float64}\n  d: {type: float64}\n  e: {",
    )
    made = []
    for batch, policy in (
        (listed, load(tmp_path, of=metrics("e, hours", norm))),
        (apart, load(tmp_path, of=metrics("a, b, c, d", norm), more=separate)),
    ):
        (spec,) = planned(compiled.query(policy), plans.plan(compiled.query(policy)).mechanisms)
        shards = {}
        for part, piece in enumerate((batch.slice(0, 90), batch.slice(90))):
            kept = contributions.prebound(piece, spec, b"salt", (part,))
            for shard, rows_of in contributions.split_by_unit(kept, spec, 4, b"salt"):
                shards.setdefault(shard, []).append(rows_of)
        bounded = [contributions.bound(found, spec, b"salt", (shard,)) for shard, found in shards.items()]
        made.append(accumulate.merge([accumulate.accumulate(each, spec) for each in bounded], spec))
    assert made[0].equals(made[1])
    assert made[0].column("__count").to_pylist() == [50] * 4
    (quantity,) = spec.quantities
    first = np.array(made[0].column("__q_0").to_pylist()[0]) * grid_of(quantity).step
    factor = {
        "l1": np.minimum(1, 5 / np.abs(numbers).sum(axis=1)),
        "l2": np.minimum(1, 5 / np.sqrt((numbers**2).sum(axis=1))),
        "linf": np.ones(rows),
    }[norm]
    short = np.clip(numbers * factor[:, np.newaxis], -5, 5)
    assert first == pytest.approx(short[::4].sum(axis=0), abs=50 * grid_of(quantity).step)


def test_vectors_of_another_length_than_planned_never_add_up(tmp_path):
    policy = load(tmp_path)
    (spec,) = planned(compiled.query(policy), plans.plan(compiled.query(policy)).mechanisms)
    batch = pa.record_batch({"person": ["p"], "place": ["x"], "e": vectors.column(np.ones((1, 2)))})
    bounded = contributions.bound([batch], spec, b"salt", (0,))
    with pytest.raises(ValueError, match="vectors must have 3 numbers, got 2"):
        accumulate.accumulate(bounded, spec)


def test_pipelinedp_is_told_how_long_a_vector_is(tmp_path, reference_engine):
    call = reference_call(compiled.query(load(tmp_path, of=metrics("e, hours"))).stages[0])
    assert (call.params.vector_size, call.params.vector_max_norm) == (4, 5)


def test_a_long_vector_is_planned_as_one_mechanism(tmp_path):
    long = load(tmp_path, longer=("length: 3", f"length: {vectors.MAX_LENGTH}"), of=metrics("e", "linf"))
    (noise,) = [m for m in plans.plan(compiled.query(long)).mechanisms if m.metric == "vector_sum"]
    assert noise.l2 == pytest.approx(math.sqrt(4) * 5 * math.sqrt(vectors.MAX_LENGTH))
