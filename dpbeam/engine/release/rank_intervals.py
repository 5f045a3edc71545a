"""95 % intervals of the counts at each place (first, second, …) of a partition's most frequent values.

Noise helps to decide which value is at a place: of five equal counts the first is the one that noise raised most, and
the interval of one count by itself would hold it in 88 % of the draws. So an interval holds whichever value might be
there. All of it is post-processing of noisy counts.

Why they hold: let s values be shown (all of them that passed a threshold, or all candidates). Given which these are,
their noisy counts are independent, each of a law that is no wider than the noise (cut off at a threshold, Laplace and
Gaussian noise is narrower, as their hazard rates never fall). With probability 1 − 0.25 % all lie in the regions that
each lies in but for 1 − (1 − 0.25 %)^(1/s), no wider than 2·w, where ± w is what the noise leaves with that
probability. Let T be the values that come to the place for some noisy counts in these regions: the true counts decide
what is in T. Then what is at the place is in T; and as no count moves by more than 2·w within its region, nor does the
count at the place, each of T is within 4·w of what is seen there. So the c values within 4·w are at least those of T,
and intervals that each miss with 1 − (1 − 4.75 %)^(1/c) hold for all of T but for 4.75 %. Together: 5 %.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from dpbeam.mechanisms import threshold_bias
from dpbeam.mechanisms.events import Additive, Laplace, LaplaceThresholding, Thresholding
from dpbeam.mechanisms.noise_width import scale_of

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_FAR = 0.0025
"""How often a value may come from further off than is looked: little, as values that are alone pay for it."""
_MISS = 0.05 - _FAR


def of_candidates(noisy: F64, at_place: F64, mechanism: Additive) -> tuple[F64, F64]:
    """The ends for `at_place[i]`, one of partition i's noisy counts `noisy[i]` of all candidates."""
    partitions, size = noisy.shape
    sizes = np.full(partitions, size)
    half = _half_width(mechanism, _miss(noisy.reshape(-1), sizes, at_place, mechanism))
    return at_place - half, at_place + half


def of_shown(shown: F64, sizes: I64, at_place: F64, mechanism: Thresholding) -> tuple[F64, F64, F64]:
    """The ends, and the bias, for `at_place[i]`, one of the `sizes[i]` noisy counts of partition i that passed a
    threshold; `shown` holds those of all partitions, one after the other. Of a place that is NaN they mean nothing."""
    count = np.nan_to_num(at_place)
    return threshold_bias.interval(count, mechanism, _miss(shown, sizes, count, mechanism))


def _miss(noisy: F64, sizes: I64, at_place: F64, mechanism: Additive | Thresholding) -> F64:
    """How often the interval of each place may miss the count of a value that might be there."""
    window = 4 * _half_width(mechanism, _each(_FAR, sizes))
    near = np.abs(noisy - np.repeat(at_place, sizes)) <= np.repeat(window, sizes)
    partition = np.repeat(np.arange(len(sizes)), sizes)
    return _each(_MISS, np.bincount(partition, weights=near, minlength=len(sizes)))


def _each(miss: float, number: I64 | F64) -> F64:
    """How often each of a number of independent intervals may miss for all to hold but for `miss`."""
    each: F64 = -np.expm1(np.log1p(-miss) / np.maximum(number, 1))
    return each


def _half_width(mechanism: Additive | Thresholding, miss: F64) -> F64:
    """What the noise leaves, up or down, with probability `miss`."""
    laplace = isinstance(mechanism, Laplace | LaplaceThresholding)
    return scale_of(mechanism) * np.asarray(-np.log(miss) if laplace else -special.ndtri(miss / 2))
