"""`dpbeam.beam` in people's own pipelines: charged first, one draw, published whole or not at all, refused where it
can't be kept."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that

import dpbeam
from dpbeam.beam import Charge, PrivateAggregate, PrivateKeys, PrivateRelease, ReadRelease
from dpbeam.errors import DataError, Refused, RunFailed, UsageError
from dpbeam.ledger.amounts import ZERO
from dpbeam.mechanisms import noise
from dpbeam.pipelines.lifecycle.recover import recover
from dpbeam.policy.load import load_policy
from dpbeam.reporting.certify import Uncertified
from dpbeam.transforms.sources.collection import CollectBlocks
from dpbeam.transforms.steps import bound, freeze
from dpbeam.transforms.steps import noise as draw
from dpbeam.transforms.wire.staging import Area

HERE = "--runner=FnApiRunner"


class Visit(NamedTuple):
    person: str
    place: str
    amount: float


@dataclasses.dataclass
class VisitRecord:
    person: str
    place: str
    amount: float


def visits(people: int = 60) -> list[dict[str, Any]]:
    return [
        {"person": f"p{i}", "place": place, "amount": float((i * 7 + j) % 11)}
        for i in range(people)
        for j, place in enumerate(("inn", "zoo", f"x{i % 3}"))
    ]


FORMS = {
    "dicts": dict,
    "named tuples": lambda row: Visit(**row),
    "dataclasses": lambda row: VisitRecord(**row),
    "beam rows": lambda row: beam.Row(**row),
    "arrow batches": lambda row: pa.RecordBatch.from_pylist([row]),
    "arrow tables": lambda row: pa.Table.from_pylist([row]),
}


def pipeline(*flags: str) -> beam.Pipeline:
    return beam.Pipeline(options=PipelineOptions([HERE, *flags]))


@pytest.fixture
def policy(workspace):
    """Public places, so that every value is released; the budget is there."""
    (only,) = workspace.policy["stages"]
    only["partitions"] = {"public": {"values": ["inn", "zoo", "x0", "x1", "x2"]}}
    workspace.create_budget()
    return lambda: load_policy(workspace.policy_path)


def charge_of(workspace, **how) -> Charge:
    return Charge(ledger=workspace.ledger, output=workspace.output, **how)


def release_of(workspace, asked, **how) -> PrivateRelease:
    return PrivateRelease(asked, ledger=workspace.ledger, output=workspace.output, **how)


def published(workspace) -> list[dict[str, Any]]:
    return pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()


SEEN: dict[str, list[Any]] = defaultdict(list)


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


def see(row: Any, name: str) -> Any:
    SEEN[name].append(row)
    return row


@pytest.fixture
def draws(monkeypatch) -> list[float]:
    """Gives each draw noise that no other has."""
    made: list[float] = []

    def numbered(self, counts):
        made.extend(len(made) + 1.0 + i for i in range(len(counts)))
        return counts.astype(float) + made[len(made) - len(counts) :]

    monkeypatch.setattr(noise.AdditiveNoise, "to_counts", numbered)
    return made


# What comes out


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_every_form_give_what_dpbeam_run_gives(workspace, policy, exact, form) -> None:
    rows = visits()
    workspace.csv(*(",".join(map(str, row.values())) for row in rows))
    assert workspace.run("--release=from-files") == 0
    from_files = published(workspace)
    workspace.release_folder().rename(workspace.folder / "moved")
    with release_of(workspace, policy(), accept_source=True) as release, pipeline() as p:
        _ = p | beam.Create(rows) | beam.Map(FORMS[form]) | release
    assert published(workspace) == from_files
    assert release.published.folder == workspace.release_folder()
    assert workspace.left_behind() == []


def test_a_row_that_breaks_a_rule_is_dropped_as_of_a_file(workspace, policy, exact) -> None:
    bad = [{"person": "q", "place": "inn", "amount": float("nan")}, {"person": "q", "place": "inn"}]
    with release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create([*visits(), *bad, {"person": "q", "place": 7, "amount": 1.0}]) | release
    assert {row["place"]: row["count"] for row in published(workspace)}["inn"] == 60


def test_the_rows_that_go_on_are_those_that_are_published(workspace, policy) -> None:
    with charge_of(workspace) as charge, pipeline() as p:
        released = p | beam.Create(visits()) | PrivateAggregate(policy(), charge=charge)
        _ = released | beam.Map(see, "a")
    assert sorted(SEEN["a"], key=lambda row: row["place"]) == published(workspace)
    assert len(workspace.published_charges()) == 1
    assert workspace.left_behind() == []


def test_a_release_is_read_back_by_another_pipeline(workspace, policy) -> None:
    with release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create(visits()) | release
    with pipeline("--direct_runner_bundle_repeat=2") as p:
        _ = p | ReadRelease(release.published.folder) | beam.Map(see, "back")
    assert all(row in published(workspace) for row in SEEN["back"])
    assert {row["place"] for row in SEEN["back"]} == {"inn", "zoo", "x0", "x1", "x2"}
    with pytest.raises(UsageError, match="there is no stage other: the release has by_place"):
        ReadRelease(release.published.folder, "other")


def test_a_changed_file_is_not_read_back(workspace, policy) -> None:
    with release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create(visits()) | release
    source = ReadRelease(release.published.folder)
    (workspace.release_folder() / "by_place.parquet").write_bytes(b"another")
    with pytest.raises(Exception, match="isn't the file that the release's manifest lists"), pipeline() as p:
        _ = p | source
    with pytest.raises(Uncertified):
        ReadRelease(workspace.release_folder())


@pytest.mark.parametrize("keys", [["place"], ["place", "day"]])
def test_kept_keys_come_out(workspace, exact, keys) -> None:
    (only,) = workspace.policy["stages"]
    workspace.policy["columns"]["day"] = {"type": "date"}
    only["metrics"] = []
    only["group_by"] = keys
    del only["noise"]
    workspace.create_budget()
    rows = [dict(row, day="2026-11-01") for row in visits()]
    with charge_of(workspace) as charge, pipeline() as p:
        released = p | beam.Create(rows) | PrivateKeys(load_policy(workspace.policy_path), charge=charge)
        _ = released | beam.Map(see, "keys")
    places = [key if len(keys) == 1 else key[0] for key in SEEN["keys"]]
    assert sorted(places) == ["inn", "x0", "x1", "x2", "zoo"]


@pytest.mark.parametrize("repeat", [1, 3])
def test_a_unit_with_very_many_rows_counts_within_its_bounds(workspace, policy, exact, repeat) -> None:
    (only,) = workspace.policy["stages"]
    only["bounds"] = {"l0": 2, "linf": 2}
    bot = [
        {"person": "bot", "place": place, "amount": 1.0} for place in ("inn", "zoo", "x0", "x1") for _ in range(9000)
    ]
    blocks = [pa.RecordBatch.from_pylist(bot[i::3]) for i in range(3)]
    with release_of(workspace, policy()) as release, pipeline(f"--direct_runner_bundle_repeat={repeat}") as p:
        _ = p | beam.Create(blocks) | release
    assert sorted(row["count"] for row in published(workspace)) == [0, 0, 0, 2, 2]
    assert sorted(row["privacy_id_count"] for row in published(workspace)) == [0, 0, 0, 1, 1]


# The charge


def test_the_ledger_is_charged_before_the_first_row_is_read(workspace, policy) -> None:
    url = workspace.ledger

    def states(_: Any) -> list[dict[str, Any]]:
        from dpbeam.ledger import open_ledger

        see([charge.state for charge in open_ledger(url).charges()], "states")
        return visits()

    with release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create([None]) | beam.FlatMap(states) | release
        see([charge.state for charge in workspace.charges("RESERVED", "STARTED")], "applied")
    assert SEEN == {"applied": [["STARTED"]], "states": [["STARTED"]]}
    assert [entry.kind for entry in workspace.open_ledger().history("visits")][-3:] == [
        "reserved",
        "started",
        "published",
    ]


def test_a_budget_that_does_not_suffice_refuses_before_the_pipeline_runs(workspace, policy) -> None:
    workspace.policy["run"] = {"epsilon": 11.0, "delta": 1e-6}
    del workspace.policy["budget"]
    with pytest.raises(Refused), release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create(visits()) | beam.Map(see, "read") | release
    assert SEEN == {}
    assert workspace.uncharged()


def test_the_same_release_again_comes_back_at_no_cost(workspace, policy) -> None:
    for _ in range(2):
        with charge_of(workspace) as charge, pipeline() as p:
            rows = p | beam.Create(visits()) | PrivateAggregate(policy(), charge=charge)
            _ = rows | beam.Map(see, "rows")
    assert charge.published.cached
    assert sorted(SEEN["rows"][:5], key=str) == sorted(SEEN["rows"][5:], key=str)
    assert len(workspace.published_charges()) == len(workspace.open_ledger().charges()) == 1


def test_a_charge_pays_once(workspace, policy) -> None:
    charge, asked = charge_of(workspace), policy()
    rows = pipeline() | beam.Create(visits())
    _ = rows | "One" >> PrivateAggregate(asked, charge=charge)
    with pytest.raises(UsageError, match="this charge pays for one transform, applied once"):
        _ = rows | "Other" >> PrivateAggregate(asked, charge=charge)
    assert len(workspace.open_ledger().charges()) == 1
    assert workspace.manifests() == []


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
        for part in range(self._parts):
            path = self._area.shard_path(self._stage, part, self._parts)
            rows = pq.read_table(path).combine_chunks()
            for batch in rows.to_batches():
                other = batch.set_column(1, "count", pa.array([-1.0] * batch.num_rows))
                self._area.write_shard(self._stage, part, self._parts, other)
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


def test_a_shard_that_is_executed_again_in_another_order_is_the_same(workspace, policy, monkeypatch) -> None:
    (only,) = workspace.policy["stages"]
    only["bounds"] = {"l0": 1, "linf": 1}
    original, again = bound._BoundShard.work, []

    def once_more(self, element):
        shard, batches = element
        batches = list(batches)
        for _ in original(self, (shard, batches[::-1])):
            again.append(len(batches))
        yield from original(self, (shard, batches))

    monkeypatch.setattr(bound._BoundShard, "work", once_more)
    with release_of(workspace, policy()) as release, pipeline() as p:
        _ = p | beam.Create([pa.RecordBatch.from_pylist(visits()[i::4]) for i in range(4)]) | release
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


# What is refused, before anything is charged


def refused(workspace, asked, match: str, *, rows=None, p=None, make=None) -> None:
    p = p or pipeline()
    collection = p | beam.Create(visits()) if rows is None else rows(p)
    with pytest.raises(UsageError, match=match):
        _ = collection | (make or (lambda: release_of(workspace, asked)))()
    assert workspace.uncharged()


def test_rows_in_windows_are_refused(workspace, policy) -> None:
    def windowed(p):
        return p | beam.Create(visits()) | beam.WindowInto(beam.window.FixedWindows(60))

    refused(workspace, policy(), "must end, and be in the global window", rows=windowed)


def test_rows_as_units_are_refused(workspace, policy) -> None:
    workspace.policy["privacy_unit"] = "row"
    (only,) = workspace.policy["stages"]
    only["bounds"] = {"l0": 1, "linf": 1}
    refused(workspace, policy(), "the privacy unit can't be the row within a pipeline of your own")


@pytest.mark.parametrize("strategy", ["mad", "dp_sips", "mad2r"])
def test_selections_in_rounds_are_refused(workspace, strategy) -> None:
    (only,) = workspace.policy["stages"]
    only["partitions"] = {"private": {"strategy": strategy}}
    workspace.create_budget()
    refused(workspace, load_policy(workspace.policy_path), "go over the rows several times")


def test_bounds_that_the_run_finds_are_refused(workspace, policy) -> None:
    (only,) = workspace.policy["stages"]
    only["bounds"] = {"l0": {"auto": {"max": 10}}, "linf": 2}
    refused(workspace, policy(), "go over the rows several times")


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--runner=DirectRunner"], "the pipeline's runner is DirectRunner"),
        ([HERE, "--direct_running_mode=multi_processing"], "multi_processing is refused"),
        ([HERE, "--direct_running_mode=multi_threading"], "multi_threading is refused"),
        ([HERE, "--streaming"], "a release is of rows that end"),
    ],
)
def test_runners_that_lose_rows_or_open_the_machine_are_refused(workspace, policy, flags, match) -> None:
    refused(workspace, policy(), match, p=beam.Pipeline(options=PipelineOptions(flags)))


def test_rows_of_a_frame_are_refused_where_the_pipeline_has_its_own(workspace, policy) -> None:
    frame = pa.Table.from_pylist(visits())
    asked = dpbeam.query("visits", source=frame, unit="person", epsilon=1.0, delta=1e-6)
    refused(workspace, asked.group_by("place").private().bounds(l0=3, linf=1).count(), "a frame in memory")


def test_a_query_that_is_built_in_python_is_taken(workspace, policy) -> None:
    columns = {"person": "string", "place": "string"}
    asked = dpbeam.query("visits", source="v.csv", unit="person", columns=columns, epsilon=2.0, delta=1e-6)
    asked = asked.group_by("place").public(["inn", "zoo"]).bounds(l0=3, linf=1).count()
    with release_of(workspace, asked, source="bigquery:project.visits") as release, pipeline() as p:
        _ = p | beam.Create(visits()) | release
    assert release.published.table().column("place").to_pylist() == ["inn", "zoo"]
    assert workspace.open_ledger().budget("visits").sources == ("bigquery:project.visits",)


def test_transforms_are_for_queries_of_their_kind(workspace, policy) -> None:
    charge = charge_of(workspace)
    refused(workspace, None, "has metrics: use PrivateAggregate", make=lambda: PrivateKeys(policy(), charge=charge))
    workspace.policy["stages"] *= 2
    workspace.policy["stages"][1] = dict(workspace.policy["stages"][0], name="other")
    two = policy()
    refused(workspace, None, "must have one stage here, got 2", make=lambda: PrivateAggregate(two, charge=charge))


def test_a_file_system_without_hard_links_is_refused(workspace, policy, monkeypatch) -> None:
    from dpbeam.beam import charge

    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(charge.os, "link", no_links)
    refused(workspace, policy(), "has no hard links")
    assert not list(workspace.output.rglob("*.*"))


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
