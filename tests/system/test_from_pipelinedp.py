"""A job written for PipelineDP runs on our engine, its parameters as they are: the same figures, none of the traps."""

from __future__ import annotations

import inspect
import logging
import pickle
import re
import tempfile
from datetime import date, datetime
from pathlib import Path
from uuid import UUID

import apache_beam as beam
import numpy as np
import pipeline_dp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline_dp.aggregate_params import NormKind

from dpbeam.accounting.certify import certify_events
from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
from dpbeam.adapters.pipelinedp.engine import DPEngine, PrivateAggregate
from dpbeam.errors import UsageError
from tests.helpers.pipelinedp import dump, without_noise

ROOT = Path(__file__).parents[2]
M, NOISE, S = pipeline_dp.Metrics, pipeline_dp.NoiseKind, pipeline_dp.PartitionSelectionStrategy
EXTRACTORS = pipeline_dp.DataExtractors(
    privacy_id_extractor=lambda row: row[0],
    partition_extractor=lambda row: row[1],
    value_extractor=lambda row: row[2],
)
WIDE = {"max_partitions_contributed": 50, "max_contributions_per_partition": 50}
VALUES = {"min_value": -4.0, "max_value": 4.0}


def released(rows, params, public=None, *, epsilon=10.0, delta=1e-6, call="aggregate"):
    """All that our engine gives on Beam, in a list."""
    accountant = SharedBudgetAccountant(epsilon, delta)
    with tempfile.NamedTemporaryFile() as file:
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            engine = DPEngine(accountant, pipeline_dp.BeamBackend())
            more = () if call == "select_partitions" else (public,)
            result = getattr(engine, call)(pipeline | beam.Create(rows), params, EXTRACTORS, *more)
            result | beam.combiners.ToList() | beam.Map(dump, file.name)
            accountant.compute_budgets()
        assert certify_events(accountant.mechanisms, epsilon=epsilon, delta=delta) == accountant.certificate
        return pickle.loads(Path(file.name).read_bytes())  # noqa: S301


def ours(rows, params, public=None, **more):
    """The metrics that our engine gives, by partition key."""
    return dict(released(rows, params, public, **more))


def theirs(monkeypatch, rows, params, public=None):
    """What PipelineDP gives without noise, keeping every partition."""
    with without_noise(monkeypatch):
        accountant = pipeline_dp.NaiveBudgetAccountant(1.0, 1e-6)
        engine = pipeline_dp.DPEngine(accountant, pipeline_dp.LocalBackend())
        found = engine.aggregate(rows, params, EXTRACTORS, public)
        accountant.compute_budgets()
        return dict(found)


