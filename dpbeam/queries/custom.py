"""Custom metrics: what each row adds, bounded, and what is shown of the noisy sums. Bounds, sums and noise are ours.

A custom metric says four things: its version, how far one row may move its sums (`row_bound`), what a row of its
columns adds (`rows`), and what is shown of the noisy sums (`release`). All else follows: sums are exact and merge in
any order, the sensitivity is that of a vector sum of this bound, the plan gives the noise, and the check derives both
again. A custom metric never sees a partition, a unit or a random draw.

Guarantee: one row moves the sums by no more than the declared bound, since every row's numbers are scaled down to it
after the metric's own code ran; NaN counts as 0. Two things rest on that code: `rows` must give each row what it would
give that row alone, which `build` tries on made-up rows and can't prove; and the code is trusted as dpbeam's own is,
for it runs on the data. What `release` shows is post-processing; `build` tries it on made-up noisy numbers, so that
code that fails is found before a run is charged, and `released` lets nothing through but finite values in intervals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from itertools import product
from typing import Any, ClassVar, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from dpbeam.errors import RunFailed, UsageError
from dpbeam.mechanisms import moments
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace
from dpbeam.mechanisms.noise_width import half_width
from dpbeam.queries.bounds import Norm

F64 = npt.NDArray[np.float64]
Interval = tuple[F64, F64, F64]
"""Of each partition a value, and the ends of its 95 % interval."""

GROUP = "dpbeam.metrics"
"""The entry-point group by which installed packages register custom metrics."""

MAX_SIZE = 4096
_FINITE = 1e300

M = TypeVar("M", bound="CustomMetric")


@dataclass(frozen=True, kw_only=True)
class RowBound:
    """What one row adds is a vector of `size` numbers with a `norm` of at most `most`.

    Raises:
        ValueError: the norm isn't l1, l2 or linf, or `most` isn't a positive finite number of moderate size.
    """

    norm: Norm
    most: float
    size: int = 1

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise ValueError(f"norm must be one of {', '.join(get_args(Norm))}, got {self.norm!r}")
        if isinstance(self.most, bool) or not (isinstance(self.most, float | int) and 1e-15 <= self.most <= 1e15):
            raise ValueError(f"most must be a finite number from 1e-15 to 1e15, got {self.most!r}")
        if isinstance(self.size, bool) or not (isinstance(self.size, int) and 1 <= self.size <= MAX_SIZE):
            raise ValueError(f"size must be a whole number from 1 to {MAX_SIZE}, got {self.size!r}")


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """The noisy sums of all partitions, an array of (partitions, size), and their noise; likewise the noisy number of
    rows, if the metric asked for it."""

    sums: F64
    noise: Additive
    count: F64 | None = None
    count_noise: Additive | None = None

    def sum(self, place: int) -> Interval:
        """One of the sums, with its interval."""
        value, margin = self.sums[:, place], half_width(self.noise)
        return value, value - margin, value + margin

    def mean(self, place: int, low: float, high: float) -> Interval:
        """One of the sums over the number of rows, with its interval; a row adds no less than `low` and no more than
        `high`.

        Raises:
            ValueError: the metric doesn't need the count.
        """
        if self.count is None or self.count_noise is None:
            raise ValueError("a mean needs the number of rows: set needs_count = True")
        return moments.mean(
            moments.NoisyQuantity(quantity=_Sum(low=low, high=high), noise=self.noise, noisy=self.sums[:, [place]]),
            moments.NoisyQuantity(quantity=_Rows(), noise=self.count_noise, noisy=self.count.reshape(-1, 1)),
        )


@dataclass(frozen=True, kw_only=True)
class _Sum:
    """A sum of what rows add, each from `low` to `high`, as `moments.mean` needs to know it."""

    low: float
    high: float
    name: str = "sum"
    centre: float = 0.0

    @property
    def reach(self) -> float:
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True, kw_only=True)
class _Rows:
    name: str = "count"


class CustomMetric(ABC):
    """A custom metric with its parameters: to be a frozen dataclass whose fields are the policy's `params`."""

    version: ClassVar[int]
    """To be raised whenever the code changes what is computed: it belongs to the policy's digest."""
    inputs: ClassVar[int] = 1
    """How many columns it takes."""
    needs_count: ClassVar[bool] = False
    """Whether `release` needs the noisy number of rows; it shares the stage's noisy count."""
    outputs: ClassVar[tuple[str, ...]] = ()
    """What is added to the metric's name to name each released column; none where it releases one, of that name."""

    @property
    @abstractmethod
    def row_bound(self) -> RowBound:
        """How far one row may move the sums. It follows from the parameters alone."""

    @abstractmethod
    def rows(self, columns: Sequence[F64]) -> F64:
        """What each row adds: an array of (rows, size), or (rows,) for a size of 1. What a row gets must not depend on
        other rows."""

    @abstractmethod
    def release(self, noisy: Noisy) -> Sequence[Interval]:
        """What is shown, for each of `outputs`: post-processing of noisy numbers, which may be any: sums of either sign
        and size, a count of 0 or below. Each value is finite, and lies in its interval, whose ends are finite."""


