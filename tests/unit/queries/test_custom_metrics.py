"""Custom metrics: bounded whatever their code gives, refused where they declare too little, part of plan and digest."""

from __future__ import annotations

import math
import re
import sys
import types
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.accounting import plan as plans
from dpbeam.engine.aggregation import accumulate, kernels
from dpbeam.engine.bounding import contributions
from dpbeam.errors import Refused, RunFailed, UsageError
from dpbeam.mechanisms.events import Gaussian
from dpbeam.policy.compile import query
from dpbeam.policy.load import load_policy
from dpbeam.policy.violations import PolicyError
from dpbeam.queries import custom
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.custom import CustomMetric, RowBound
from dpbeam.queries.metrics.custom import Custom
from tests.helpers import kernel_reference as reference

ROOT = Path(__file__).parents[3]
(EXAMPLE,) = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "custom_metrics.md").read_text(encoding="utf-8"), re.DOTALL
)


def example() -> type[CustomMetric]:
    module = types.ModuleType("geometric")
    with mock.patch.dict(sys.modules, geometric=module):  # where dataclasses looks its fields' types up
        exec(compile(EXAMPLE, "geometric.py", "exec"), vars(module))  # noqa: S102 the docs' own code
    return module.GeometricMean


@dataclass(frozen=True, kw_only=True)
class Base(CustomMetric):
    version = 1
    norm: str = "l2"
    most: float = 2.0
    size: int = 3

    @property
    def row_bound(self):
        return RowBound(norm=self.norm, most=self.most, size=self.size)

    def rows(self, columns):
        return np.column_stack([columns[0] * (i + 1) for i in range(self.size)])

    def release(self, noisy):
        return [noisy.sum(0)]


@dataclass(frozen=True, kw_only=True)
class Wild(Base):
    """Gives far more than it declares, NaN and infinity included."""

    def rows(self, columns):
        (values,) = columns
        odd = np.where(values > 0.5, np.nan, np.where(values < -0.5, np.inf, values * 1e300))
        return np.column_stack([odd, values, -odd])


class Declared(Base):
    pass


@dataclass(frozen=True, kw_only=True)
class Centred(Base):
    """Looks at other rows: their mean."""

    def rows(self, columns):
        return np.column_stack([columns[0] - columns[0].mean() if len(columns[0]) else columns[0]] * self.size)


@dataclass(frozen=True, kw_only=True)
class Noisier(Base):
    """Draws noise of its own."""

    def rows(self, columns):
        return np.random.default_rng().normal(size=(len(columns[0]), self.size))


@dataclass(frozen=True, kw_only=True)
class TooFew(Base):
    def rows(self, columns):
        return np.zeros((len(columns[0]), self.size - 1))


@dataclass(frozen=True, kw_only=True)
class Bare(CustomMetric):
    version = 1

    def rows(self, columns):
        return columns[0]

    def release(self, noisy):
        return [noisy.sum(0)]


@dataclass(frozen=True, kw_only=True)
class Wrong(Base):
    @property
    def row_bound(self):
        return 2.0


@dataclass(frozen=True, kw_only=True)
class Unversioned(Base):
    version: ClassVar = None


@dataclass(kw_only=True)
class Thawed(CustomMetric):
    version = 1
    row_bound = RowBound(norm="l1", most=1.0)

    def rows(self, columns):
        return columns[0]

    def release(self, noisy):
        return [noisy.sum(0)]


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(custom, "_registered", {})
    for kind in (Base, Wild, Centred, Noisier, TooFew, Bare, Wrong, Unversioned, Thawed):
        custom.metric(kind.__name__.lower())(kind)
    custom.metric("geometric_mean")(example())


def spec_of(made, **bounds):
    return reference.stage(metrics=(Custom(name="c", columns=("v",), custom=made),), **bounds)


VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1, 1) | st.sampled_from([1e308, -1e308, 5e-324])


def rows_of(unit):
    return st.lists(st.tuples(st.just(unit), st.integers(0, 2), VALUES), max_size=12)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@settings(max_examples=100, deadline=None)
