"""Jobs written with PipelineDP's private collections run on our engine after a change of two lines."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pandas
import pipeline_dp
import pytest
from apache_beam.runners.portability import fn_api_runner
from pipeline_dp import private_beam as theirs

from dpbeam.accounting.certify import certify_events
from dpbeam.adapters.pipelinedp import ExplainComputationReport, SharedBudgetAccountant, private_beam
from dpbeam.adapters.pipelinedp.private_beam import MakePrivate, PrivatePCollection
from dpbeam.errors import UsageError
from tests.helpers.pipelinedp import dump, read_back, without_noise

NOISE = pipeline_dp.NoiseKind
BOUNDS = {"max_partitions_contributed": 3, "max_contributions_per_partition": 2}
VALUES = {"min_value": 0.0, "max_value": 8.0}
ROWS = [(user, ("inn", "zoo", 7)[user % 3], float(user % 5)) for user in range(60)]


@dataclass
class MovieView:
    user_id: int
    movie_id: int
    rating: int


class ParseViews(beam.DoFn):
    """Lines "movie:" and "user,rating,date" into views, as the films come in the file."""

    def __init__(self) -> None:
        self._movie = -1

    def process(self, line):
        if line.endswith(":"):
            self._movie = int(line[:-1])
            return
        user, rating, _ = line.split(",")
        yield MovieView(int(user), self._movie, int(rating))


def results_in(folder: Path) -> dict:
    """(key, figure) by key, of all text files that a job wrote."""
    lines = [line for path in folder.glob("result*") for line in path.read_text().splitlines()]
    return dict(eval(line, {"__builtins__": {}}) for line in lines)  # noqa: S307


def test_the_restaurant_example_runs(tmp_path) -> None:
    rows = ["VisitorId,Time entered,Time spent (minutes),Money spent (euros),Day"]
    rows += [f"{user},9:{user % 60:02}AM,{user % 40},{10 + user % 20},{1 + user % 7}" for user in range(7000)]
    (tmp_path / "visits.csv").write_text("\n".join(rows))

    with beam.Pipeline(runner=fn_api_runner.FnApiRunner()) as pipeline:
        accountant = SharedBudgetAccountant(total_epsilon=1, total_delta=1e-6)
        frame = pandas.read_csv(tmp_path / "visits.csv")
        frame = frame.rename(columns={"VisitorId": "user_id", "Money spent (euros)": "spent_money", "Day": "day"})
        visits = pipeline | beam.Create([row for _, row in frame.iterrows()])
        private = visits | private_beam.MakePrivate(
            budget_accountant=accountant, privacy_id_extractor=lambda row: row.user_id
        )
        result = private | private_beam.Sum(
            pipeline_dp.SumParams(
                noise_kind=NOISE.GAUSSIAN,
                max_partitions_contributed=7,
                max_contributions_per_partition=2,
                min_value=1,
                max_value=100,
                budget_weight=1,
                partition_extractor=lambda row: row.day,
                value_extractor=lambda row: row.spent_money,
            )
        )
        accountant.compute_budgets()
        result | beam.io.WriteToText(str(tmp_path / "result"))

    assert certify_events(accountant.mechanisms, epsilon=1.0, delta=1e-6) == accountant.certificate
    found = results_in(tmp_path)
    true = frame.groupby("day").spent_money.sum()
    assert sorted(found) == [1, 2, 3, 4, 5, 6, 7]
    noise = accountant.mechanisms[1].sigma
    assert all(abs(found[day] - true[day]) < 7 * noise for day in found)  # fails 1 in 10^11


def test_the_movie_example_runs_and_explains_what_it_did(tmp_path) -> None:
    lines = [
        line
        for movie in (3, 8)
        for line in [f"{movie}:", *(f"{user},{1 + user % 5},2005-09-06" for user in range(4000))]
    ]
    lines += ["9:", "17,5,2005-09-06"]
    (tmp_path / "views.txt").write_text("\n".join(lines))

    with beam.Pipeline(runner=fn_api_runner.FnApiRunner()) as pipeline:
        accountant = SharedBudgetAccountant(total_epsilon=1, total_delta=1e-6)
        views = pipeline | beam.io.ReadFromText(str(tmp_path / "views.txt")) | beam.ParDo(ParseViews())
        private = views | "Create private collection" >> MakePrivate(
            budget_accountant=accountant, privacy_id_extractor=lambda view: view.user_id
        )
        report = ExplainComputationReport()
        params = pipeline_dp.SumParams(
            max_partitions_contributed=2,
            max_contributions_per_partition=1,
            min_value=1,
            max_value=5,
            partition_extractor=lambda view: view.movie_id,
            value_extractor=lambda view: view.rating,
            **({"pre_threshold": 5} if hasattr(pipeline_dp.SumParams, "pre_threshold") else {}),
        )
        result = private | "Private Sum" >> private_beam.Sum(params, out_explain_computaton_report=report)
        accountant.compute_budgets()
        text = report.text()
        result | beam.io.WriteToText(str(tmp_path / "result"))

    found = results_in(tmp_path)
    assert sorted(found) == [3, 8]
    assert all(abs(total - 12_000) < 30 * accountant.mechanisms[1].scale for total in found.values())  # 1 in 10^12
    assert "randomly select at most 2 partitions, and in each at most 1 row\n" in text
    assert "Clamp each value to [1, 5]" in text
    assert f"Add Laplace noise of scale {accountant.mechanisms[1].scale:.6g} " in text


def of_every_kind(module, rows, accountant, path):
    """A job with each transform; `module` is PipelineDP's private_beam or ours."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        private = pipeline | beam.Create(rows) | module.MakePrivate(accountant, lambda row: row[0])
        common = {"partition_extractor": lambda row: row[1], **BOUNDS}
        valued = common | VALUES | {"value_extractor": lambda row: row[2]}
        ids = {name: value for name, value in common.items() if name != "max_contributions_per_partition"}
        laplace = {"noise_kind": NOISE.LAPLACE}
        doubled = private | module.Map(lambda row: (row[1], row[2])) | module.FlatMap(lambda pair: [pair, pair])
        of_pairs = {"partition_extractor": lambda pair: pair[0], **BOUNDS, **laplace}
        found = {
            "count": private | module.Count(pipeline_dp.CountParams(**common, **laplace)),
            "ids": private | module.PrivacyIdCount(pipeline_dp.PrivacyIdCountParams(**ids, **laplace)),
            "sum": private | module.Sum(pipeline_dp.SumParams(**valued)),
            "mean": private | module.Mean(pipeline_dp.MeanParams(**valued)),
            "variance": private | module.Variance(pipeline_dp.VarianceParams(**valued)),
            "public": private | module.Count(
                pipeline_dp.CountParams(**common, **laplace), public_partitions=["inn", "nowhere"]
            ),
            "doubled": doubled | module.Count(pipeline_dp.CountParams(**of_pairs)),
            "keys": private | module.SelectPartitions(
                pipeline_dp.SelectPartitionsParams(max_partitions_contributed=3), lambda row: row[1], label="Select"
            ) | beam.Map(lambda key: (key, 1)),
        }  # fmt: skip
        for name, results in found.items():
            results | f"List {name}" >> beam.combiners.ToList() | f"Dump {name}" >> beam.Map(dump, f"{path}.{name}")
        accountant.compute_budgets()
    return {name: dict(read_back(f"{path}.{name}")) for name in found}