_registered: dict[str, type[CustomMetric]] = {}


def metric(name: str) -> Callable[[type[M]], type[M]]:
    """Registers a custom metric in this process; installed packages use the entry-point group `dpbeam.metrics`."""

    def register(kind: type[M]) -> type[M]:
        _registered[name] = kind
        return kind

    return register


def known() -> dict[str, Callable[[], Any]]:
    """How to get at every registered metric, by name.

    Raises:
        UsageError: two packages register one name.
    """
    loaders: dict[str, Callable[[], Any]] = {name: partial(_registered.__getitem__, name) for name in _registered}
    places: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        if places.setdefault(entry.name, entry.value) != entry.value:
            raise UsageError(
                f"custom metric {entry.name} must be registered once, and is by {places[entry.name]} and by "
                f"{entry.value}; uninstall one of the packages"
            )
        loaders.setdefault(entry.name, entry.load)
    return loaders


def build(name: str, columns: int, params: Mapping[str, Any]) -> CustomMetric:
    """The custom metric of a policy, ready to be planned.

    Raises:
        UsageError: no such metric is registered; it isn't a frozen dataclass with a version; it doesn't take these
            columns or parameters; it declares no finite positive bound on rows; it isn't row-local on made-up rows; or
            it doesn't release finite values in their intervals from made-up noisy numbers.
    """
    registered = known()
    if name not in registered:
        listed = ", ".join(sorted(registered)) or "none"
        raise UsageError(f"custom metric {name!r} isn't registered; install its package. Registered: {listed}")
    kind = _loaded(name, registered[name])
    try:
        metric = kind(**params)
        bound = metric.row_bound
        hash(metric)
    except Exception as error:
        raise UsageError(f"custom metric {name} can't be built from these params: {error}") from None
    if not isinstance(bound, RowBound):
        raise UsageError(f"custom metric {name} must declare a RowBound as its row_bound, got {type(bound).__name__}")
    if columns != kind.inputs:
        raise UsageError(f"custom metric {name} takes {kind.inputs} columns, got {columns}")
    _try_rows(name, metric)
    _try_release(name, metric)
    return metric


def identity(metric: CustomMetric) -> dict[str, Any]:
    """What a policy's digest knows a custom metric by, beside its name and parameters: its class and version."""
    kind = type(metric)
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "version": kind.version}


def contributions(metric: CustomMetric, columns: Sequence[npt.NDArray[Any]]) -> F64:
    """What each row adds, an array of (rows, size), finite: NaN counts as 0. Not yet bounded.

    Raises:
        RunFailed: `rows` gave another number of rows or numbers.
    """
    size, rows = metric.row_bound.size, len(columns[0])
    with np.errstate(all="ignore"):
        vectors = np.asarray(
            metric.rows([np.asarray(column, dtype=np.float64) for column in columns]), dtype=np.float64
        )
    if vectors.shape not in ((rows, size), *(((rows,),) if size == 1 else ())):
        raise RunFailed(
            f"custom metric {type(metric).__name__} must give {size} numbers a row; nothing was published; "
            "correct rows()"
        )
    return np.nan_to_num(vectors.reshape(rows, size), nan=0.0, posinf=_FINITE, neginf=-_FINITE)


def released(metric: CustomMetric, noisy: Noisy) -> list[tuple[F64, ...]]:
    """What the metric shows of noisy sums.

    Guarantee: finite numbers alone, each value within its interval: a NaN, an infinity or a reversed interval is never
    released. What goes wrong is told without a value, for nothing of this draw is published.

    Raises:
        RunFailed: `release` failed, or gave other than three finite rising numbers a partition for each of its outputs.
    """
    who = f"custom metric {type(metric).__name__}"
    what = "nothing was published; correct release()"
    try:
        with np.errstate(all="ignore"):
            intervals = [
                tuple(np.asarray(end, dtype=np.float64) for end in interval) for interval in metric.release(noisy)
            ]
    except Exception as error:
        raise RunFailed(f"{who} failed in its release() with {type(error).__name__}; {what}") from None
    wanted = [(len(noisy.sums),)] * 3
    if len(intervals) != max(1, len(metric.outputs)) or any(
        [end.shape for end in each] != wanted for each in intervals
    ):
        raise RunFailed(
            f"{who} must release a value and the ends of its interval for each partition and output; {what}"
        )
    for value, low, high in intervals:
        finite = np.isfinite(value) & np.isfinite(low) & np.isfinite(high)
        if not (finite & (low <= value) & (value <= high)).all():
            raise RunFailed(
                f"{who} must release finite values, each within the ends of its interval, and didn't; {what}"
            )
    return intervals


