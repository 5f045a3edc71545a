"""Whatever a runner repeats and whatever fails, people's own pipelines see, and publish, one draw or none."""

from __future__ import annotations

import secrets
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that

from dpbeam.beam import PrivateAggregate
from dpbeam.errors import DataError, Refused, RunFailed
from dpbeam.ledger.amounts import ZERO
from dpbeam.mechanisms import noise
from dpbeam.pipelines.lifecycle.recover import recover
from dpbeam.transforms.sources.collection import CollectBlocks
from dpbeam.transforms.steps import bound, freeze
from dpbeam.transforms.steps import noise as draw
from dpbeam.transforms.wire.staging import Area
from tests.helpers.beam_pipelines import (
    SEEN,
    charge_of,
    pipeline,
    public_policy,
    published,
    release_of,
    see,
    visits,
)


@pytest.fixture
def policy(workspace):
    return public_policy(workspace)


@pytest.fixture
def draws(monkeypatch) -> list[float]:
    """Gives each draw noise that no other has."""
    made: list[float] = []

    def numbered(self, counts):
        made.extend(len(made) + 1.0 + i for i in range(len(counts)))
        return counts.astype(float) + made[len(made) - len(counts) :]

    monkeypatch.setattr(noise.AdditiveNoise, "to_counts", numbered)
    return made


# One draw


@pytest.mark.parametrize("metrics", [["count", "privacy_id_count"]])
def test_all_consumers_see_one_draw_however_often_bundles_are_repeated(workspace, policy, draws, metrics) -> None:
    (only,) = workspace.policy["stages"]
    only["metrics"] = metrics
    with charge_of(workspace) as charge, pipeline("--direct_runner_bundle_repeat=3") as p:
        released = p | beam.Create(visits()) | PrivateAggregate(policy(), charge=charge)
        _ = released | "A" >> beam.Map(see, "a")
        _ = released | "B" >> beam.Reshuffle() | beam.Map(see, "b")
    assert len(draws) >= 3 * 5 * 2  # the bundles really were repeated
    shown = published(workspace)
    assert len(SEEN["a"]) >= len(shown)
    assert all(row in shown for name in ("a", "b") for row in SEEN[name])


def test_a_bundle_that_fails_after_the_noise_gives_one_draw(workspace, policy, draws, monkeypatch) -> None:
    original, failures = draw._AddNoise.work, []

    def fails_once(self, element):
        yield from original(self, element)
        if not failures:
            failures.append(element)
            raise OSError("the worker went away")

    monkeypatch.setattr(draw._AddNoise, "work", fails_once)
    with charge_of(workspace) as charge, beam.Pipeline(runner="BundleBasedDirectRunner") as p:
        released = p | beam.Create(visits()) | PrivateAggregate(policy(), charge=charge)
        _ = released | "A" >> beam.Map(see, "a")
        _ = released | "B" >> beam.Map(see, "b")
    assert len(failures) == 1
    shown = published(workspace)
    assert sorted(SEEN["a"], key=lambda row: row["place"]) == shown
    assert sorted(SEEN["b"], key=lambda row: row["place"]) == shown


def test_a_draw_that_comes_after_it_was_frozen_changes_nothing(workspace, policy, draws, monkeypatch) -> None:
    """As on runners whose shuffles are no barrier: what was before them is executed again after them."""
    original = freeze._Freeze.work

    def drawn_again(self, element):
        yield from original(self, element)
        for part in range(self._result_shards):
            path = self._area.shard_path(self._stage, part, self._result_shards)
            rows = pq.read_table(path).combine_chunks()
            for batch in rows.to_batches():
                other = batch.set_column(1, "count", pa.array([-1.0] * batch.num_rows))
                self._area.write_shard(self._stage, part, self._result_shards, other)
        yield from original(self, element)

    monkeypatch.setattr(freeze._Freeze, "work", drawn_again)
    with charge_of(workspace) as charge, pipeline() as p:
        released = p | beam.Create(visits()) | PrivateAggregate(policy(), charge=charge)
        _ = released | beam.Map(see, "a")
    shown = published(workspace)
    assert len(SEEN["a"]) == 2 * len(shown)
    assert all(row in shown for row in SEEN["a"])
    assert -1.0 not in {row["count"] for row in shown}


def test_a_shard_that_is_executed_again_with_other_rows_fails_the_run(workspace, policy, monkeypatch) -> None:
    original = bound._BoundShard.work

    def again_with_fewer(self, element):
        shard, batches = element
        batches = list(batches)
        yield from original(self, (shard, batches))
        yield from original(self, (shard, batches[:1]))

    monkeypatch.setattr(bound._BoundShard, "work", again_with_fewer)
    with (
        pytest.raises(RunFailed, match="a step that the runner executed again was given other rows than before"),
        release_of(workspace, policy()) as release,
        pipeline() as p,
    ):
        _ = p | beam.Create(visits()) | release
    assert workspace.manifests() == []


def test_a_shard_whose_batches_are_read_again_is_the_same(workspace, policy, monkeypatch) -> None:
    """Then they have other places, so other tags, and arrive in another order; and rows are drawn by their order."""
    (only,) = workspace.policy["stages"]
    only["bounds"] = {"l0": 1, "linf": 1}
    original, again = bound._BoundShard.work, []

    def once_more(self, element):
        shard, batches = element
        batches = list(batches)
        yield from original(self, (shard, batches))
        other = [batch.replace_schema_metadata({b"dpbeam.tag": secrets.token_bytes(8)}) for batch in batches]
        again.extend(len(other) for _ in original(self, (shard, other)))

    monkeypatch.setattr(bound._BoundShard, "work", once_more)
    rows = [dict(row, amount=float(i)) for i in range(10) for row in visits()]
    with release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create([pa.RecordBatch.from_pylist(rows[i::7]) for i in range(7)]) | release
    assert max(again) > 2
    assert release.published.folder.exists()


