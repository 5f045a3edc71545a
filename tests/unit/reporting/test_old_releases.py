"""Releases that an earlier program published, of each version of the manifest: they still verify, byte for byte.

They were made at commit d79f02b from made-up rows, by the policy that lies beside each.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import dpbeam
from dpbeam.mechanisms.events import others_of
from dpbeam.pipelines.cli.main import invoke
from dpbeam.reporting.certify import Uncertified
from dpbeam.reporting.manifest import parse_manifest

DATA = Path(__file__).parents[2] / "data" / "releases"
VERSIONS = {"version-1": 1, "version-2": 2}
FILES = [(name, path.name) for name in VERSIONS for path in sorted((DATA / name).iterdir())]
LISTED = [(name, file) for name, file in FILES if file != "manifest.json"]


@pytest.fixture
def release(tmp_path: Path):
    """A copy of a stored release."""
    return lambda name: Path(shutil.copytree(DATA / name, tmp_path / name))


def test_each_has_all_kinds_of_files() -> None:
    assert len(LISTED) == 2 * len(["report.html", "csv", "parquet", "csv", "parquet"])


@pytest.mark.parametrize(("name", "version"), VERSIONS.items())
def test_it_is_of_the_version_that_it_is_kept_for(name: str, version: int) -> None:
    text = (DATA / name / "manifest.json").read_text(encoding="utf-8")
    manifest = parse_manifest(text)
    assert (json.loads(text)["version"], manifest.version) == (version, version)
    hierarchical = any(others_of(mechanism) is not None for mechanism in manifest.mechanisms)
    assert (hierarchical, bool(manifest.chosen_bounds)) == (version == 2, version == 2)


@pytest.mark.parametrize("name", VERSIONS)
def test_its_manifest_is_written_again_byte_for_byte(name: str) -> None:
    content = (DATA / name / "manifest.json").read_bytes()
    assert parse_manifest(content.decode()).to_bytes() == content


@pytest.mark.parametrize("name", VERSIONS)
def test_the_command_certifies_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["certify", str(DATA / name / "manifest.json"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["certified"], told["epsilon"] <= 3) == (True, True)


@pytest.mark.parametrize("name", VERSIONS)
def test_it_opens_in_python_with_all_its_tables(name: str) -> None:
    found = dpbeam.read_release(DATA / name)
    assert [found.table(stage).num_rows > 0 for stage in found.stages] == [True, True]
    assert found.report().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(("name", "file"), LISTED)
def test_an_edited_byte_of_a_file_is_refused(release, name: str, file: str) -> None:
    path = release(name) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Uncertified) as refused:
        dpbeam.read_release(path.parent)
    (problem,) = refused.value.problems
    assert problem.startswith(f"file {file!r}: stated sha256 ")
    assert invoke(["certify", str(path.with_name("manifest.json"))]) == 4


@pytest.mark.parametrize("name", VERSIONS)
def test_an_edited_digit_of_a_mechanism_is_refused(release, name: str) -> None:
    path = release(name) / "manifest.json"
    text = path.read_text(encoding="utf-8")
    sigma = next(m["sigma"] for m in json.loads(text)["mechanisms"] if m["kind"] == "gaussian")
    path.write_text(text.replace(f'"sigma": {sigma}', f'"sigma": {sigma + 1}', 1), encoding="utf-8")
    with pytest.raises(Uncertified) as refused:
        dpbeam.read_release(path)
    assert refused.value.problems[0].startswith("certificate.naive: stated ")


@pytest.mark.parametrize("name", VERSIONS)
def test_its_policy_has_the_digest_that_it_had(name: str) -> None:
    manifest = parse_manifest((DATA / name / "manifest.json").read_text(encoding="utf-8"))
    assert dpbeam.load_policy(DATA / f"{name}.yaml").digest == manifest.policy_digest