def _loaded(name: str, load: Callable[[], Any]) -> type[CustomMetric]:
    try:
        kind = load()
    except Exception as error:
        raise UsageError(f"custom metric {name} can't be loaded: {type(error).__name__}: {error}") from None
    if not (isinstance(kind, type) and issubclass(kind, CustomMetric)):
        raise UsageError(f"custom metric {name} must be a class derived from CustomMetric, got {kind!r}")
    frozen = getattr(getattr(kind, "__dataclass_params__", None), "frozen", False)
    version = getattr(kind, "version", None)
    if not frozen or isinstance(version, bool) or not (isinstance(version, int) and version >= 1):
        raise UsageError(f"custom metric {name} must be a frozen dataclass with a version, a whole number from 1 on")
    return kind


def _try_rows(name: str, metric: CustomMetric) -> None:
    """Refuses a metric that gives a made-up row something else beside other rows, or another time."""
    rng = np.random.Generator(np.random.PCG64(7))
    edge = [0.0, -0.0, 1.0, -1.0, 1e-300, 1e15, -1e15]
    columns = [rng.permutation(np.concatenate([edge, rng.normal(0, 30, 54)])) for _ in range(type(metric).inputs)]
    try:
        whole = contributions(metric, columns)
        pieces = [contributions(metric, [c[a:b] for c in columns]) for a, b in ((0, 1), (1, 20), (20, 61), (61, 61))]
        backwards = contributions(metric, [c[::-1] for c in columns])[::-1]
    except Exception as error:
        raise UsageError(f"custom metric {name} can't be computed on made-up rows: {error}") from None
    # Not to the last bit: NumPy's functions may round differently at the end of an array.
    least = 1e-9 * metric.row_bound.most
    others = (np.concatenate(pieces), backwards)
    if not all(np.allclose(whole, other, rtol=1e-9, atol=least) for other in others):
        raise UsageError(
            f"custom metric {name} must give each row what it gives that row alone, and on made-up rows it didn't; "
            "its rows() must not look at other rows or draw random numbers"
        )


def _try_release(name: str, metric: CustomMetric) -> None:
    """Refuses a metric that releases something else than finite values in their intervals from made-up noisy numbers:
    sums and counts of either sign, none, few and very many rows, in arrays of several lengths, by either noise."""
    most, size = metric.row_bound.most, metric.row_bound.size
    rows = np.array([0.0, 1e-9, 0.5, 1.0, 30.0, 1e4, 1e9])
    rows = np.concatenate([rows, -rows])
    share = np.array([0.0, 1.0, -1.0, 0.3, -1e-9, 40.0, -40.0])
    count = np.tile(rows, len(share))
    sums = np.outer(np.repeat(share, len(rows)) * (np.abs(count) + 1) * most, np.linspace(1.0, -1.0, size))
    rng = np.random.Generator(np.random.PCG64(11))
    mixed = rng.permuted(sums, axis=0)  # so that the numbers of a vector aren't in proportion
    kinds: tuple[type[Additive], ...] = (Gaussian, Laplace)
    for scale, kind in product((1e-6, 1.0, 1e6), kinds):
        of_sums, of_count = (_made_up(kind, name, scale * unit, unit) for unit in (most, 1.0))
        for part in (sums, mixed, sums[:1], sums[:0]):
            noisy = Noisy(sums=part.copy(), noise=of_sums)
            if metric.needs_count:
                noisy = replace(noisy, count=count[: len(part)], count_noise=of_count)
            try:
                released(metric, noisy)
            except RunFailed as error:
                tried = str(error).partition("; nothing was published")[0]
                raise UsageError(
                    f"{tried}, on made-up noisy numbers (sums and counts of either sign and any size); correct "
                    f"release() of {name}, for example by np.clip"
                ) from None


def _made_up(kind: type[Additive], name: str, scale: float, sensitivity: float) -> Additive:
    if kind is Gaussian:
        return Gaussian(stage="trial", metric=name, sigma=scale, l2=sensitivity)
    return Laplace(stage="trial", metric=name, scale=scale, l1=sensitivity)
