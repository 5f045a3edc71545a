"""`dpbeam.beam` in people's own pipelines: what comes out, and that it is paid for first."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pytest

from dpbeam.beam import PrivateAggregate, PrivateKeys, ReadRelease
from dpbeam.errors import Refused, UsageError
from dpbeam.policy.load import load_policy
from dpbeam.reporting.certify import Uncertified
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


class Visit(NamedTuple):
    person: str
    place: str
    amount: float


@dataclasses.dataclass
class VisitRecord:
    person: str
    place: str
    amount: float


FORMS = {
    "dicts": dict,
    "named tuples": lambda row: Visit(**row),
    "dataclasses": lambda row: VisitRecord(**row),
    "beam rows": lambda row: beam.Row(**row),
    "arrow batches": lambda row: pa.RecordBatch.from_pylist([row]),
    "arrow tables": lambda row: pa.Table.from_pylist([row]),
}


@pytest.fixture
def policy(workspace):
    return public_policy(workspace)


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
    SEEN.clear()
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
