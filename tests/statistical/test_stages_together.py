"""Of two stages of a job, what a unit keeps in one says nothing about the other, whoever else is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from dpbeam.engine.bounding import contributions
from dpbeam.engine.stage import StageSpec
from dpbeam.queries.bounds import Bounds
from tests.helpers import kernel_reference as reference

UNITS = 20_000
FAILURE = 1e-10
"""The probability that a right sampler fails one of these tests, on either side."""


def alike(*, crowded: bool, ahead: bool) -> int:
    """How many of `UNITS` units with two rows keep the same one in two stages, with one row more (or not) before all
    others that only the first stage looks at."""
    salt = np.random.default_rng().bytes(16)
    first, second = (replace(reference.stage(l0=1, linf=1, metrics=reference.ID_METRIC), name=name) for name in "ab")
    units = np.concatenate([np.full(int(ahead), UNITS), np.repeat(np.arange(UNITS), 2)])
    ids = np.arange(len(units)) - int(ahead)
    batch = pa.record_batch({"u": units, "p": np.zeros(len(units), dtype=np.int64), "id": ids})
    others = pa.array(ids >= 0)
    if crowded:
        cut = contributions.prebound_together(batch, [(first, None), (second, others.to_numpy(False))], salt, (0, 0))
        mine = {first.name: cut, second.name: cut.filter(pa.array(cut["id"].to_numpy() >= 0))}
    else:
        mine = {first.name: batch, second.name: batch.filter(others)}
    kept = [kept_of_each(mine[spec.name], spec, salt) for spec in (first, second)]
    return int((kept[0] == kept[1]).sum())


def kept_of_each(batch: pa.RecordBatch, spec: StageSpec, salt: bytes) -> np.ndarray:
    ids = np.array(sorted(reference.kept_ids(contributions.bound([batch], spec, salt, (1,)))))
    found = ids[ids >= 0]
    assert len(found) == UNITS
    return found % 2


def independent(count: int) -> bool:
    return bool(stats.binomtest(count, UNITS, 0.5).pvalue > FAILURE)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("crowded", [False, True])
def test_two_stages_choose_independently_whoever_is_there(monkeypatch, crowded, ahead) -> None:
    if crowded:
        monkeypatch.setattr(contributions, "_crowded_rows", lambda rows, *_: np.arange(rows.num_rows))
    assert independent(alike(crowded=crowded, ahead=ahead))


@pytest.mark.parametrize("beside", [False, True])
def test_who_else_is_cut_in_a_batch_doesn_t_change_what_two_stages_choose_of_a_unit(beside) -> None:
    """A unit's two rows, of which each stage keeps one, all stay where the stages need different ones; its others stay
    for a third stage. Beside it there are units whose rows can't all stay, or nobody."""
    rng = np.random.default_rng()
    first, second, third = (
        replace(reference.stage(keys=("p",), l0=2, linf=1, metrics=reference.ID_METRIC), name=name) for name in "abc"
    )
    third = replace(third, bounds=Bounds(l0=1), metrics=(), noise={})
    ids = np.arange(102 + 200 * beside)
    batch = pa.record_batch({"u": ids // 102, "p": (ids >= 100).astype(np.int64), "id": ids})
    all_of_first = batch["p"].to_numpy() == 0
    tries, same = 1_000, 0
    for _ in range(tries):
        salt = rng.bytes(16)
        stages = [(first, None), (second, None), (third, all_of_first)]
        cut = contributions.prebound_together(batch, stages, salt, (0, 0))
        kept = [reference.kept_ids(contributions.bound([cut], spec, salt, (1,))) for spec in (first, second)]
        same += len({100, 101} & set(kept[0]) & set(kept[1]))
    assert stats.binomtest(same, tries, 0.5).pvalue > FAILURE


@pytest.mark.parametrize("ahead", [False, True])
def test_one_stream_for_both_is_noticed(monkeypatch, ahead) -> None:
    monkeypatch.setattr(StageSpec, "stream", property(lambda _: "shared"))
    assert not independent(alike(crowded=False, ahead=ahead))
