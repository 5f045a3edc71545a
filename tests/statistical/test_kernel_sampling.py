"""Kept rows and kept partitions are uniform subsets, in one go or merged from pre-bounded batches.

Each test compares 30,000 units' kept subsets with the uniform law by chi-square and fails by chance with probability
1e-9; the same check rejects each seeded bug.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from dpbeam.engine.arrays import hashing
from dpbeam.engine.bounding import contributions, sampling
from tests.helpers import kernel_reference as reference

UNITS = 30_000
EACH = 6
KEEP = 2
ALPHA = 1e-9
SUBSETS = list(itertools.combinations(range(EACH), KEEP))


def spec_for(l0, linf):
    return reference.stage(l0=l0, linf=linf, metrics=reference.ID_METRIC)


def within_l1(batches):
    """As `bound`, with the bound `l1` in place of `l0` and `linf`."""
    spec = reference.stage(l1=KEEP, metrics=reference.ID_METRIC)
    return subsets(contributions.bound(batches, spec, secrets.token_bytes(16), (0,)))


def rows(places, *, one_partition, units=UNITS):
    """For each unit the rows with the given places in 0..5; row id = 6 · unit + place."""
    ids = (np.arange(units)[:, None] * EACH + np.array(places)).ravel()
    partitions = np.zeros(len(ids), dtype=np.int64) if one_partition else ids % EACH
    return pa.record_batch({"u": ids // EACH, "p": partitions, "id": ids})


def subsets(bounded, units=UNITS, keep=KEEP):
    """Which places each unit kept, two of them if not said otherwise."""
    ids = np.sort(bounded.values["id"]).reshape(units, keep)
    assert (ids // EACH == np.arange(units)[:, None]).all()
    return [tuple(pair) for pair in (ids % EACH).tolist()]


def is_uniform(found, keep=KEEP):
    counts = Counter(found)
    return stats.chisquare([counts[subset] for subset in itertools.combinations(range(EACH), keep)]).pvalue > ALPHA


def bound(batches, l0, linf):
    return subsets(contributions.bound(batches, spec_for(l0, linf), secrets.token_bytes(16), (0,)))


def merged(parts, l0, linf, *, keep_priorities=True):
    """Pre-bounds every batch but the last, as a split with a hot unit would be, and bounds them all together."""
    spec, salt = spec_for(l0, linf), secrets.token_bytes(16)
    cut = [contributions.prebound(batch, spec, salt, (0, i)) for i, batch in enumerate(parts[:-1])]
    assert all(small.num_rows < large.num_rows for small, large in zip(cut, parts[:-1], strict=True))
    if not keep_priorities:
        cut = [batch.select(["u", "p", "id"]) for batch in cut]
    return subsets(contributions.bound([parts[-1], *cut], spec, salt, (0,)))


@pytest.fixture
def all_hot(monkeypatch):
    monkeypatch.setattr(contributions, "_crowded_rows", lambda batch, *_: np.arange(batch.num_rows))


def by_position(groups, priorities, limit):
    starts = contributions.runs(groups)
    sizes = np.diff(starts, append=len(groups))
    return np.arange(len(groups)) - np.repeat(starts, sizes) < limit


def test_kept_rows_are_uniform():
    assert is_uniform(bound([rows(range(6), one_partition=True)], 1, KEEP))


def test_kept_rows_are_uniform_without_packed_keys(monkeypatch):
    monkeypatch.setattr(sampling, "_PACKED_BITS", 0)
    assert is_uniform(bound([rows(range(6), one_partition=True)], 1, KEEP))


def test_kept_rows_are_uniform_when_some_batches_were_pre_bounded(all_hot):
    parts = [rows([0, 1, 2], one_partition=True), rows([3, 4, 5], one_partition=True)]
    assert is_uniform(merged(parts, 1, KEEP))


@pytest.mark.parametrize("carried", [True, False], ids=["priorities travel", "priorities are drawn again"])
def test_kept_rows_are_uniform_for_each_of_the_stages_that_were_pre_bounded_together(all_hot, carried):
    """The narrow stage meets rows that only the wide one needed; drawn again, its two lowest lose to the others."""
    narrow, wide, salt = spec_for(1, KEEP), spec_for(1, 3), secrets.token_bytes(16)
    cut = contributions.prebound_together(
        rows([0, 1, 2, 3], one_partition=True), [(narrow, None), (wide, None)], salt, (0, 0)
    )
    assert cut.num_rows == 3 * UNITS
    both = [rows([4, 5], one_partition=True), cut if carried else cut.select(["u", "p", "id"])]
    assert is_uniform(subsets(contributions.bound(both, narrow, salt, (0,)))) == carried
    assert is_uniform(subsets(contributions.bound(both, wide, salt, (0,)), keep=3), keep=3) == carried


@pytest.mark.parametrize("one_partition", [True, False])
def test_rows_kept_within_l1_are_uniform(one_partition):
    found = within_l1([rows(range(6), one_partition=one_partition)])
    assert is_uniform(found)
    assert independent(found)


def test_rows_kept_within_l1_are_uniform_when_some_batches_were_pre_bounded(all_hot):
    spec, salt = reference.stage(l1=KEEP, metrics=reference.ID_METRIC), secrets.token_bytes(16)
    cut = contributions.prebound(rows([0, 1, 2, 3], one_partition=False), spec, salt, (0, 0))
    assert cut.num_rows == KEEP * UNITS
    assert is_uniform(subsets(contributions.bound([rows([4, 5], one_partition=False), cut], spec, salt, (0,))))


def test_keeping_the_first_rows_within_l1_is_noticed(monkeypatch):
    monkeypatch.setattr(sampling, "_lowest", by_position)
    assert not is_uniform(within_l1([rows(range(6), one_partition=False)]))


def test_keeping_the_first_rows_is_noticed(monkeypatch):
    monkeypatch.setattr(sampling, "_lowest", by_position)
    assert not is_uniform(bound([rows(range(6), one_partition=True)], 1, KEEP))


def test_drawing_priorities_again_at_the_merge_is_noticed(all_hot):
    parts = [rows([0, 1, 2, 3], one_partition=True), rows([4, 5], one_partition=True)]
    assert is_uniform(merged(parts, 1, KEEP))
    assert not is_uniform(merged(parts, 1, KEEP, keep_priorities=False))


def test_kept_partitions_are_uniform():
    assert is_uniform(bound([rows(range(6), one_partition=False)], KEEP, 1))


def test_kept_partitions_are_uniform_when_some_batches_were_pre_bounded(all_hot):
    parts = [rows([0, 1, 2, 3], one_partition=False), rows([4, 5], one_partition=False)]
    assert is_uniform(merged(parts, KEEP, 1))


def test_ranking_partitions_alike_for_all_units_is_noticed(monkeypatch):
    def blind(units, partitions, unit, partition, salt):
        return hashing.hash_column(partitions.keys[0], hashing.seed_for(salt, "x"))[partition]

    monkeypatch.setattr(sampling, "pair_priorities", blind)
    assert not is_uniform(bound([rows(range(6), one_partition=False)], KEEP, 1))


def test_another_salt_for_each_batch_is_noticed(all_hot):
    spec, first, second = spec_for(KEEP, 1), secrets.token_bytes(16), secrets.token_bytes(16)
    cut = contributions.prebound(rows([0, 1, 2, 3], one_partition=False), spec, first, (0, 0))
    both = [cut, rows([4, 5], one_partition=False)]
    assert not is_uniform(subsets(contributions.bound(both, spec, second, (0,))))


@pytest.mark.parametrize("one_partition", [True, False])
def test_what_one_unit_keeps_says_nothing_about_its_neighbour(one_partition):
    bounds = (1, KEEP) if one_partition else (KEEP, 1)
    assert independent(bound([rows(range(6), one_partition=one_partition)], *bounds))


def test_priorities_shared_by_neighbours_are_noticed(monkeypatch):
    def shared(batches, salt, purpose, seeds):
        half = np.random.default_rng().integers(0, 2**64, (UNITS // 2, 1, EACH), dtype=np.uint64)
        return np.repeat(half, 2, axis=1).ravel()

    monkeypatch.setattr(contributions, "_priorities", shared)
    found = bound([rows(range(6), one_partition=True)], 1, KEEP)
    assert is_uniform(found[::2])  # one of each two neighbours: the other chose as it did
    assert not independent(found)


def independent(found):
    index = {subset: i for i, subset in enumerate(SUBSETS)}
    codes = np.array([index[subset] for subset in found]).reshape(-1, 2)
    table = np.bincount(codes[:, 0] * len(SUBSETS) + codes[:, 1], minlength=len(SUBSETS) ** 2)
    return stats.chi2_contingency(table.reshape(len(SUBSETS), -1)).pvalue > ALPHA
