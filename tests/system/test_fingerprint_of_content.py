"""With `fingerprint: content` an input is what its bytes are; without, a run says where only times differ."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

import dpbeam
from dpbeam.errors import UsageError
from dpbeam.pipelines.lifecycle import contents, keys
from dpbeam.pipelines.lifecycle.inputs import Inputs, resolve
from dpbeam.pipelines.lifecycle.listing import files_of
from dpbeam.queries.source import Column, InputSpec
from dpbeam.transforms.steps.read import open_source

SECRET = b"s" * 32
SPEC = InputSpec(format="csv", paths=(), columns=(Column(name="a", type="string"),), fingerprint="content")


def of(*paths: Path, **more) -> str:
    return resolve(InputSpec(**vars(SPEC) | {"paths": tuple(map(str, paths))} | more)).fingerprint(SECRET)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def fingerprint(manifest: Path) -> str:
    return json.loads(manifest.read_text(encoding="utf-8"))["input_fingerprint"]


@pytest.fixture
def by_content(workspace, capsys):
    workspace.policy["source"]["fingerprint"] = "content"
    workspace.create_budget()
    assert workspace.run() == 0
    return workspace


def spent(workspace) -> int:
    return workspace.open_ledger().balance("visits").spent.epsilon // 10**12


def test_a_touched_file_is_the_same_input(by_content) -> None:
    os.utime(by_content.folder / "data.csv", (0, 0))
    assert by_content.run() == 0
    assert spent(by_content) == 1


def test_a_moved_file_is_the_same_input_and_binds_the_budget_to_nothing_new(by_content) -> None:
    moved = by_content.folder / "data.csv"
    moved = moved.rename(by_content.folder / "moved.csv")
    before = by_content.open_ledger().budget("visits").sources
    assert by_content.run("--source", str(moved)) == 0
    assert spent(by_content) == 1
    assert by_content.open_ledger().budget("visits").sources == before


def test_other_bytes_of_the_same_size_and_time_are_another_input(by_content) -> None:
    data = by_content.folder / "data.csv"
    stats, content = data.stat(), bytearray(data.read_bytes())
    content[-2] = ord("1") if content[-2] != ord("1") else ord("2")
    data.write_bytes(content)
    os.utime(data, ns=(stats.st_atime_ns, stats.st_mtime_ns))
    assert by_content.run() == 0
    assert spent(by_content) == 2


def test_two_releases_do_not_show_whether_their_inputs_have_the_same_bytes(by_content) -> None:
    """A fingerprint that is the same as long as no row changes would be a figure of the rows without noise."""
    assert by_content.run("--release", "again") == 0
    first, second = map(fingerprint, by_content.manifests())
    assert first != second


def test_two_releases_of_a_table_in_memory_do_not_show_it_either(tmp_path) -> None:
    rows = pa.table({"person": [f"p{i}" for i in range(200)], "city": ["Oslo", "Lyon"] * 100})
    asked = dpbeam.query("visits", unit="person", source=rows).spend(1, 1e-6).group_by("city")
    asked = asked.public(["Oslo", "Lyon"]).bounds(l0=1, linf=1).count()
    ledger = dpbeam.open_ledger(str(tmp_path / "ledger.sqlite"), create=True)
    ledger.create_budget("visits", dpbeam.Amount.cap(10, 1e-5))
    made = [dpbeam.release(asked, ledger=ledger, output=tmp_path, name=name) for name in ("a", "b", "a")]
    assert made[0].manifest.input_fingerprint != made[1].manifest.input_fingerprint
    assert made[2].cached


def test_names_and_order_of_files_do_not_matter_and_how_often_they_are_there_does(tmp_path) -> None:
    one, two = written(tmp_path / "1.csv", "a\nx\n"), written(tmp_path / "2.csv", "a\ny\n")
    swapped = written(tmp_path / "s" / "1.csv", "a\ny\n"), written(tmp_path / "s" / "2.csv", "a\nx\n")
    assert of(one, two) == of(*swapped)
    assert len({of(one), of(two), of(one, two), of(one, swapped[1])}) == 4


def test_what_a_path_says_of_the_rows_belongs_to_the_content(tmp_path) -> None:
    columns = (*SPEC.columns, Column(name="year", type="int64"))
    paths = [written(tmp_path / name / "x.csv", "a\nx\n") for name in ("u/year=1", "v/year=1", "year=2")]
    first, same, other = (of(path, columns=columns, path_columns=("year",)) for path in paths)
    assert first == same != other


@pytest.mark.parametrize("when", ["before", "while", "replaced"])
def test_a_file_that_changes_while_it_is_digested_is_refused(tmp_path, monkeypatch, when) -> None:
    data = written(tmp_path / "x.csv", "a\nx\n")

    class Changing:
        """The file, which somebody touches or replaces as its first piece is read."""

        def __init__(self, path: str) -> None:
            self._file = open_source(path)
            if when == "before":
                os.utime(path, (0, 0))

        def __enter__(self) -> Changing:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def fileno(self) -> int:
            return self._file.fileno()

        def read(self, size: int) -> bytes:
            if when == "while":
                os.utime(data, (0, 0))
            if when == "replaced":
                written(tmp_path / "y.csv", "a\nz\n").replace(data)
            return self._file.read(size)

    (listed,) = files_of(str(data))
    monkeypatch.setattr(contents, "open_source", Changing)
    with pytest.raises(UsageError) as refused:
        contents.contents_of([listed], SPEC)
    assert str(refused.value) == f"source {data} changes while it is looked at; run again when it is settled"


def test_a_fingerprint_of_content_is_keyed_with_the_secret(tmp_path) -> None:
    inputs = resolve(InputSpec(**vars(SPEC) | {"paths": (str(written(tmp_path / "x.csv", "a\nx\n")),)}))
    assert isinstance(inputs, Inputs)
    assert inputs.fingerprint(SECRET) != inputs.fingerprint(b"t" * 32)


SAID = (
    "release {} of the same name was made of files with the same names and sizes, but other times of change: this is "
    "another input, and a new release that is charged. If the bytes are the same, that release is what you want. From "
    "the next release on, source.fingerprint: content in the policy knows files by their bytes"
)


def test_a_run_says_where_only_the_times_differ_before_it_charges(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    capsys.readouterr()
    os.utime(workspace.folder / "data.csv", (0, 0))
    said = SAID.format(workspace.release_folder().name)
    assert workspace.run("--dry-run") == 0
    assert f"note: {said}" in " ".join(capsys.readouterr().err.split())
    assert workspace.run("--json") == 0
    assert json.loads(capsys.readouterr().out)["remarks"] == [said]
    assert spent(workspace) == 2


@pytest.mark.parametrize("change", ["size", "name", "nothing"])
def test_it_says_nothing_where_more_differs_or_nothing(workspace, capsys, change) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    data, flags = workspace.folder / "data.csv", []
    if change == "size":
        data.write_bytes(data.read_bytes() + b"p9,Oslo,1\n")
    if change == "name":
        flags = ["--release", "another"]
        os.utime(data, (0, 0))
    capsys.readouterr()
    assert workspace.run(*flags) == 0
    assert "note:" not in capsys.readouterr().err


def test_a_release_of_an_earlier_version_is_still_known(workspace, monkeypatch) -> None:
    workspace.create_budget()
    with monkeypatch.context() as earlier:
        earlier.setattr(keys, "key_of", keys._identity)
        assert workspace.run() == 0
    assert len(workspace.published_charges()[0].key) == 64
    assert workspace.run() == 0
    assert spent(workspace) == 1
