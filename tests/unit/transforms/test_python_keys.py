"""Privacy ids and partition keys of Python jobs: what is equal is one, what isn't stays apart, in every process."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import os
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import numpy as np
import pandas
import pipeline_dp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
from dpbeam.adapters.pipelinedp.engine import DPEngine
from dpbeam.errors import RunFailed, UsageError
from dpbeam.transforms.sources.python_keys import NotAKey, from_text, key_text, unit_text
from dpbeam.transforms.sources.python_rows import Extract, batch_of, taken

ROOT = Path(__file__).parents[3]


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass(frozen=True)
class WithSets:
    name: str
    tags: frozenset = frozenset({"a", "b", "c", "d"})


Pair = collections.namedtuple("Pair", ["a", "b"])


class Text(str):
    __slots__ = ()


TAKEN = "str, int, bool, float, bytes, UUID, date, datetime without a time zone, or tuples of these (parts may be None)"
REFUSED = {
    "numpy.datetime64": [np.datetime64("2000-01-01", "ns"), np.datetime64("2000-01-01"), np.datetime64("NaT", "ns")],
    "numpy.timedelta64": [np.timedelta64(5, "ns"), np.timedelta64(5, "D"), np.timedelta64("NaT")],
    "datetime.datetime with a time zone": [datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)],
    "datetime.time": [datetime.time(1)],
    "datetime.timedelta": [datetime.timedelta(1)],
    f"{pandas.Timestamp.__module__}.Timestamp": [pandas.Timestamp("2000-01-01"), pandas.Timestamp(5, unit="ns")],
    f"{type(pandas.NaT).__module__}.NaTType": [pandas.NaT],
    "decimal.Decimal": [decimal.Decimal(1)],
    "fractions.Fraction": [fractions.Fraction(1)],
    "complex": [1j],
    "list": [[1]],
    "frozenset": [frozenset({"a"})],
    f"{__name__}.Colour": [Colour.RED],
    f"{__name__}.Number": [Number.ONE],
    f"{__name__}.WithSets": [WithSets("x")],
    f"{__name__}.Pair": [Pair(1, 2)],
    f"{__name__}.Text": [Text("x")],
    "numpy.complex128": [np.complex128(1)],
    "numpy.ndarray": [np.array([1])],
    "type": [int],
}  # fmt: skip

numbers = st.one_of(
    st.integers(), st.integers(-2, 2), st.booleans(), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**53, 2**53 + 1, 2.0**70, 2**70, 0.5, 1e308]),
)  # fmt: skip
moments = st.one_of(
    st.dates(), st.datetimes(allow_imaginary=True), st.sampled_from([
        datetime.date(2000, 1, 1), datetime.datetime(2000, 1, 1), datetime.datetime(2000, 1, 1, fold=1),
        datetime.datetime(2000, 1, 1, microsecond=1), datetime.date.min, datetime.datetime.min, "2000-01-01",
    ])
)  # fmt: skip
plain = st.one_of(numbers, st.text(max_size=3), st.binary(max_size=3), st.uuids(), moments)
values = st.recursive(plain, lambda inner: st.lists(st.one_of(inner, st.none()), max_size=3).map(tuple), max_leaves=5)


def typed(value):
    """The value, so that equal means equal and of one type."""
    return (tuple, tuple(map(typed, value))) if type(value) is tuple else (type(value), value)


@given(values, values)
def test_two_ids_are_one_unit_if_and_only_if_python_calls_them_equal(one, other):
    assert (unit_text(one) == unit_text(other)) == (one == other)


@given(values, values)
def test_two_keys_are_one_partition_if_and_only_if_they_are_equal_and_of_one_type(one, other):
    assert (key_text(one) == key_text(other)) == (typed(one) == typed(other))


@given(st.lists(numbers, min_size=2, max_size=2), values)
def test_numbers_that_are_equal_are_one_unit_however_deep(pair, rest):
    one, other = (((number, rest), rest) for number in pair)
    assert (unit_text(one) == unit_text(other)) == (pair[0] == pair[1])


@given(values)
def test_a_key_comes_back_as_the_value_it_was(value):
    assert typed(from_text(key_text(value))) == typed(value)


@given(moments, moments)
def test_days_and_moments_are_told_apart_as_python_does(one, other):
    assert (unit_text(one) == unit_text(other)) == (one == other)
    assert (key_text(one) == key_text(other)) == (typed(one) == typed(other))


@pytest.mark.parametrize("number", [0, 1, True, 0.0, -0.0, 1.0, 2.0**70, 2**70, 1e308])
def test_numbers_of_any_type_and_size_are_the_unit_that_they_equal(number):
    assert unit_text(number) == unit_text(int(number))


def test_whole_numbers_have_no_largest():
    assert from_text(key_text(-(10**5000))) == -(10**5000)


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        (np.int8(1), 1), (np.uint64(2**63), 2**63), (np.bool_(True), True), (np.float64(0.5), 0.5),
        (np.float32(0.1), float(np.float32(0.1))), (np.float16(2.0), 2.0), (np.str_("ß"), "ß"), (np.bytes_(b"x"), b"x"),
        (np.str_("a\0"), "a\0"), (np.bytes_(b"x\0"), b"x\0"),
    ],
)  # fmt: skip
def test_numpys_scalars_are_their_python_equals(scalar, value):
    assert key_text(scalar) == key_text(value)
    assert unit_text((scalar, "x")) == unit_text((value, "x"))
    assert type(from_text(key_text(scalar))) is type(value)


@pytest.mark.parametrize("broken", [None, math.nan, -math.inf, np.float32("nan"), (1, math.nan), ((-math.inf,),)])
def test_none_and_numbers_that_arent_finite_are_nobody_and_no_partition(broken):
    assert unit_text(broken) is None
    assert key_text(broken) is None


def test_none_within_a_tuple_is_a_part_like_any_other():
    assert unit_text((None,)) != unit_text(("n",)) != unit_text(())
    assert unit_text((math.nan,)) is None


@pytest.mark.parametrize("place", [lambda value: value, lambda value: (value,), lambda value: (1, ("a", value))])
@pytest.mark.parametrize("name", REFUSED)
def test_every_other_type_is_refused_by_its_name(name, place):
    for value in REFUSED[name]:
        for text in (unit_text, key_text):
            with pytest.raises(NotAKey) as refused:
                text(place(value))
            assert str(refused.value) == name


def test_tuples_that_never_end_are_refused():
    deep = ()
    for _ in range(100_000):
        deep = (deep,)
    with pytest.raises(NotAKey) as refused:
        unit_text(deep)
    assert str(refused.value) == "tuples nested more than 16 deep"
    for _ in range(100_000):  # taken apart step by step: Python itself recurses otherwise
        (deep,) = deep


def batched(unit, key):
    extract = Extract(unit=lambda row: row[0], key=lambda row: row[1], value=None, vector=None, columns=("unit", "key"))
    row = taken((unit, key), extract)
    return batch_of([] if row is None else [row], extract)


def test_a_row_is_taken_as_it_is_when_it_comes():
    """A step before may fill one object anew for each row: each row has its own values all the same."""
    extract = Extract(
        unit=lambda row: row["unit"],
        key=lambda row: row["key"],
        value=lambda row: row["value"],
        vector=2,
        columns=("unit", "key", "value"),
    )
    row, vector, kept = {}, [0.0, 0.0], []
    for place, key in enumerate(("Oslo", "Bergen")):
        vector[:] = [float(place)] * 2
        row.update(unit="one", key=key, value=vector)
        kept.append(taken(row, extract))
    assert batch_of(kept, extract).column("value").to_pylist() == [[0.0, 0.0], [1.0, 1.0]]
    assert batch_of(kept, extract).column("key").to_pylist() == [key_text("Oslo"), key_text("Bergen")]


@pytest.mark.parametrize(
    ("unit", "key", "message"),
    [
        (np.datetime64("NaT"), "inn",
         f"privacy ids must be {TAKEN}, got "
         "numpy.datetime64; have the extractor return text or a number, such as str(value), or ascii(value) "
         "for text that UTF-8 can't hold"),
        (7731, WithSets("canary"),
         f"partition keys must be {TAKEN}, got "
         f"{__name__}.WithSets; have the extractor return text or a number, such as str(value), or ascii(value) "
         "for text that UTF-8 can't hold"),
    ],
)  # fmt: skip
def test_a_row_of_another_type_ends_the_run_with_the_types_name_and_what_to_do(unit, key, message):
    with pytest.raises(RunFailed) as failed:
        batched(unit, key)
    assert str(failed.value) == message
    assert failed.value.__context__ is None


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", ("ß\ud8000", 1)])
def test_text_that_cant_be_encoded_is_refused_and_not_quoted(text):
    for to_text in (key_text, unit_text):
        with pytest.raises(NotAKey) as refused:
            to_text(text)
        assert str(refused.value) == "text with a lone surrogate"
        assert refused.value.__context__ is None


@pytest.mark.parametrize(
    ("public", "message"),
    [
        ([decimal.Decimal(1)],
         f"public_partitions must be {TAKEN}, got "
         "decimal.Decimal; have the extractor return text or a number, such as str(value), or ascii(value) "
         "for text that UTF-8 can't hold"),
        (["inn", Number.ONE],
         f"public_partitions must be {TAKEN}, got "
         f"{__name__}.Number; have the extractor return text or a number, such as str(value), or ascii(value) "
         "for text that UTF-8 can't hold"),
        (["inn", math.nan],
         "public_partitions must have no None, NaN or infinite key: rows of such a key are left out"),
    ],
)  # fmt: skip
def test_public_partitions_of_another_type_are_refused_when_the_pipeline_is_built(public, message):
    extractors = pipeline_dp.DataExtractors(privacy_id_extractor=len, partition_extractor=len)
    params = pipeline_dp.AggregateParams(
        metrics=[pipeline_dp.Metrics.COUNT], max_partitions_contributed=1, max_contributions_per_partition=1
    )
    rows = beam.Pipeline(runner="FnApiRunner") | beam.Create(["a"])
    with pytest.raises(UsageError) as refused:
        DPEngine(SharedBudgetAccountant(1.0, 1e-6)).aggregate(rows, params, extractors, public)
    assert str(refused.value) == message


PROGRAM = """
import dataclasses, datetime, typing, uuid
from dpbeam.transforms.sources.python_keys import NotAKey, key_text, unit_text

@dataclasses.dataclass(frozen=True)
class Person:
    name: str
    kinds = {"a", "b", "c", "d", "e", "f"}

class Named(typing.NamedTuple):
    name: str
    kinds = frozenset("abcdefgh")

taken = ["x", ("a", 1.5, None), b"y", uuid.UUID(int=7), -0.0, datetime.date(2000, 1, 1), datetime.datetime(2000, 1, 1)]
for value in [*taken, Person("p"), Named("n"), frozenset("abc"), ("q", Person("p"))]:
    for text in (unit_text, key_text):
        try:
            print(ascii(text(value)))
        except NotAKey as other:
            print("refused", other)
"""


def test_processes_with_other_hashes_of_text_know_the_same_units_and_refuse_the_same():
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    (lines,) = said
    assert lines.count("refused") == 8
    assert len(lines.splitlines()) == 22
