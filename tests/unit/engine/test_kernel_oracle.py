"""The kernels, with exact noise, against a brute-force reference: any table, any split, the same answer."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import kernel_reference as reference

# Eighths within ±64 are on every grid used here, so the reference's sums are exact.
EIGHTHS = st.integers(-512, 512).map(lambda n: n / 8)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(["", "a", "a\0", "é" * 40])
KEYS = {
    "string": (TEXT, pa.string()),
    "int64": (st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), pa.int64()),
    "bool": (st.booleans(), pa.bool_()),
    "date": (st.dates() | st.sampled_from([date(2020, 1, 1), date(1969, 12, 31)]), pa.date32()),
    "timestamp": (st.integers(-(10**6), 10**6).map(lambda n: datetime(1970, 1, 1) + timedelta(microseconds=n)),
                  pa.timestamp("us")),
}  # fmt: skip
# The reference divides fractions, the kernel floats; squares and scaled vectors lie between the steps of their grids,
# which are up to 2**-30 of a bound wide, for up to 60 rows; a root stretches the step at 0; a tree knows leaves.
TOLERANCES = {
    "mean": 1e-12,
    "variance": 1e-6,
    "stddev": 1e-3,
    "quantiles": 2 * 40 / 65535,
    "median": 2 * 40 / 65535,
    "vector_sum": 60 * 2**-29,
}
SLACK = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@st.composite
def tables(draw):
    unit_type = draw(st.sampled_from(["string", "int64", None]))
    key_types = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3))
    names = [f"k{i}" for i in range(len(key_types))]
    # A small pool of each column's values, so that units and partitions repeat.
    pools = [draw(st.lists(KEYS[kind][0], min_size=1, max_size=4)) for kind in key_types]
    units = draw(st.lists(KEYS[unit_type or "int64"][0], min_size=1, max_size=6))
    whole = draw(st.booleans())
    value = st.integers(-(2**63), 2**63 - 1) | st.integers(-30, 30) if whole else EIGHTHS
    row = st.tuples(st.sampled_from(units), *(st.sampled_from(pool) for pool in pools), value, EIGHTHS)
    rows = [dict(zip(["u", *names, "v", "w"], values, strict=True)) for values in draw(st.lists(row, max_size=60))]
    types = [
        KEYS[unit_type or "int64"][1],
        *(KEYS[kind][1] for kind in key_types),
        pa.int64() if whole else pa.float64(),
        pa.float64(),
    ]
    schema = pa.schema(list(zip(["u", *names, "v", "w"], types, strict=True)))
    bounds = {"l0": 1, "linf": 1} if unit_type is None else {}
    spec = reference.stage(
        unit=unit_type and "u", keys=names, key_types=key_types, metrics=reference.VALUE_METRICS, **bounds
    )
    return rows, pa.Table.from_pylist(rows, schema=schema), spec


def same(found, wanted, spec):
    assert found.keys() == wanted.keys()
    for key, answer in wanted.items():
        for metric in spec.metrics:
            tolerance = TOLERANCES.get(metric.kind, 0.0)
            for name in metric.released:
                assert found[key][name] == pytest.approx(answer[name], rel=min(tolerance, 1e-7), abs=tolerance), name


@settings(max_examples=120, **SLACK)
@given(tables(), st.lists(st.integers(0, 60), max_size=5), st.integers(1, 7), st.integers(1, 5), st.randoms())
def test_any_table_gives_the_reference_answer_however_it_is_split(exact, made, cuts, shards, parts, random):
    rows, table, spec = made
    batches = reference.batches_of(table, cuts)
    random.shuffle(batches)
    found = reference.released(reference.accumulators(batches, spec, shards=shards, parts=parts), spec)
    same(found, reference.expected(rows, spec), spec)


@settings(max_examples=60, **SLACK)
@given(tables(), st.lists(st.integers(0, 60), max_size=4), st.data())
def test_public_partitions_are_exactly_those_listed_also_the_empty_ones(exact, made, cuts, data):
    rows, table, spec = made
    seen = [tuple(row[name] for name in spec.keys) for row in rows]
    others = st.tuples(*(KEYS[kind][0] for kind in spec.key_types))
    listed = data.draw(st.lists(st.one_of(others, *([st.sampled_from(seen)] if seen else [])), max_size=5, unique=True))
    schema = pa.schema([table.schema.field(name) for name in spec.keys])
    public = pa.Table.from_pylist([dict(zip(spec.keys, key, strict=True)) for key in listed], schema=schema)
    merged = reference.accumulators(reference.batches_of(table, cuts), spec, shards=3, parts=2, public=public)
    same(reference.released(merged, spec), reference.expected(rows, spec, public=listed), spec)


FEW = {
    "u": [f"u{i % 5}" for i in range(24)],
    "k": ["x", "y", "x", "z"] * 6,
    "v": [8.0, -2.875, 0.0, 0.5, -20.0, 63.0, 15.875, -7.25, 16.0, 1.5, -3.0, 4.0] * 2,
    "w": [0.0, 2.0, -1.0, 0.125] * 6,
}


@pytest.mark.parametrize("unit", ["u", None])
@pytest.mark.parametrize("public", [None, [("y",), ("nowhere",), ("x",)]])
def test_a_small_table_gives_the_reference_answer(exact, unit, public):
    table = pa.table(FEW)
    bounds = {"l0": 1, "linf": 1} if unit is None else {}
    spec = reference.stage(unit=unit, keys=["k"], key_types=["string"], metrics=reference.VALUE_METRICS, **bounds)
    listed = None if public is None else pa.table({"k": [key for (key,) in public]})
    merged = reference.accumulators(reference.batches_of(table, [5, 13]), spec, shards=3, parts=2, public=listed)
    same(reference.released(merged, spec), reference.expected(table.to_pylist(), spec, public=public), spec)


def test_no_rows_give_no_partitions(exact):
    table = pa.table({"u": pa.array([], pa.string()), "p": pa.array([], pa.string()), "v": pa.array([], pa.float64())})
    spec = reference.stage(key_types=["string"])
    assert reference.released(reference.accumulators(reference.batches_of(table, []), spec), spec) == {}


def test_dictionary_and_large_strings_count_as_the_same_values(exact):
    plain = pa.table({"u": ["a", "b", "a"], "p": ["x", "x", "y"], "v": [1.0, 2.0, 3.0]})
    spec = reference.stage(key_types=["string"])
    wanted = reference.expected(plain.to_pylist(), spec)
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        other = pa.table({"u": plain["u"].cast(kind), "p": plain["p"].cast(kind), "v": plain["v"]})
        same(reference.released(reference.accumulators(reference.batches_of(other, [1]), spec), spec), wanted, spec)


def test_pre_bounding_a_swamping_unit_changes_nothing_where_no_bound_bites(exact):
    table = pa.table({"u": [1] * 3000 + list(range(100)), "p": [0] * 3100, "v": [1.0] * 3100})
    spec = reference.stage(l0=1, linf=3000)
    wanted = reference.expected(table.to_pylist(), spec)
    wanted[(0,)] |= {"count": 3100.0 - 1, "v_sum": 3100.0 - 1}  # unit 1 has 3,001 rows
    same(reference.released(reference.accumulators(reference.batches_of(table, [500, 900]), spec), spec), wanted, spec)
