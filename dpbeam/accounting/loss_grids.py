"""Privacy losses on a grid: each mechanism's masses, put on it so that no hockey-stick divergence shrinks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

Grid = tuple[int, Floats]
"""The index of the first loss on the grid, and the masses from there on."""


def spread(step: float, mass: Floats, discounted: Floats) -> Floats:
    """Masses on the edges of intervals, from what lies inside each.

    `mass[i]` is the probability of a loss in interval i, [x, x + step], and `discounted[i]` its mean of
    e^(x − loss) times that probability. Keeping both sums is the spread that no divergence falls under.
    """
    lower = (discounted - mass * math.exp(-step)) / -math.expm1(-step)
    # Where rounding leaves nonsense, all of the mass goes up, which is safe.
    lower = np.clip(np.nan_to_num(lower, nan=0.0, posinf=0.0, neginf=0.0), 0.0, mass)
    edges = np.zeros(len(mass) + 1)
    edges[:-1] += lower
    edges[1:] += mass - lower
    return edges


def atom(grid: Floats, first: int, step: float, loss: float, probability: float) -> None:
    """Adds one probable loss to the grid, spread over its two neighbours."""
    index = min(max(math.floor(loss / step), first), first + len(grid) - 2)
    mass = np.array([probability])
    edges = spread(step, mass, mass * math.exp(min(0.0, max(-step, index * step - loss))))
    grid[index - first : index - first + 2] += edges


def worst(e: float, step: float) -> Grid:
    """The worst ε-DP pair: loss ε with probability e^ε/(1 + e^ε), else −ε."""
    first = math.floor(-e / step) - 1
    grid = np.zeros(2 * -first + 2)
    high = 1 / (1 + math.exp(-e))
    atom(grid, first, step, e, high)
    atom(grid, first, step, -e, math.exp(-e) * high)
    return first, grid


def laplace(e: float, step: float) -> Grid:
    """Laplace noise of scale 1/ε, moved by 1: loss ε with ½, −ε with e^−ε/2, between with density e^((x−ε)/2)/4."""
    first = math.floor(-e / step) - 1
    size = 2 * -first + 2
    edges = (first + np.arange(size)) * step
    left, right = np.clip(edges[:-1], -e, e), np.clip(edges[1:], -e, e)
    half = (right - left) / 2
    mass = np.exp((left - e) / 2) * np.expm1(half) / 2
    discounted = np.exp(edges[:-1] - (left + e) / 2) * -np.expm1(-half) / 2
    grid = spread(step, mass, discounted)
    atom(grid, first, step, e, 0.5)
    atom(grid, first, step, -e, math.exp(-e) / 2)
    return first, grid


def gaussian(mu: float, step: float, tail: float) -> Grid:
    """Gaussian of parameter μ: losses N(μ²/2, μ²); mass of at most `tail` above the grid is left to the caller's δ."""
    reach = math.sqrt(2 * math.log(1 / tail))
    first = math.floor((mu**2 / 2 - reach * mu) / step)
    last = math.ceil((mu**2 / 2 + reach * mu) / step)
    edges: Floats = np.arange(first, last + 1, dtype=np.float64) * step
    under_p: Floats = (edges - mu**2 / 2) / mu
    under_q: Floats = (edges + mu**2 / 2) / mu
    mass = normal_mass(under_p)
    with np.errstate(over="ignore", invalid="ignore"):
        discounted = normal_mass(under_q) * np.exp(edges[:-1])
    grid = spread(step, mass, discounted)
    # What lies below the grid moves up to its lowest loss.
    grid[0] += float(special.ndtr(under_p[0]))
    return first, grid


def normal_mass(edges: Floats) -> Floats:
    """P(edge i < N(0, 1) ≤ edge i + 1), without cancellation in either tail."""
    below, above = special.ndtr(edges), special.ndtr(-edges)
    return np.asarray(np.where(edges[:-1] > 0, above[:-1] - above[1:], below[1:] - below[:-1]), dtype=np.float64)
