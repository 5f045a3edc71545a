"""Our quantile trees against those of Google's library, through PyDP: the same tree, the same search."""

from __future__ import annotations

import math
import platform
import struct

import numpy as np
import pyarrow as pa
import pydp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydp.algorithms.quantile_tree import QuantileTree

from dpbeam.engine.aggregation.tree import tree_leaves
from dpbeam.engine.metrics import kernel_of
from dpbeam.engine.release.quantile_tree import noisy_quantiles, search
from dpbeam.queries.metrics.quantiles import rank_label
from dpbeam.queries.quantities import Tree

RANKS = (0.0, 0.003, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1.0)
VALUES = st.floats(-50, 50) | st.sampled_from([-1e300, 1e300, 0.0, -20.0, 20.0]) | st.integers(-3, 3).map(float)


def tree(low=-20.0, high=20.0):
    return Tree(name="t", weight=1.0, columns=("v",), low=low, high=high)


def trees(partitions, low=-20.0, high=20.0):
    """One tree for each list of values."""
    values = np.array([value for own in partitions for value in own], dtype=np.float64)
    rows = np.repeat(np.arange(len(partitions)), [len(own) for own in partitions])
    return kernel_of(tree(low, high)).of_rows(tree(low, high), {"v": values}, rows, len(partitions))


def exact(counts):
    return counts.astype(np.float64)


def googles(values, low=-20.0, high=20.0):
    """With an ε at which the noise rounds to nothing."""
    made = QuantileTree(low, high, 4, 16)
    for value in values:
        made.add_entry(value)
    return made.compute_quantiles(1e6, 0.0, 1, 1, list(RANKS))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(VALUES, max_size=60), min_size=1, max_size=4))
def test_without_noise_a_quantile_is_googles(partitions):
    found = noisy_quantiles(trees(partitions), RANKS, -20.0, 20.0, exact, 0.0)
    for own, values in zip(found[:, :, 0], partitions, strict=True):
        assert own == pytest.approx(googles(values), abs=1e-9)


def test_the_bounds_and_what_is_beyond_are_in_the_first_and_the_last_leaf():
    values = [-20.0, -1e300, 20.0, 1e300, 20.0 - 1e-9]
    partition, leaf, rows = tree_leaves(trees([[0.0], values]))
    assert list(zip(partition.tolist(), leaf.tolist(), rows.tolist(), strict=True)) == [
        (0, 32767, 1), (1, 0, 2), (1, 65534, 1), (1, 65535, 2),
    ]  # fmt: skip


def test_a_large_skewed_partition_has_googles_quantiles():
    values = np.random.default_rng(7).exponential(3.0, 20_000)
    found = noisy_quantiles(trees([values]), RANKS, -20.0, 20.0, exact, 0.0)[0, :, 0]
    assert found == pytest.approx(googles(values.tolist()), abs=1e-9)


class NoisyTree:
    """One tree whose counts get whole noise as a search asks for them, and the same counts as a tree of Google's."""

    def __init__(self, leaves, std, seed):
        self._leaves, self._std, self._rng = np.sort(leaves), std, np.random.default_rng(seed)
        self.counts = {}

    def __call__(self, level, nodes):
        children = (nodes[:, np.newaxis] * 16 + np.arange(16)).reshape(-1)
        edges = np.searchsorted(self._leaves, np.stack([children, children + 1]) * 16 ** (3 - level))
        noisy = np.rint(edges[1] - edges[0] + self._rng.normal(0, self._std, len(children))).astype(np.int64)
        first = (16 ** (level + 1) - 1) // 15  # Google numbers nodes through all levels, from 0 for the root
        self.counts |= dict(zip((first + children).tolist(), noisy.tolist(), strict=True))
        return noisy.reshape(-1, 16).astype(np.float64)

    def googles(self, ranks, low, high):
        """What Google's search makes of these counts, which it takes from a message of them (protobuf's format)."""
        nodes = b"".join(_part(1, b"\x08" + _varint(i) + b"\x10" + _varint(n)) for i, n in self.counts.items())
        shape = b"\x29" + struct.pack("<d", low) + b"\x31" + struct.pack("<d", high) + b"\x48\x04\x50\x10"
        name = b"type.googleapis.com/differential_privacy.BoundedQuantilesSummary"
        made = QuantileTree(low, high, 4, 16)
        made.merge(pydp._pydp.bytes_to_summary(_part(2, _part(1, name) + _part(2, nodes + shape))))
        return made.compute_quantiles(1e6, 0.0, 1, 1, list(ranks))


