"""What a custom metric may rely on, and is held to: its numbers, its registration, its trial on made-up rows."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from dpbeam.errors import RunFailed, UsageError
from dpbeam.mechanisms.events import Gaussian
from dpbeam.queries import custom
from dpbeam.queries.custom import CustomMetric, Noisy, RowBound

NOISE = Gaussian(stage="s", metric="m", sigma=0.01, l2=1.0)


@dataclass(frozen=True, kw_only=True)
class Plain(CustomMetric):
    """Adds its column up, `size` times."""

    version = 3
    size: int = 1
    most: float = 1.0

    @property
    def row_bound(self):
        return RowBound(norm="linf", most=self.most, size=self.size)

    def rows(self, columns):
        return np.column_stack([columns[0]] * self.size)

    def release(self, noisy):
        return [noisy.sum(0)]


def built(kind, monkeypatch, **params):
    monkeypatch.setitem(custom._registered, "mine", kind)
    return custom.build("mine", kind.inputs, params)


@pytest.mark.parametrize("most", [1e-15, 1e15])
def test_a_bound_may_be_as_small_and_as_large_as_it_says(most):
    assert RowBound(norm="l1", most=most, size=custom.MAX_SIZE).most == most
    with pytest.raises(ValueError, match="most must be a finite number from 1e-15 to 1e15"):
        RowBound(norm="l1", most=math.nextafter(most, 0.0 if most < 1 else math.inf), size=1)
    with pytest.raises(ValueError, match=f"size must be a whole number from 1 to {custom.MAX_SIZE}"):
        RowBound(norm="l1", most=most, size=custom.MAX_SIZE + 1)


def test_a_mean_is_the_sum_over_the_count_within_what_a_row_may_add():
    noisy = Noisy(sums=np.array([[0.0, 3.0], [0.0, -9.0]]), noise=NOISE, count=np.array([4.0, 4.0]), count_noise=NOISE)
    value, low, high = noisy.mean(1, -1.0, 0.9)
    assert value.tolist() == [0.75, -1.0]
    assert low[0] < 0.75 < high[0] < 0.9


@pytest.mark.parametrize("lacking", [{"count": None}, {"count_noise": None}])
def test_a_mean_without_the_count_is_refused(lacking):
    noisy = Noisy(sums=np.zeros((1, 1)), noise=NOISE, count=np.ones(1), count_noise=NOISE)
    with pytest.raises(ValueError, match="needs_count = True"):
        replace(noisy, **lacking).mean(0, 0.0, 1.0)


def test_rows_get_floats_and_what_they_give_is_finite():
    class Odd(Plain):
        def rows(self, columns):
            assert [column.dtype for column in columns] == [np.float64]
            return np.array([math.nan, math.inf, -math.inf, 2], dtype=np.float32)

    found = custom.contributions(Odd(), [np.arange(4)])
    assert found.dtype == np.float64
    assert found.tolist() == [[0.0], [1e300], [-1e300], [2.0]]  # finite, and far over any bound


def test_arithmetic_that_overflows_prints_nothing(recwarn):
    class Huge(Plain):
        def rows(self, columns):
            return columns[0] * 1e308 / 0.0

    custom.contributions(Huge(), [np.array([1.0, 1e10, 0.0])])
    assert not recwarn.list


def test_one_number_a_row_will_not_do_for_several():
    class Flat(Plain):
        def rows(self, columns):
            return columns[0]

    assert custom.contributions(Flat(), [np.array([])]).shape == (0, 1)
    for rows in ([], [1.0]):
        with pytest.raises(RunFailed, match="must give 2 numbers a row"):
            custom.contributions(Flat(size=2), [np.array(rows)])


def test_what_is_released_is_floats():
    class Whole(Plain):
        def release(self, noisy):
            return [(np.array([1]), np.array([0]), np.array([2]))]

    (interval,) = custom.released(Whole(), Noisy(sums=np.zeros((1, 1)), noise=NOISE))
    assert [end.dtype for end in interval] == [np.float64] * 3


def test_a_metric_is_known_by_its_class_and_version():
    assert custom.identity(Plain()) == {"class": f"{__name__}:Plain", "version": 3}


def entries(monkeypatch, *found):
    def of_group(*, group):
        assert group == "dpbeam.metrics"
        return [SimpleNamespace(name=name, value=value, load=lambda value=value: value) for name, value in found]

    monkeypatch.setattr(custom, "entry_points", of_group)
    monkeypatch.setattr(custom, "_registered", {"mine": Plain})


def test_metrics_of_this_process_and_of_packages_are_known_and_the_processs_comes_first(monkeypatch):
    entries(monkeypatch, ("theirs", "a:B"), ("theirs", "a:B"), ("mine", "c:D"), ("other", "e:F"))
    assert {name: load() for name, load in custom.known().items()} == {"mine": Plain, "theirs": "a:B", "other": "e:F"}


def test_a_name_that_two_packages_register_is_refused(monkeypatch):
    entries(monkeypatch, ("theirs", "a:B"), ("theirs", "c:D"))
    with pytest.raises(UsageError, match=r"^custom metric theirs must be registered once, and is by a:B and by c:D;"):
        custom.known()


def test_a_name_that_nobody_registers_is_refused_with_those_there_are(monkeypatch):
    entries(monkeypatch, ("theirs", "a:B"))
    with pytest.raises(UsageError, match=r"^custom metric 'x' isn't registered; .* Registered: mine, theirs$"):
        custom.build("x", 1, {})
    entries(monkeypatch)
    monkeypatch.setattr(custom, "_registered", {})
    with pytest.raises(UsageError, match=r"Registered: none$"):
        custom.build("x", 1, {})


@pytest.mark.parametrize("kind", [7, "Plain", int, Plain()])
def test_what_is_no_class_of_custom_metrics_is_refused(monkeypatch, kind):
    monkeypatch.setitem(custom._registered, "mine", kind)
    with pytest.raises(UsageError, match=r"^custom metric mine must be a class derived from CustomMetric, got "):
        custom.build("mine", 1, {})


class Loose(CustomMetric):
    version = 1

    @property
    def row_bound(self):
        return RowBound(norm="l1", most=1.0)

    rows = release = Plain.rows


@dataclass(frozen=True, kw_only=True)
class Nameless(Plain):
    version = None


@pytest.mark.parametrize("kind", [Loose, Nameless])
def test_a_class_that_is_no_frozen_dataclass_or_has_no_version_is_refused(monkeypatch, kind):
    with pytest.raises(UsageError, match=r"must be a frozen dataclass with a version, a whole number from 1 on$"):
        built(kind, monkeypatch)


def test_a_metric_that_cannot_be_compared_is_refused(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Labelled(Plain):
        labels: object

    assert built(Labelled, monkeypatch, labels=(1,))
    with pytest.raises(UsageError, match=r"^custom metric mine can't be built from these params: unhashable"):
        built(Labelled, monkeypatch, labels=[1])


def leaning(by):
    """A metric that moves each row by a part of all the others."""

    @dataclass(frozen=True, kw_only=True)
    class Leaning(Plain):
        def rows(self, columns):
            return columns[0] + by * self.most * (len(columns[0]) == 61)

    return Leaning


@pytest.mark.parametrize("most", [1e-3, 1.0, 1e6])
def test_rows_that_look_at_others_are_found_and_rounding_is_let_pass(monkeypatch, most):
    """Values of made-up rows go from 0 to 1e15: small ones show a shift of a millionth of what a row may add."""
    assert built(leaning(1e-10), monkeypatch, most=most)
    with pytest.raises(UsageError, match=re.escape("must not look at other rows or draw random numbers")):
        built(leaning(1e-6), monkeypatch, most=most)


def test_a_relative_change_counts_where_values_are_large(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Growing(Plain):
        by: float

        def rows(self, columns):
            return np.abs(columns[0]) * (1 + self.by * (len(columns[0]) == 61)) + 1e9

    assert built(Growing, monkeypatch, by=1e-10)
    with pytest.raises(UsageError, match="must not look at other rows"):
        built(Growing, monkeypatch, by=3e-9)


def fails(_):
    raise ArithmeticError("with a number in it: 17")


WRONG = {
    "fails": fails,
    "nan": lambda v: (np.full_like(v, np.nan), v, v),
    "nan ends": lambda v: (v, v * np.nan, v),
    "infinite": lambda v: (v, v, np.full_like(v, np.inf)),
    "infinite value": lambda v: (np.full_like(v, np.inf), v, np.full_like(v, np.inf)),
    "reversed": lambda v: (v, v + 1, v - 1),
    "above": lambda v: (v + 2, v - 1, v + 1),
    "below": lambda v: (v - 2, v - 1, v + 1),
    "logarithm": lambda v: (np.log(v), np.log(v - 1), np.log(v + 1)),
    "exponential": lambda v: (np.exp(v), np.exp(v - 1), np.exp(v + 1)),
    "empty": lambda v: (v[:1] if len(v) else v[0], v, v),
    "two": lambda v: (v, v),
}


def releasing(way, *, needs_count=False):
    @dataclass(frozen=True, kw_only=True)
    class Releasing(Plain):
        def release(self, noisy):
            return [way(noisy.count if needs_count else noisy.sums[:, 0])]

    Releasing.needs_count = needs_count
    return Releasing


@pytest.mark.parametrize("needs_count", [False, True])
@pytest.mark.parametrize("way", WRONG.values(), ids=WRONG)
def test_what_releases_no_finite_values_in_intervals_is_refused_before_any_run(monkeypatch, way, needs_count):
    """Whether a value comes from the sums or from the count."""
    with pytest.raises(UsageError, match=r"^custom metric Releasing .* on made-up noisy numbers .*release\(\) of mine"):
        built(releasing(way, needs_count=needs_count), monkeypatch)


@pytest.mark.parametrize("way", WRONG.values(), ids=WRONG)
def test_what_no_trial_has_found_is_not_released(way):
    noisy = Noisy(sums=np.array([[-1.0], [1000.0]]), noise=NOISE)
    with pytest.raises(RunFailed) as failed:
        custom.released(releasing(way)(), noisy)
    assert str(failed.value).startswith("custom metric Releasing ")
    assert "nothing was published; correct release()" in str(failed.value)
    assert not re.search(r"17|1000", str(failed.value))  # what it says holds no value
    assert failed.value.__cause__ is None


def test_any_finite_values_in_their_intervals_are_released(monkeypatch):
    """One point, an interval of no width, and the largest floats."""
    for way in (lambda v: (v, v, v), lambda v: (v * 0, v * 0 - 1e308, v * 0 + 1e308)):
        metric = built(releasing(way), monkeypatch)
        assert len(custom.released(metric, Noisy(sums=np.zeros((3, 1)), noise=NOISE))[0]) == 3


def test_a_metric_of_many_numbers_and_outputs_is_tried_whole(monkeypatch):
    """A fault of the last output alone, at the last of the numbers alone."""

    def metric(fault):
        @dataclass(frozen=True, kw_only=True)
        class Many(Plain):
            outputs = ("a", "b")

            def release(self, noisy):
                last = noisy.sums[:, -1]
                return [noisy.sum(0), (last, last + fault * (last < 0), last + 1)]

        return Many

    assert built(metric(0.0), monkeypatch, size=5)
    with pytest.raises(UsageError, match=r"^custom metric Many must release finite values"):
        built(metric(1.0), monkeypatch, size=5)