def code_of(page: str, holding: str) -> str:
    """The one block of code of a page that has this line."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    (block,) = (block for block in blocks if holding in block)
    return block


def run(holding: str, capsys) -> list[str]:
    """What an example of docs/from_pipelinedp.md prints."""
    exec(compile(code_of("from_pipelinedp.md", holding), "from_pipelinedp.md", "exec"), {})  # noqa: S102
    return capsys.readouterr().out.splitlines()


def test_the_docs_example_runs(capsys) -> None:
    *rows, epsilon = run("DPEngine(accountant)", capsys)
    assert sorted(row.split(",")[0] for row in rows) == ["('bar'", "('inn'", "('zoo'"]
    assert all("MetricsTuple(mean=" in row and "percentile_50=" in row for row in rows)
    assert 1.9 < float(epsilon) <= 2.0


def test_the_docs_example_of_private_collections_runs(capsys) -> None:
    *report, one, other = run("private_beam.MakePrivate(", capsys)
    assert report[0] == "DPEngine method: aggregate"
    assert " 3. Clamp each value to [1, 5]" in report
    assert sorted(row.split(",")[0] for row in (one, other)) == ["('Alien'", "('Brazil'"]


def test_the_docs_example_of_data_frames_runs(capsys) -> None:
    head, *rows = run("dataframes.QueryBuilder(", capsys)
    assert head.split() == ["day", "count", "sum", "mean"]
    assert [row.split()[1] for row in rows] == list("0123456")


CASES = {
    "counts": {"metrics": [M.COUNT, M.PRIVACY_ID_COUNT]},
    "a sum": {"metrics": [M.SUM, M.COUNT], **VALUES},
    "moments": {"metrics": [M.VARIANCE, M.MEAN, M.COUNT], **VALUES},
    "totals": {"metrics": [M.SUM, M.PRIVACY_ID_COUNT], "min_sum_per_partition": -2.0, "max_sum_per_partition": 3.0},
}
keys = st.one_of(st.text(max_size=2), st.integers(-3, 3), st.tuples(st.booleans(), st.integers(0, 1)))
rows_of_any_kind = st.lists(
    st.tuples(st.integers(0, 4), keys, st.integers(-64, 64).map(lambda n: n / 8)), min_size=1, max_size=30
)


@pytest.mark.parametrize("case", CASES)
def test_without_noise_any_job_gives_what_pipelinedp_gives(exact, monkeypatch, case) -> None:
    params = pipeline_dp.AggregateParams(noise_kind=NOISE.LAPLACE, **WIDE, **CASES[case])

    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(rows_of_any_kind)
    def check(rows) -> None:
        found, wanted = ours(rows, params), theirs(monkeypatch, rows, params)
        assert found.keys() == wanted.keys()
        for key, metrics in wanted.items():
            assert found[key]._asdict() == pytest.approx(metrics._asdict(), abs=1e-9)
            assert found[key]._fields == metrics._fields

    check()


def test_public_partitions_are_all_there_and_no_other(exact, monkeypatch) -> None:
    rows = [(user, user % 3, 1.0) for user in range(30)]
    params = pipeline_dp.AggregateParams(metrics=[M.COUNT, M.SUM], max_contributions=2, **VALUES)
    found, wanted = ours(rows, params, [0, 1, "nowhere"]), theirs(monkeypatch, rows, params, [0, 1, "nowhere"])
    assert found == wanted == {0: (10, 10), 1: (10, 10), "nowhere": (0, 0)}


def test_keys_come_back_as_the_values_they_were(exact) -> None:
    keys = [True, 1, 1.0, "1", "", b"\xff", ("a", 1), ("a", True), -(2**70), "ß", UUID(int=7), ("a", None)]
    keys += [date(2000, 1, 1), datetime(2000, 1, 1), "2000-01-01", (date(2000, 1, 1), 1)]
    params = pipeline_dp.AggregateParams(metrics=[M.COUNT], **WIDE)
    found = released([(user, key, 0.0) for user, key in enumerate(keys * 2)], params)
    assert sorted((repr(key), metrics.count) for key, metrics in found) == sorted((repr(key), 2.0) for key in keys)


def test_one_persons_rows_are_one_units_however_they_write_the_id(exact) -> None:
    params = pipeline_dp.AggregateParams(
        metrics=[M.COUNT], max_partitions_contributed=1, max_contributions_per_partition=1
    )
    same = [1, True, 1.0, np.int64(1), np.float32(1.0), np.bool_(True)]
    assert ours([(unit, "inn", 0.0) for unit in same * 50], params, ["inn"]) == {"inn": (1,)}


def test_what_pipelinedp_fails_on_works(exact) -> None:
    rows = [(user, "inn", (3.0, 4.0)) for user in range(10)]
    vectors = pipeline_dp.AggregateParams(
        metrics=[M.VECTOR_SUM],
        vector_size=2,
        vector_max_norm=10.0,
        vector_norm_kind=NormKind.L2,
        noise_kind=NOISE.GAUSSIAN,
        **WIDE,
    )
    assert list(ours(rows, vectors, ["inn"])["inn"].vector_sum) == pytest.approx([30.0, 40.0])
    l1 = pipeline_dp.AggregateParams(metrics=[M.COUNT], max_contributions=3)
    assert ours(rows, l1)["inn"].count == 10


def test_the_longest_vectors_are_one_column(exact) -> None:
    size = 65536
    rows = [(user, "inn", np.arange(size) / size) for user in range(3)]
    rows.append((3, "inn", np.full(size, np.nan)))
    vectors = pipeline_dp.AggregateParams(
        metrics=[M.VECTOR_SUM],
        vector_size=size,
        vector_max_norm=1.0,
        vector_norm_kind=NormKind.Linf,
        noise_kind=NOISE.GAUSSIAN,
        **WIDE,
    )
    found = ours(rows, vectors, ["inn"])["inn"].vector_sum
    assert np.abs(found - 3 * np.arange(size) / size).max() < 1e-6


def test_a_missing_or_broken_value_poisons_nothing(exact) -> None:
    rows = [(user, "inn", 1.0) for user in range(10)]
    rows += [
        (10, "inn", None),
        (11, "inn", float("nan")),
        (12, "inn", float("inf")),
        (None, "inn", 1.0),
        (13, None, 1.0),
        (float("nan"), "inn", 1.0),
        (float("inf"), "inn", 1.0),
        (14, float("nan"), 1.0),
        (15, np.float32("nan"), 1.0),
    ]
    params = pipeline_dp.AggregateParams(metrics=[M.SUM, M.PRIVACY_ID_COUNT], **WIDE, **VALUES)
    assert ours(rows, params) == {"inn": (10.0, 10.0)}


def test_an_extractors_error_says_nothing_of_the_row(caplog) -> None:
    caplog.set_level(logging.DEBUG)
    params = pipeline_dp.AggregateParams(metrics=[M.SUM], **WIDE, **VALUES)
    with pytest.raises(Exception, match="step ExtractColumns failed with ValueError") as failed:
        ours([(1, "inn", "canary-7731")], params)
    assert "canary-7731" not in f"{failed.value!r} {failed.value.__cause__!r} {failed.value.__context__!r}"


def test_partitions_are_selected(exact) -> None:
    params = pipeline_dp.SelectPartitionsParams(max_partitions_contributed=5)
    rows = [(user, place, 0.0) for user in range(20) for place in ("inn", ("zoo", 2))]
    assert sorted(released(rows, params, call="select_partitions"), key=repr) == ["inn", ("zoo", 2)]


def test_selection_and_noise_are_real() -> None:
    """No test's stand-ins here: a partition of one unit is not shown, but with a part of δ, and noise is."""
    rows = [(user, "inn", 1.0) for user in range(2000)] + [(0, "alone", 1.0)]
    # PipelineDP 0.2 states no noise.
    stated = {"output_noise_stddev": True} if hasattr(pipeline_dp.AggregateParams, "output_noise_stddev") else {}
    params = pipeline_dp.AggregateParams(
        metrics=[M.COUNT], max_partitions_contributed=2, max_contributions_per_partition=1, **stated
    )
    found = ours(rows, params, epsilon=1.0, delta=1e-12)
    assert list(found) == ["inn"]
    assert found["inn"].count != round(found["inn"].count)
    assert abs(found["inn"].count - 2000) < 30 * getattr(found["inn"], "count_noise_stddev", 10.0)
    selected = pipeline_dp.SelectPartitionsParams(
        max_partitions_contributed=2, partition_selection_strategy=S.GAUSSIAN_THRESHOLDING
    )
    assert released(rows, selected, epsilon=1.0, delta=1e-12, call="select_partitions") == ["inn"]


