"""Fixtures for all rooms: a private folder with data, a policy and a ledger, and exact noise for tests alone."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

settings.register_profile("dpbeam", deadline=None)  # no test depends on how busy the machine is
settings.load_profile("dpbeam")
# A shell without job control starts background jobs with SIGINT ignored, nohup with SIGHUP; children would inherit
# that, and dpbeam leaves alone what it was started to ignore.
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)


@dataclass
class Workspace:
    """A folder with a small table, a policy over it and a ledger; `policy` is a dict that a test may change."""

    folder: Path
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def ledger(self) -> str:
        return f"sqlite:///{self.folder / 'ledger.sqlite'}"

    @property
    def output(self) -> Path:
        return self.folder / "releases"

    @property
    def policy_path(self) -> Path:
        path = self.folder / "policy.yaml"
        path.write_text(yaml.safe_dump(self.policy, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return path

    def csv(self, *rows: str, header: str = "person,place,amount", name: str = "data.csv") -> Path:
        path = self.folder / name
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    def run(self, *flags: str) -> int:
        """`dpbeam run` in this process; returns its exit code."""
        from dpbeam.pipelines.cli.main import invoke

        return invoke(["run", str(self.policy_path), "--ledger", self.ledger, "--output", str(self.output), *flags])

    def create_budget(self) -> None:
        from dpbeam.pipelines.cli.main import invoke

        assert invoke(["budget", "create", str(self.policy_path), "--ledger", self.ledger]) == 0

    def open_ledger(self) -> Any:
        from dpbeam.ledger import open_ledger

        return open_ledger(self.ledger)

    def charges(self, *states: str) -> list[Any]:
        """The ledger's charges that stand in one of `states`, by increasing fence."""
        return [charge for charge in self.open_ledger().charges() if charge.state in states]

    def open_charges(self) -> list[Any]:
        return self.charges("RESERVED", "STARTED")

    def published_charges(self) -> list[Any]:
        return self.charges("PUBLISHED")

    def uncharged(self) -> bool:
        """Whether no run has spent or reserved anything."""
        from dpbeam.ledger.amounts import ZERO

        balance = self.open_ledger().balance("visits")
        return balance.spent == ZERO == balance.held

    def manifests(self) -> list[Path]:
        return sorted(self.output.glob("*/*/manifest.json"))

    def newest(self) -> Path:
        """The manifest that was shown last: its own times say when its run began."""
        return max(self.manifests(), key=lambda manifest: manifest.stat().st_ctime_ns)

    def release_folder(self) -> Path:
        (manifest,) = self.manifests()
        return manifest.parent

    def logs(self) -> list[Path]:
        """The logs that runs left in their folder, oldest first."""
        return sorted((self.output / ".logs").glob("*.log"), key=lambda log: log.stat().st_ctime_ns)

    def left_behind(self) -> list[Path]:
        """Every file under the output folder that is neither in a released folder, nor the page over all of them, nor
        the log of a run that failed."""
        known = {*(manifest.parent for manifest in self.manifests()), self.output / ".logs"}
        pages = set(self.output.glob("*/index.html"))
        files = [path for path in self.output.rglob("*") if path.is_file() and path not in pages]
        return [path for path in files if path.parent not in known]


def base_policy() -> dict[str, Any]:
    """People, places and amounts; one private stage with every metric."""
    return {
        "version": 1,
        "dataset": "visits",
        "source": {"format": "csv", "path": "data.csv"},
        "privacy_unit": "person",
        "columns": {
            "person": {"type": "string"},
            "place": {"type": "string"},
            "amount": {"type": "float64"},
        },
        "budget": {"epsilon": 10.0, "delta": 1e-5},
        "run": {"epsilon": 1.0, "delta": 1e-6},
        "stages": [
            {
                "name": "by_place",
                "group_by": ["place"],
                "partitions": {"private": {"strategy": "truncated_geometric"}},
                "bounds": {"l0": 4, "linf": 2},
                "metrics": [
                    "count",
                    "privacy_id_count",
                    {"sum": {"column": "amount", "low": 0.0, "high": 10.0}},
                    {"mean": {"column": "amount", "low": 0.0, "high": 10.0}},
                ],
                "noise": "gaussian",
            }
        ],
        "output": {"shards": 2},
    }


def visits(people: int = 400) -> list[str]:
    """Rows in which every person visits three of five places, two of them often enough to be kept."""
    return [
        f"p{i},{place},{(i * 7 + j) % 11}" for i in range(people) for j, place in enumerate(("inn", "zoo", f"x{i % 3}"))
    ]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(folder=tmp_path, policy=base_policy())
    made.csv(*visits())
    return made


@pytest.fixture
def shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes local runs shuffle their rows through the runner, as runs on several workers do."""
    from dpbeam.pipelines.jobs import workers

    monkeypatch.setattr(workers, "ONE_WORKER_RUNNERS", set())


@pytest.fixture
def reference_engine() -> None:
    """For tests of PipelineDP's engine on a plan of ours, which 0.2, the one for Python 3.10, can't be given."""
    import pipeline_dp

    if not hasattr(pipeline_dp.NaiveBudgetAccountant, "mechanism_specs"):
        pytest.skip("the reference engine needs PipelineDP 0.3")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server of this session's own; see tests/helpers/postgres.py."""
    from tests.helpers.postgres import running

    with running() as server:
        yield server


class NoNoise:
    """Stands in for PyDP's mechanisms in tests: adds nothing. The product has no switch for it."""

    def add_noise(self, value: Any) -> Any:
        return value


def keep_all(_: Any) -> Any:
    """Stands in for every selection strategy in tests: keeps every partition with a unit, and counts exactly."""
    from dpbeam.mechanisms.events import Gaussian
    from dpbeam.mechanisms.noise import AdditiveNoise
    from dpbeam.mechanisms.selection import Thresholding

    silenced = AdditiveNoise(mechanism=Gaussian(stage="any", metric="any", sigma=1.0, l2=1.0))
    return Thresholding(noise=silenced, threshold=1.0, pre_threshold=1)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes released values exact, and keeps every partition."""
    from dpbeam.mechanisms import noise, selection

    monkeypatch.setattr(noise, "_laplace", lambda *_: NoNoise())
    monkeypatch.setattr(noise, "_gaussian", lambda *_: NoNoise())
    monkeypatch.setattr(selection, "_strategy", keep_all)


class ExactMechanism:
    """Stands in for PyDP's mechanisms inside PipelineDP, in tests alone."""

    def __init__(self, *_, **__) -> None:
        self.std = self.diversity = 1.0

    @classmethod
    def create_from_standard_deviation(cls, _):
        return cls()

    def add_noise(self, value):
        return value


class KeepAll:
    threshold = 1.0

    def should_keep(self, units):
        return units > 0

    def noised_value_if_should_keep(self, units):
        return float(units)


@pytest.fixture
def exact_pipelinedp(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference job without noise, keeping every partition; its plan is made with noise, as ever."""
    from pipeline_dp import dp_computations, partition_selection

    from dpbeam.pipelines.jobs import reference

    real = reference.run

    def run(job, stages, options):
        with monkeypatch.context() as patch:
            patch.setattr(dp_computations.dp_mechanisms, "LaplaceMechanism", ExactMechanism)
            patch.setattr(dp_computations.dp_mechanisms, "GaussianMechanism", ExactMechanism)
            patch.setattr(partition_selection, "create_partition_selection_strategy", lambda *_: KeepAll())
            return real(job, stages, options)

    monkeypatch.setattr(reference, "run", run)


@pytest.fixture(autouse=True)
def _quiet_beam() -> None:
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