# What fails


def fails(row: Any) -> Any:
    raise KeyError("the user's own step")


def test_a_users_step_that_fails_publishes_nothing_and_stays_charged(workspace, policy) -> None:
    charge = charge_of(workspace)
    with pytest.raises(Exception, match="the user's own step"), charge, pipeline() as p:
        _ = (
            p
            | beam.Create(visits())
            | PrivateAggregate(policy(), charge=charge)
            | beam.Map(see, "seen")
            | beam.Map(fails)
        )
    assert SEEN["seen"]
    assert workspace.manifests() == workspace.left_behind() == []
    assert workspace.open_ledger().balance("visits").spent != ZERO
    # Its draw was seen: under its charge there is no other.
    with pytest.raises(Refused, match="failed in all its 1 attempts"), pipeline() as p:
        _ = p | beam.Create(visits()) | PrivateAggregate(policy(), charge=charge_of(workspace))
    recover(workspace.open_ledger())
    assert [charge.state for charge in workspace.open_ledger().charges()] == ["SPENT_UNPUBLISHED"]
    with charge_of(workspace, refresh=True) as charge, pipeline() as p:
        _ = p | beam.Create(visits()) | PrivateAggregate(policy(), charge=charge)
    assert len(workspace.published_charges()) == 1


def test_a_sink_that_failed_is_tried_again_under_its_charge(workspace, policy) -> None:
    with pytest.raises(Exception, match="own step"), release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create(visits()) | beam.Map(fails) | release
    spent = workspace.open_ledger().balance("visits").spent
    assert workspace.left_behind() == []
    with release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create(visits()) | release
    assert workspace.open_ledger().balance("visits").spent == spent != ZERO
    assert [charge.attempt for charge in workspace.published_charges()] == [2]


def test_a_rule_that_fails_the_run_says_so_and_what_stays_spent(workspace, policy) -> None:
    workspace.policy["columns"]["amount"]["on_nan"] = "fail"
    with pytest.raises(DataError) as failed, release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create([*visits(), {"person": "q", "place": "inn", "amount": float("nan")}]) | release
    assert failed.value.lines[0].startswith("column amount breaks on_nan: fail.")
    assert "stays spent" in failed.value.lines[1]
    assert workspace.manifests() == workspace.left_behind() == []
    assert workspace.open_ledger().history("visits")[-1].kind == "attempt_failed"


def test_a_pipeline_that_was_never_run_publishes_nothing(workspace, policy) -> None:
    release = release_of(workspace, policy())
    _ = pipeline() | beam.Create(visits()) | release
    with pytest.raises(RunFailed, match="were not confirmed"):
        release.finish()
    assert workspace.manifests() == workspace.left_behind() == []


def test_finish_waits_for_the_result_that_it_is_given(workspace, policy) -> None:
    release = release_of(workspace, policy())
    p = pipeline()
    _ = p | beam.Create(visits()) | release
    done = release.finish(p.run())
    assert done == release.finish() == release.published
    assert done.folder == workspace.release_folder()
    assert done.table().to_pylist() == published(workspace)


def test_a_lost_message_is_found(workspace, policy, monkeypatch) -> None:
    original = bound._BoundShard.work

    def loses(self, element):
        shard, batches = element
        return original(self, (shard, list(batches)[1:]))

    monkeypatch.setattr(bound._BoundShard, "work", loses)
    with (
        pytest.raises(RunFailed, match=r"control totals of shuffle by_place\.users don't agree"),
        charge_of(workspace) as charge,
        pipeline() as p,
    ):
        _ = p | beam.Create(visits()) | PrivateAggregate(policy(), charge=charge) | beam.Map(see, "seen")
    assert SEEN == {}
    assert workspace.manifests() == []


def test_a_late_worker_of_a_pipeline_that_was_given_up_writes_nothing(workspace, policy) -> None:
    release = release_of(workspace, policy())
    p = pipeline()
    _ = p | beam.Create(visits()) | release
    release.charge.settle(RuntimeError("given up"))
    with pytest.raises(Exception, match="the staging folder of this attempt is gone"):
        p.run().wait_until_finish()
    assert workspace.left_behind() == []


def test_rows_that_are_no_rows_fail_the_run_and_show_nothing(workspace, policy) -> None:
    release = release_of(workspace, policy())
    with pytest.raises(RunFailed, match=r"rows must be dicts, .* got int") as failed, release, pipeline() as p:
        _ = p | beam.Create([4711]) | release
    assert "4711" not in str(failed.value)


def test_blocks_of_a_collection_have_places_that_say_nothing_of_their_rows(workspace, policy) -> None:
    from dpbeam.policy.compile import query
    from dpbeam.transforms.steps.read import place

    def differ(blocks) -> None:
        senders = {place(block)[0] for block in blocks}
        assert len(senders) == 2

    same = pa.RecordBatch.from_pylist(visits())
    with pipeline() as p:
        blocks = p | beam.Create([same, same]) | CollectBlocks(query(policy()).source)
        assert_that(blocks, differ)


def test_a_frozen_stage_is_what_is_read_ever_after(tmp_path) -> None:
    area = Area(path=str(tmp_path / ".staging" / "a"), attempt="a")
    area.create()
    for value in (1.0, 2.0):
        area.write_shard("s", 0, 1, pa.record_batch({"count": [value]}))
        assert area.freeze("s", 1).to_pydict() == {"count": [1.0]}
    assert area.read_stage("s", 1).to_pydict() == {"count": [1.0]}
    area.seal("x", b"one")
    area.seal("x", b"one")
    with pytest.raises(RunFailed, match="was given other rows than before"):
        area.seal("x", b"two")