def test_a_job_that_forgets_compute_budgets_releases_nothing() -> None:
    params = pipeline_dp.AggregateParams(metrics=[M.COUNT], **WIDE)
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    pipeline | beam.Create([(1, "inn", 0.0)]) | PrivateAggregate(params, EXTRACTORS, accountant)
    with pytest.raises(Exception, match=r"call compute_budgets\(\) first"):
        pipeline.run().wait_until_finish()


def test_aggregations_share_a_budget_by_their_weights() -> None:
    accountant = SharedBudgetAccountant(1.0, 1e-6, aggregation_weights=[1, 3])
    pipeline = beam.Pipeline(runner="FnApiRunner")
    rows = pipeline | beam.Create([(1, "inn", 0.0)])
    for weight in (1, 3):
        params = pipeline_dp.AggregateParams(metrics=[M.COUNT], budget_weight=weight, **WIDE)
        rows | f"Weight{weight}" >> PrivateAggregate(params, EXTRACTORS, accountant, ["inn"])
    accountant.compute_budgets()
    light, heavy = accountant.mechanisms
    assert light.scale == pytest.approx(3 * heavy.scale)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"public": "inn"}, "public_partitions must be a list or set with at least one partition key, or None"),
        ({"accountant": pipeline_dp.NaiveBudgetAccountant(1.0, 1e-6)},
         "budget_accountant must be a dpbeam.adapters.pipelinedp.SharedBudgetAccountant(total_epsilon, total_delta), "
         "got NaiveBudgetAccountant"),
        ({"backend": pipeline_dp.LocalBackend()},
         "backend must be pipeline_dp.BeamBackend or left out, got LocalBackend"),
        ({"extractors": pipeline_dp.DataExtractors(partition_extractor=len)},
         "data_extractors.privacy_id_extractor must be given for these metrics"),
        ({"window": True},
         "the rows must be in the global window: a guarantee for each window is none for all of them"),
    ],
)  # fmt: skip
def test_what_cant_be_run_is_refused(change, message) -> None:
    params = pipeline_dp.AggregateParams(metrics=[M.COUNT], **WIDE)
    rows = beam.Pipeline(runner="FnApiRunner") | beam.Create([(1, "inn", 0.0)])
    if "window" in change:
        rows = rows | beam.WindowInto(beam.window.FixedWindows(60))

    def aggregate():
        engine = DPEngine(change.get("accountant", SharedBudgetAccountant(1.0, 1e-6)), change.get("backend"))
        return engine.aggregate(rows, params, change.get("extractors", EXTRACTORS), change.get("public"))

    with pytest.raises(UsageError) as refused:
        aggregate()
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("add_dp_noise", (None, None),
         "add_dp_noise isn't done here: it would take a sensitivity on trust; call aggregate on the rows"),
        ("calculate_private_contribution_bounds", (None, None, None, None),
         "calculate_private_contribution_bounds isn't done here: state max_partitions_contributed, or let a policy "
         "find it with l0: {auto: {max: …}}"),
    ],
)  # fmt: skip
def test_calls_of_pipelinedps_engine_that_arent_done_are_refused_by_name(call, arguments, message) -> None:
    with pytest.raises(UsageError) as refused:
        getattr(DPEngine(SharedBudgetAccountant(1.0, 1e-6)), call)(*arguments)
    assert str(refused.value) == message


def test_every_public_call_of_pipelinedps_engine_is_there() -> None:
    for name in (name for name in dir(pipeline_dp.DPEngine) if not name.startswith("_")):
        ours_has, theirs_has = (inspect.signature(getattr(kind, name)) for kind in (DPEngine, pipeline_dp.DPEngine))
        taken = [p.name for p in ours_has.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert taken == list(theirs_has.parameters) or "_" in ours_has.parameters, name