@given(
    rows_of(1),
    rows_of(2),
    st.builds(Bounds, l0=st.integers(1, 3), linf=st.integers(1, 3)) | st.builds(Bounds, l1=st.integers(1, 6)),
)
def test_a_unit_moves_the_sums_by_the_declared_sensitivity_whatever_the_code_gives(norm, others, own, bounds):
    spec = spec_of(Wild(norm=norm, most=0.3), **vars(bounds))
    (quantity,) = spec.quantities

    def sums(rows):
        schema = pa.schema([("u", pa.int64()), ("p", pa.int64()), ("v", pa.float64())])
        batch = pa.RecordBatch.from_pylist([dict(zip("upv", row, strict=True)) for row in rows], schema=schema)
        found = accumulate.accumulate(contributions.bound([batch], spec, reference.SALT, (0,)), spec)
        keys = found.column("p").to_pylist()
        step = Fraction(kernels.grid_of(quantity).step)
        steps = kernels.vectors(quantity, found.column("__q_0")).tolist()
        return {(key, i): n * step for key, row in zip(keys, steps, strict=True) for i, n in enumerate(row)}

    before, after = sums(others), sums([*others, *own])
    moved = [after.get(key, 0) - before.get(key, 0) for key in {*before, *after}]
    l1, l2 = quantity.sensitivity(bounds)
    assert sum(map(abs, moved)) <= Fraction(l1) * (1 + Fraction(1, 10**12))
    assert sum(change**2 for change in moved) <= Fraction(l2) ** 2 * (1 + Fraction(1, 10**12))


def test_the_docs_example_gives_geometric_means(exact):
    made = example()(low=1.0, high=1000.0)
    rng = np.random.default_rng(3)
    values = rng.lognormal(2, 1.5, 60)
    table = pa.table({"u": np.arange(60), "p": np.arange(60) % 3, "v": values})
    spec = spec_of(made)
    found = reference.released(reference.accumulators(reference.batches_of(table, [7, 30]), spec, shards=3), spec)
    for p in range(3):
        own = np.clip(values[p::3], 1, 1000)
        assert found[(p,)]["c"] == pytest.approx(math.exp(np.log(own).mean()), rel=1e-6)
        assert found[(p,)]["c_low"] <= found[(p,)]["c"] <= found[(p,)]["c_high"]


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("base", {}, None),
        (
            "absent",
            {},
            "custom metric 'absent' isn't registered; install its package. Registered: bare, base, centred,",
        ),
        ("bare", {}, "custom metric bare can't be built from these params: Can't instantiate abstract class Bare"),
        ("wrong", {}, "custom metric wrong must declare a RowBound as its row_bound, got float"),
        (
            "base",
            {"most": 0.0},
            "custom metric base can't be built from these params: most must be a finite number from",
        ),
        (
            "base",
            {"most": math.inf},
            "custom metric base can't be built from these params: most must be a finite number",
        ),
        (
            "base",
            {"most": math.nan},
            "custom metric base can't be built from these params: most must be a finite number",
        ),
        (
            "base",
            {"norm": "l3"},
            "custom metric base can't be built from these params: norm must be one of l1, l2, linf",
        ),
        (
            "base",
            {"size": 0},
            "custom metric base can't be built from these params: size must be a whole number from 1",
        ),
        (
            "base",
            {"other": 1},
            "custom metric base can't be built from these params: Base.__init__() got an unexpected",
        ),
        ("geometric_mean", {"low": 5, "high": 1}, "custom metric geometric_mean can't be built from these params: low"),
        ("centred", {}, "custom metric centred must give each row what it gives that row alone, and on made-up rows"),
        ("noisier", {}, "custom metric noisier must give each row what it gives that row alone, and on made-up rows"),
        (
            "toofew",
            {},
            "custom metric toofew can't be computed on made-up rows: custom metric TooFew must give 3 numbers",
        ),
        ("unversioned", {}, "custom metric unversioned must be a frozen dataclass with a version, a whole number from"),
        ("thawed", {}, "custom metric thawed must be a frozen dataclass with a version, a whole number from 1 on"),
    ],
)
def test_a_metric_that_declares_too_little_is_not_built(registered, name, params, said):
    if said is None:
        assert custom.build(name, 1, params) == Base()
        return
    with pytest.raises(UsageError) as refused:
        custom.build(name, 1, params)
    assert str(refused.value).startswith(said)


