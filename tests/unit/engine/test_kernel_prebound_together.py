"""What is cut at the source for several stages is what none of them would have kept."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpbeam.engine.bounding import contributions
from dpbeam.engine.bounding.contributions import PRIORITY
from tests.helpers import kernel_reference as reference

SALT = reference.SALT


def stages(l0, linf, l1):
    """Three stages of other keys and other bounds."""
    ids = {"metrics": reference.ID_METRIC}
    return (
        reference.stage(keys=("p",), l0=l0, linf=linf, **ids),
        reference.stage(keys=("q",), l0=l0 + 1, linf=1, **ids),
        reference.stage(keys=("p", "q"), key_types=("int64", "int64"), l1=l1, **ids),
    )


def batch_of(rows, seed):
    """Rows that carry their priorities, so that every way of cutting them looks at the same ones."""
    rng = np.random.default_rng(seed)
    columns = {"u": rng.integers(0, 4, rows), "p": rng.integers(0, 5, rows), "q": rng.integers(0, 5, rows)}
    priorities = rng.integers(0, 2**64, rows, dtype=np.uint64)
    return pa.record_batch(columns | {"id": np.arange(rows), PRIORITY: priorities})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(0, 2**32))
def test_every_stage_keeps_what_it_keeps_of_all_rows(monkeypatch, rows, l0, linf, l1, seed):
    batch = batch_of(rows, seed)
    public = np.random.default_rng(seed).random(rows) < 0.7
    marked = list(zip(stages(l0, linf, l1), (None, public, None), strict=True))
    half = rows // 2
    with monkeypatch.context() as patch:
        patch.setattr(contributions, "_crowded_rows", lambda part, *_: np.arange(part.num_rows))
        halves = [batch.slice(0, half), batch.slice(half)]
        cut = [
            contributions.prebound_together(part, [(spec, mark if mark is None else mark[at]) for spec, mark in marked],
                                       SALT, (0, i))
            for i, (part, at) in enumerate(zip(halves, (slice(half), slice(half, None)), strict=True))
        ]  # fmt: skip
    for spec, mark in marked:
        mine = batch if mark is None else batch.filter(pa.array(mark))
        of_cut = [part.filter(pa.array(np.isin(part["id"], mine["id"]))) for part in cut]
        wanted = reference.kept_ids(contributions.bound([mine], spec, SALT, (1,)))
        assert reference.kept_ids(contributions.bound(of_cut, spec, SALT, (1,))) == wanted


def hot_unit():
    """Unit 1 has half of 10,000 rows, in 4 values of p and 5,000 of q."""
    units = [1] * 5000 + list(range(10, 5010))
    table = reference.numbered(units, [0, 1, 2, 3] * 2500)
    (batch, *_) = reference.batches_of(table.append_column("q", pa.array(np.arange(10_000))), [])
    return batch


def test_a_hot_unit_is_cut_to_what_the_stages_may_keep():
    wide, narrow, _ = stages(2, 3, 1)
    cut = contributions.prebound_together(hot_unit(), [(wide, None), (narrow, None)], SALT, (0, 0))
    assert 6 <= sum(unit == 1 for unit in cut["u"].to_pylist()) <= 6 + 3
    assert cut.num_rows >= 5000
    assert cut.schema.names == ["u", "p", "id", "q", PRIORITY]


def test_a_stage_that_needs_all_rows_keeps_them_all_and_no_priorities_travel():
    batch = hot_unit()
    all_rows = reference.stage(metrics=reference.ID_METRIC)
    cut = contributions.prebound_together(batch, [(stages(2, 3, 1)[0], None), (all_rows, None)], SALT, (0, 0))
    assert cut.equals(batch)


@pytest.mark.parametrize("marked", [0, 7])
def test_a_row_that_is_no_stage_s_goes(marked):
    batch = hot_unit()
    mark = np.arange(batch.num_rows) < marked
    cut = contributions.prebound_together(batch, [(spec, mark) for spec in stages(2, 3, 1)[:2]], SALT, (0, 0))
    assert cut["id"].to_pylist() == list(range(marked))
