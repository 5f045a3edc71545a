"""What is installed: one package, the same however it is built. It works with nothing of the checkout at hand, from a
folder that has a `pipelines` and a `transforms` of its own, and in a worker that is another process."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.stager import Stager
from packaging.specifiers import SpecifierSet

from tests.helpers import installing

FOLDERS = ("dpbeam/", "transforms/", "pipelines/")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installing.built("wheel", installing.copied(tmp_path_factory.mktemp("a")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installing.built("sdist", installing.copied(tmp_path_factory.mktemp("b")), tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    return installing.environment(tmp_path_factory.mktemp("site") / "venv", wheel)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with the example and with packages that are named as ours once were."""
    for name in ("pipelines", "transforms"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('these {name} are not dpbeam’s')\n")
    shutil.copytree(installing.ROOT / "examples" / "ngrams", tmp_path / "ngrams")
    return tmp_path


def test_a_wheel_holds_one_package_with_all_its_files_and_nothing_else(wheel) -> None:
    names = [name for name in installing.listed() if name.startswith(FOLDERS) and not (installing.ROOT / name).is_dir()]
    expected = {name if name.startswith("dpbeam/") else f"dpbeam/{name}" for name in names}
    found = set(installing.contents(wheel))
    assert {name.partition("/")[0].partition("-")[0] for name in found} == {"dpbeam"}
    assert {name for name in found if name.startswith("dpbeam/")} == expected
    assert expected > {
        "dpbeam/py.typed",
        "dpbeam/transforms/steps/read.py",
        "dpbeam/pipelines/aggregate.py",
        "dpbeam/policy/policy.schema.json",
        "dpbeam/reporting/schemas/manifest.schema.json",
        "dpbeam/reporting/templates/report.html.j2",
    }
    with ZipFile(wheel) as archive:
        assert [file.filename for file in archive.infolist() if stat.S_ISLNK(file.external_attr >> 16)] == []


def test_a_wheel_built_from_the_sdist_has_the_same_files(wheel, sdist, tmp_path) -> None:
    again = installing.built("wheel", installing.unpacked(sdist, tmp_path / "source"), tmp_path)
    assert installing.contents(again) == installing.contents(wheel)


def test_what_beam_sends_to_workers_for_a_setup_file_has_the_same_files(sdist, tmp_path) -> None:
    checkout = installing.copied(tmp_path / "checkout")
    (tmp_path / "staged").mkdir()
    options = PipelineOptions([f"--setup_file={checkout / 'setup.py'}"])
    Stager.create_job_resources(options, str(tmp_path / "staged"), log_submission_env_dependencies=False)
    (sent,) = (tmp_path / "staged").glob("*.tar.gz")
    assert installing.contents(sent) == installing.contents(sdist)


@pytest.fixture(scope="module")
def shown(wheel: Path) -> Message:
    """What a package index shows of the wheel."""
    (name,) = (name for name in installing.contents(wheel) if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(installing.contents(wheel)[name].decode())


def test_an_index_shows_the_licence_and_the_pythons_that_it_runs_on(shown) -> None:
    assert (shown["License-Expression"], shown["License-File"]) == ("Apache-2.0", "LICENSE")
    classifiers = shown.get_all("Classifier")
    named = {each.rpartition(" ")[2] for each in classifiers if re.fullmatch(r".*:: 3\.\d+", each)}
    allowed = SpecifierSet(shown["Requires-Python"])
    assert named == {f"3.{minor}" for minor in range(40) if f"3.{minor}" in allowed}


def test_an_index_shows_the_readme_without_links_that_lead_nowhere_there(shown) -> None:
    text = shown.get_payload()
    assert "## Your own data, in five minutes" in text
    assert re.findall(r"\]\((?!https?:)[^)]*\)", text) == []


def test_the_demo_works_from_a_folder_with_packages_of_the_same_names(programs, elsewhere) -> None:
    where = "import dpbeam, dpbeam.pipelines, dpbeam.transforms as t; print(dpbeam.__file__, t.__file__, sep='\\n')"
    found = installing.ran(programs / "python", "-c", where, cwd=elsewhere).splitlines()
    assert [path for path in found if not Path(path).is_relative_to(programs.parent)] == []
    dpbeam, ledger = programs / "dpbeam", ("--ledger", "sqlite:///ledger.sqlite")
    installing.ran(dpbeam, "budget", "create", "ngrams/policy.yaml", *ledger, cwd=elsewhere)
    run = ("ngrams/policy.yaml", *ledger, "--output", "releases")
    assert "This release cost ε 4" in installing.ran(dpbeam, "run", *run, cwd=elsewhere)
    (manifest,) = elsewhere.glob("releases/ngrams/*/manifest.json")
    assert "certified" in installing.ran(dpbeam, "certify", manifest, cwd=elsewhere)
    again = (programs / "python", "-m", "dpbeam.pipelines.aggregate", "--policy", *run)
    assert "at no cost" in installing.ran(*again, cwd=elsewhere)


LOOPBACK = """
from grpc import _server
listen = _server._Server.add_insecure_port
def listen_here_only(self, address):
    return listen(self, address.replace("[::]", "127.0.0.1"))
_server._Server.add_insecure_port = listen_here_only
"""
"""Beam's servers listen on every interface."""

POOL = f"""
import sys
{LOOPBACK}
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
address, server = BeamFnExternalWorkerPoolServicer.start(use_process=True)
print(address, flush=True)
sys.stdin.read()
server.stop(None)
"""
"""A worker pool that ends, and its workers with it, when this process closes its input."""

LAUNCH = f"""
import json, os, sys
{LOOPBACK}
import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import ExternalEnvironment, python_sdk_capabilities
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.jobs import aggregate, workers

address, said, *words = sys.argv[1:]
make, build = FnApiRunner.__init__, aggregate.build

def elsewhere(self):
    make(self, ExternalEnvironment(address, capabilities=python_sdk_capabilities()))

def note(_):
    import dpbeam
    with open(said, "w") as file:
        json.dump([os.getpid(), dpbeam.__file__], file)

def noted(pipeline, job):
    _ = pipeline | "Where" >> beam.Create([None]) | "Note" >> beam.Map(note)
    return build(pipeline, job)

FnApiRunner.__init__, aggregate.build = elsewhere, noted
workers.ONE_WORKER_RUNNERS.clear()
print(os.getpid())
sys.exit(invoke(words))
"""
"""`dpbeam` with a local runner whose worker is one of the pool's, which says who and where it is."""


@contextmanager
def worker_pool(programs: Path, folder: Path) -> Iterator[str]:
    """The address of a worker pool in another process, in which nothing can be imported but what is installed."""
    path = {"PATH": f"{programs}:/usr/bin:/bin"}  # the pool starts `python`
    with (folder / "pool.log").open("w") as log, subprocess.Popen(
        [programs / "python", "-c", POOL], cwd=folder, env=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=log, text=True,
    ) as pool:  # fmt: skip
        try:
            yield pool.stdout.readline().strip()
            pool.stdin.close()
            assert pool.wait(timeout=60) == 0
        finally:
            pool.kill()


def test_a_worker_in_another_process_with_the_wheel_alone_runs_a_job(programs, elsewhere) -> None:
    worker, ledger = elsewhere / "worker.json", ("--ledger", "sqlite:///ledger.sqlite")
    installing.ran(programs / "dpbeam", "budget", "create", "ngrams/policy.yaml", *ledger, cwd=elsewhere)
    run = ("run", "ngrams/policy.yaml", *ledger, "--output", "releases")
    with worker_pool(programs, elsewhere) as address:
        said = installing.ran(programs / "python", "-c", LAUNCH, address, worker, *run, cwd=elsewhere)
    assert "This release cost ε 4" in said
    pid, ours = json.loads(worker.read_text(encoding="utf-8"))
    assert str(pid) != said.splitlines()[0]
    assert Path(ours).is_relative_to(programs.parent)
    (manifest,) = elsewhere.glob("releases/ngrams/*/manifest.json")
    installing.ran(programs / "dpbeam", "certify", manifest, cwd=elsewhere)