def _part(number, content):
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number):
    number %= 2**64
    found = []
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.integers(0, 65535) | st.sampled_from([0, 4095, 4096, 65535]), max_size=80),
    st.sampled_from([0.0, 0.3, 1.0, 3.0, 30.0, 1000.0]),
    st.lists(st.floats(0, 1) | st.sampled_from(RANKS), min_size=1, max_size=6),
    st.sampled_from([(-5.0, 9.0), (0.0, 1.0), (-20.0, 20.0), (0.1, 1e6)]),
    st.integers(0, 2**32),
)
def test_with_the_same_noise_a_quantile_is_googles_to_the_last_bit(leaves, std, ranks, bounds, seed):
    """Rows near each other, ties, ranks between two rows, no rows; counts that are negative, and all of them."""
    made = NoisyTree(leaves, std, seed)
    found = search(made, 1, ranks, *bounds, std)[0, :, 0]
    theirs = made.googles(ranks, *bounds)
    assert found == pytest.approx(theirs, rel=1e-12, abs=1e-9)
    if platform.machine() in ("x86_64", "AMD64"):  # elsewhere a compiler may round a product and a sum at once
        assert found.tolist() == theirs


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-1e15, 1e15) | st.floats(math.log(1e-5), math.log(1e15)).map(math.exp),
    st.floats(math.log(2.0**-52), math.log(100.0)).map(math.exp),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 3.0, 100.0]),
    st.integers(0, 2**32),
)
def test_what_is_released_stays_in_bounds_that_lie_far_from_0(start, width, mirrored, std, seed):
    """Of a width down to one step of the floats around `start`: many partitions and ranks, of few rows anywhere."""
    low, high = start, start + max(abs(start), 1e-300) * width
    assume(low < high <= 1e15)
    if mirrored:
        low, high = -high, -low
    rng = np.random.default_rng(seed)

    def children(level, nodes):
        rows = np.where(rng.random((len(nodes), 16)) < 0.3, rng.integers(0, 60, (len(nodes), 16)), 0)
        return np.rint(rows + rng.normal(0, std, rows.shape))

    found = search(children, 8, [0.0, 0.005, 0.25, 0.5, 0.9, 0.995, 1.0], low, high, std)
    assert (found >= low).all()
    assert (found <= high).all()
    assert (found[..., 1] <= found[..., 0]).all()
    assert (found[..., 0] <= found[..., 2]).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, max_size=60), st.floats(0.0, 100.0), st.integers(0, 2**32))
def test_intervals_hold_their_quantile_and_stay_in_the_bounds(values, std, seed):
    rng = np.random.default_rng(seed)
    found = noisy_quantiles(trees([values]), RANKS, -20.0, 20.0, lambda c: c + rng.normal(0, std, len(c)), std)[0]
    assert (found[:, 1] <= found[:, 0]).all()
    assert (found[:, 0] <= found[:, 2]).all()
    assert found.min() >= -20.0
    assert found.max() <= 20.0


def test_each_count_of_a_node_gets_one_draw():
    """Two ranks that meet in one node must see one noisy count of it: equal ranks give equal results."""
    rng = np.random.default_rng()
    found = noisy_quantiles(
        trees([list(range(-20, 20))] * 50), (0.5, 0.5), -20.0, 20.0, lambda c: c + rng.normal(0, 30, len(c)), 30.0
    )
    assert (found[:, 0] == found[:, 1]).all()


def test_merged_trees_count_what_the_whole_counts():
    values = np.random.default_rng(3).normal(0, 9, 500)
    rows = np.arange(500) % 3
    parts = [kernel_of(tree()).of_rows(tree(), {"v": values[i::2]}, rows[i::2], 3) for i in (0, 1)]
    codes = np.array([0, 1, 2, 0, 1, 2])
    order = np.argsort(codes, kind="stable")
    merged = kernel_of(tree()).merge(tree(), pa.concat_arrays(parts), codes, order, np.array([0, 2, 4]))
    assert merged.equals(kernel_of(tree()).of_rows(tree(), {"v": values}, rows, 3))


def test_ranks_have_names_that_a_column_may_have():
    assert [rank_label(rank) for rank in (0.0, 0.05, 0.5, 0.999, 1.0)] == ["p0", "p5", "p50", "p99_9", "p100"]