def test_a_metric_of_other_columns_is_not_built(registered):
    with pytest.raises(UsageError, match=r"^custom metric base takes 1 columns, got 2$"):
        custom.build("base", 2, {})


def test_what_release_gives_must_fit_the_partitions():
    noisy = custom.Noisy(sums=np.zeros((4, 3)), noise=Gaussian(stage="s", metric="m", sigma=1.0, l2=1.0))

    @dataclass(frozen=True, kw_only=True)
    class Short(Base):
        def release(self, noisy):
            return [(noisy.sums[:2, 0],) * 3]

    with pytest.raises(RunFailed, match=r"^custom metric Short must release a value and the ends of its interval"):
        custom.released(Short(), noisy)


POLICY = """\
version: 1
dataset: d
source: {format: csv, path: d.csv}
privacy_unit: person
columns: {person: {type: string}, place: {type: string}, amount: {type: float64}}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: one
    group_by: [place]
    partitions: {private: {strategy: truncated_geometric}}
    bounds: {l0: 4, linf: 3}
    metrics:
      - count
      - custom: {metric: base, columns: [amount], params: {norm: linf, most: 2.0}}
      - custom: {metric: geometric_mean, columns: [amount], params: {low: 1, high: 100}}
    noise: NOISE
"""


@pytest.fixture
def load(registered, tmp_path):
    def load(text=POLICY, noise="gaussian"):
        (tmp_path / "policy.yaml").write_text(text.replace("NOISE", noise), encoding="utf-8")
        return load_policy(tmp_path / "policy.yaml")

    return load


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_a_custom_metric_is_planned_with_its_sensitivity_and_shares_the_count(load, noise):
    made = plans.plan(query(load(noise=noise)))
    found = {m.metric: m for m in made.mechanisms}
    assert list(found) == ["partitions", "count", "amount_base", "amount_geometric_mean"]
    reach = math.log(100) / 2
    if noise == "gaussian":
        assert found["amount_base"].l2 == pytest.approx(2 * 3 * 2.0 * math.sqrt(3))
        assert found["amount_geometric_mean"].l2 == pytest.approx(2 * 3 * reach)
    else:
        assert found["amount_base"].l1 == pytest.approx(12 * 2.0 * 3)
        assert found["amount_geometric_mean"].l1 == pytest.approx(12 * reach)
    (shared,) = made.utility.sharing
    assert shared.serves == ("count", "amount_geometric_mean")


def test_a_plan_with_less_noise_than_a_custom_metric_declares_is_refused(load, monkeypatch):
    from dpbeam.queries import quantities

    monkeypatch.setattr(quantities, "vector_norms", lambda norm, most, length: (most, most))
    with pytest.raises(Refused, match=r"^stage one, amount_base: l2 must be 20\.78"):
        plans.plan(query(load()))


def test_the_digest_covers_the_code_of_a_custom_metric_by_its_class_and_version(load, monkeypatch):
    before = load().digest
    assert load().digest == before
    monkeypatch.setattr(Base, "version", 2)
    updated = load().digest
    monkeypatch.undo()

    @dataclass(frozen=True, kw_only=True)
    class Other(Base):
        pass

    custom._registered.update({"base": Other, "geometric_mean": example()})
    try:
        assert len({before, updated, load().digest}) == 3
        assert len({before, load(POLICY.replace("most: 2.0", "most: 2.5")).digest}) == 2
    finally:
        custom._registered.clear()


def test_a_policy_with_a_custom_metric_that_cannot_be_built_says_why(load):
    with pytest.raises(PolicyError) as refused:
        load(POLICY.replace("{norm: linf, most: 2.0}", "{most: -1}"))
    (violation,) = refused.value.violations
    assert violation.key == "stages[0].metrics[1].custom.metric"
    assert violation.rule == (
        "must name a custom metric that can be built: custom metric base can't be built from these params: most must "
        "be a finite number from 1e-15 to 1e15, got -1"
    )