def test_without_noise_every_transform_gives_what_pipelinedps_gives(exact, monkeypatch, tmp_path) -> None:
    accountant = SharedBudgetAccountant(10.0, 1e-6)
    found = of_every_kind(private_beam, ROWS, accountant, tmp_path / "ours")
    assert certify_events(accountant.mechanisms, epsilon=10.0, delta=1e-6) == accountant.certificate
    with without_noise(monkeypatch):
        wanted = of_every_kind(theirs, ROWS, pipeline_dp.NaiveBudgetAccountant(1.0, 1e-6), tmp_path / "theirs")
    assert found.keys() == wanted.keys()
    for name, figures in wanted.items():
        assert found[name] == pytest.approx(figures, abs=1e-9), name
    assert found["doubled"] == {"inn": 40, "zoo": 40, 7: 40}
    assert found["public"] == {"inn": 20, "nowhere": 0}


def test_rows_that_flatmap_makes_count_as_their_privacy_ids(exact, tmp_path) -> None:
    """However many rows come of one, at most the bounds' number of them count."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        accountant = SharedBudgetAccountant(10.0, 1e-6)
        private = pipeline | beam.Create([(1, "inn"), (2, "inn")]) | MakePrivate(accountant, lambda row: row[0])
        many = private | private_beam.FlatMap(lambda row: [row[1]] * 50 if row[0] == 1 else [])
        assert isinstance(many, PrivatePCollection)
        params = pipeline_dp.CountParams(partition_extractor=str, noise_kind=NOISE.LAPLACE, **BOUNDS)
        counted = many | private_beam.Count(params, public_partitions=["inn"])
        counted | beam.combiners.ToList() | beam.Map(dump, tmp_path / "found")
        accountant.compute_budgets()
    assert read_back(tmp_path / "found") == [("inn", 2)]


@pytest.mark.parametrize("step", ["MakePrivate", "Map", "FlatMap"])
def test_an_error_of_a_users_function_says_nothing_of_the_row(step, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    pipeline = beam.Pipeline(runner="FnApiRunner")

    def broken(row):
        raise ValueError(row)

    private = (
        pipeline | beam.Create([("canary-7731", 1)]) | MakePrivate(accountant, broken if step == "MakePrivate" else len)
    )
    if step != "MakePrivate":
        private = private | getattr(private_beam, step)(broken)
    params = pipeline_dp.CountParams(partition_extractor=str, noise_kind=NOISE.LAPLACE, **BOUNDS)
    private | private_beam.Count(params)
    accountant.compute_budgets()
    with pytest.raises(Exception, match=f"step {step} failed with ValueError") as failed:
        pipeline.run().wait_until_finish()
    assert "canary-7731" not in f"{failed.value!r} {failed.value.__cause__!r} {failed.value.__context__!r}"
    assert "canary-7731" not in caplog.text


def test_every_public_name_of_pipelinedps_private_beam_is_there_and_takes_what_it_takes() -> None:
    names = {
        name
        for name, kind in vars(theirs).items()
        if inspect.isclass(kind) and kind.__module__ == theirs.__name__ and not name.startswith("_")
    }
    assert names == set(private_beam.__all__)
    for name in sorted(names - {"PrivatePTransform", "PrivateCombineFn", "CombinePerKeyParams"}):
        ours_takes = inspect.signature(getattr(private_beam, name)).parameters
        assert list(ours_takes) == list(inspect.signature(getattr(theirs, name)).parameters), name


class Noisy(private_beam.PrivateCombineFn):
    """A combiner with noise of its own, as users write them."""

    def create_accumulator(self):
        return 0

    def add_input_for_private_output(self, accumulator, value):
        return accumulator + value

    def merge_accumulators(self, accumulators):
        return sum(accumulators)

    def extract_private_output(self, accumulator, budget, aggregate_params=None):
        return accumulator

    def request_budget(self, budget_accountant):
        return budget_accountant.request_budget(pipeline_dp.MechanismType.LAPLACE)


COUNT = pipeline_dp.CountParams(partition_extractor=str, noise_kind=NOISE.LAPLACE, **BOUNDS)


def enforced():
    params = pipeline_dp.CountParams(
        partition_extractor=str, noise_kind=NOISE.LAPLACE, contribution_bounds_already_enforced=True, **BOUNDS
    )
    return private_beam.Count(params)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: private_beam.CombinePerKey(Noisy(), private_beam.CombinePerKeyParams(2, 1)),
         "CombinePerKey(Noisy) can't be run: a PrivateCombineFn draws noise of its own, and nothing here can tell "
         "whether it is enough. Use Count, PrivacyIdCount, Sum, Mean or Variance, or DPEngine.aggregate for "
         "percentiles and vector sums; what these can't compute can be a custom metric of a policy, which says what a "
         "row adds and leaves bounds and noise to dpbeam (docs/custom_metrics.md)"),
        (lambda: beam.Map(print),
         "a PrivatePCollection takes the transforms of dpbeam.adapters.pipelinedp.private_beam alone, got "
         "apache_beam.transforms.core.ParDo; what works on single rows is private_beam.Map or FlatMap"),
        (lambda: theirs.Count(COUNT, label="Theirs"),
         "a PrivatePCollection takes the transforms of dpbeam.adapters.pipelinedp.private_beam alone, got "
         "pipeline_dp.private_beam.Count; what works on single rows is private_beam.Map or FlatMap"),
        (lambda: type("Raw", (private_beam.Count,), {"__module__": "job"})(COUNT),
         "a PrivatePCollection takes the transforms of dpbeam.adapters.pipelinedp.private_beam alone, got "
         "job.Raw; what works on single rows is private_beam.Map or FlatMap"),
        (lambda: private_beam.Sum(COUNT), "the parameters must be pipeline_dp.SumParams, got CountParams"),
        (enforced,
         "contribution_bounds_already_enforced must be False: dpbeam bounds what each privacy id contributes itself"),
        (lambda: MakePrivate(pipeline_dp.NaiveBudgetAccountant(1.0, 1e-6), len),
         "budget_accountant must be a dpbeam.adapters.pipelinedp.SharedBudgetAccountant(total_epsilon, total_delta), "
         "got NaiveBudgetAccountant"),
        (lambda: private_beam.Count(COUNT, out_explain_computaton_report=[]),
         "out_explain_computation_report must be a dpbeam.adapters.pipelinedp.ExplainComputationReport() (which is "
         "PipelineDP's own) or None, got list"),
    ],
)  # fmt: skip
def test_what_cant_be_taken_is_refused_by_name(made, message) -> None:
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    private = beam.Pipeline(runner="FnApiRunner") | beam.Create(["a"]) | MakePrivate(accountant, len)
    with pytest.raises(UsageError) as refused:
        private | made()
    assert str(refused.value) == message
    assert accountant.stages == 0


@pytest.mark.parametrize("transform", [private_beam.Count(COUNT), private_beam.Map(len), private_beam.FlatMap(str)])
def test_a_private_transform_on_a_plain_collection_is_refused(transform) -> None:
    rows = beam.Pipeline(runner="FnApiRunner") | beam.Create([(1, "a")])
    with pytest.raises(UsageError, match=r"must be applied to a PrivatePCollection: make one with rows \| MakePrivate"):
        rows | transform


def test_labels_may_be_left_out_and_repeated() -> None:
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    private = pipeline | beam.Create([(1, "a")]) | MakePrivate(accountant, len)
    for _ in range(2):
        private | private_beam.Count(COUNT)
        private | "Again" >> private_beam.Count(COUNT)
    assert {"Count", "Count_1", "Again", "Again_1"} <= pipeline.applied_labels
    assert accountant.stages == 4
