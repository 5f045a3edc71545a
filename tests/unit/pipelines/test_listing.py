"""A path of the policy names regular files, each once and none in silence; what can't be read is refused by name."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from apache_beam.io.localfilesystem import LocalFileSystem
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.errors import RunFailed, UsageError
from dpbeam.pipelines.cli.init import starter
from dpbeam.pipelines.lifecycle import inputs, listing
from dpbeam.queries.source import Column, InputSpec
from dpbeam.transforms.steps.read import raw_blocks

COLUMNS = (Column(name="a", type="int64"),)


def spec(*paths: Path | str) -> InputSpec:
    return InputSpec(format="csv", paths=tuple(map(str, paths)), columns=COLUMNS)


def refusal(path: Path | str) -> str:
    with pytest.raises(UsageError) as caught:
        inputs.resolve(spec(path))
    return str(caught.value)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may be no longer than 100 bytes
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def circular(path: Path) -> None:
    (path.parent / ".other").symlink_to(path)
    path.symlink_to(path.parent / ".other")  # that one is hidden, so by a folder and a pattern this one is named


def to_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def to_parent(path: Path) -> None:
    path.symlink_to(path.parent)


ODD = {
    fifo: "it is a FIFO and no regular file",
    bound_socket: "it is a socket and no regular file",
    to_device: "it is a device and no regular file",
    dangling: "it is a link to nothing",
    circular: "it is a link that leads back to itself",
}


@pytest.mark.parametrize("named", ["alone", "in a folder", "deep in a folder", "by a pattern", "by a deep pattern"])
@pytest.mark.parametrize("make", ODD)
def test_what_is_no_regular_file_is_refused_by_name_and_never_waited_for(make, named, tmp_path) -> None:
    inside = tmp_path / ("data/more" if "deep" in named else "data")
    inside.mkdir(parents=True)
    (inside / "a.csv").write_text("a\n1\n")
    make(inside / "b.csv")
    path = {
        "alone": inside / "b.csv",
        "by a pattern": tmp_path / "data" / "*.csv",
        "by a deep pattern": tmp_path / "**.csv",
    }.get(named, tmp_path / "data")
    assert refusal(path) == f"source {inside / 'b.csv'}: {ODD[make]}. Take it away, or correct source.path"


@pytest.mark.parametrize("make", [*ODD, to_parent])
def test_init_says_what_is_no_file_or_folder_of_files(make, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("a\n1\n")
    make(tmp_path / "data" / "b.csv")
    for path in (tmp_path / "data", *([] if make is to_parent else [tmp_path / "data" / "b.csv"])):
        with pytest.raises(UsageError, match=re.escape(f"source {tmp_path / 'data' / 'b.csv'}: it is ")):
            starter(path, folder=tmp_path)


@pytest.mark.parametrize("path", ["data", "**", "*/*/*/*/*.csv"])
@pytest.mark.parametrize("up", [0, 1, 2])
def test_a_link_to_a_folder_that_it_lies_in_is_refused_by_name(up: int, path: str, tmp_path) -> None:
    inside = tmp_path / "data" / "one" / "two"
    inside.mkdir(parents=True)
    (inside / "a.csv").write_text("a\n1\n")
    (inside / "back").symlink_to([inside, inside.parent, inside.parent.parent][up])
    assert refusal(tmp_path / path) == (
        f"source {inside / 'back'}: it is a link to a folder that it lies in. Take it away, or correct source.path"
    )


def test_links_to_files_and_folders_elsewhere_are_followed_by_folders_and_patterns(tmp_path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x.csv").write_text("a\n1\n")
    (tmp_path / "y.csv").write_text("a\n2\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "data" / "y.csv").symlink_to(tmp_path / "y.csv")
    for path in ("data", "data/**", "data/**.csv"):
        found = inputs.resolve(spec(tmp_path / path)).files
        assert [file.path for file in found] == [str(tmp_path / "data" / name) for name in ("far/x.csv", "y.csv")]


def test_a_pattern_that_would_leave_out_what_lies_in_a_folder_says_so(tmp_path) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.csv").write_text("a\n1\n")
    (tmp_path / "data" / "sub" / "b.csv").write_text("a\n1\n")
    assert refusal(tmp_path / "data" / "*") == (
        f"source {tmp_path}/data/*: the pattern matches the folder {tmp_path}/data/sub, and would leave out what lies "
        "in it; name the folder itself, or files alone, as in data/*.csv"
    )
    assert len(inputs.resolve(spec(tmp_path / "data" / "*.csv")).files) == 1
    assert len(inputs.resolve(spec(tmp_path / "data" / "**")).files) == 2


def test_folders_that_are_no_data_by_custom_do_not_stop_a_pattern(tmp_path) -> None:
    (tmp_path / "_log").mkdir()
    (tmp_path / "a.csv").write_text("a\n1\n")
    assert len(inputs.resolve(spec(tmp_path / "*")).files) == 1


def test_a_folder_that_can_not_be_listed_is_refused_and_not_passed_over(tmp_path, monkeypatch) -> None:
    (tmp_path / "data" / "shut").mkdir(parents=True)
    (tmp_path / "data" / "a.csv").write_text("a\n1\n")
    listed = os.listdir

    def listdir(path: str) -> list[str]:
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    for path in ("data", "data/**"):
        assert refusal(tmp_path / path) == (
            f"source {tmp_path}/data/shut: this folder can't be listed (Permission denied). Take it away, or correct "
            "source.path"
        )


names = st.sampled_from(["a", "b", "ab", "x1", "_h", ".d", "a[b", "y=1"])
patterns = st.lists(
    st.sampled_from(["*", "**", "?", "a", "b", "a*", "*b", "[ab]", "[!a]", "**b", "a**", "x?", "_*", ".*", "y=*"]),
    min_size=1,
    max_size=3,
).map("/".join)


@settings(max_examples=150, deadline=None)
@given(st.sets(st.lists(names, min_size=1, max_size=3).map(tuple), max_size=10), patterns)
def test_a_pattern_names_the_files_that_beam_says_or_is_refused(tmp_path_factory, paths, pattern) -> None:
    folder = tmp_path_factory.mktemp("tree")
    for parts in sorted(paths, key=len, reverse=True):
        file = folder.joinpath(*parts)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("a\n1\n")
    theirs = LocalFileSystem(PipelineOptions()).match([f"{folder}/{pattern}"])[0].metadata_list
    # In Beam `?` may be a slash.
    depth = pattern.count("/")
    expected = {m.path for m in theirs if "**" in pattern or m.path[len(str(folder)) + 1 :].count("/") == depth}
    if (folder / pattern).exists():
        return  # then it is no pattern, but this file or folder
    try:
        found, said = {file.path for file in listing.files_of(f"{folder}/{pattern}")}, ""
    except UsageError as error:
        found, said = set(), str(error)
    assert found == expected or "would leave out what lies in it" in said


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("[[]*", {"[a.csv"}), ("[!a-c&&]*", {"[a.csv", "d.csv"}), ("[--b]*", {"[a.csv", "b.csv"}), ("[z-a]*", set())],
)
def test_a_set_stands_for_its_characters_in_silence(tmp_path, recwarn, pattern: str, found: set[str]) -> None:
    for name in ("[a.csv", "b.csv", "d.csv", "&.csv"):
        (tmp_path / name).write_text("a\n1\n")
    if found:
        assert {Path(file.path).name for file in listing.files_of(f"{tmp_path}/{pattern}")} == found
    else:
        assert "no file has this name or matches this pattern" in refusal(tmp_path / pattern)
    assert not recwarn.list


# --- One file in another's place ------------------------------------------------------------------------------------


def everything(found: inputs.Inputs, wanted: InputSpec) -> int:
    return sum(block.num_rows for portion in found.splits for block in raw_blocks(portion, wanted))


def put_aside(path: Path) -> None:
    os.rename(path, path.with_suffix(".aside"))


def put_back(path: Path) -> None:
    os.replace(path.with_suffix(".aside"), path)


@pytest.mark.parametrize("same", ["nothing", "size", "size and time"])
@pytest.mark.parametrize("by", ["rename", "link", "folder"])
def test_a_file_turned_away_while_it_is_read_and_back_at_the_end_is_noticed(by: str, same: str, tmp_path) -> None:
    folder, target = tmp_path / "data", tmp_path / "target"
    target.mkdir()
    (target / "t.csv").write_text("a\n1\n2\n")
    if by == "rename":
        target.rename(folder)
    elif by == "folder":
        folder.symlink_to(target)
    else:
        folder.mkdir()
        (folder / "t.csv").symlink_to(target / "t.csv")
    path = folder / "t.csv"
    wanted = spec(path)
    found = inputs.resolve(wanted)
    assert everything(found, wanted) == 2
    other = tmp_path / "other"
    other.mkdir()
    (other / "t.csv").write_text("a\n3\n4\n" if "size" in same else "a\n3\n")
    if "time" in same:
        changed = found.files[0].changed
        os.utime(other / "t.csv", ns=(changed, changed))
    if by == "folder":
        folder.unlink()
        folder.symlink_to(other)
    else:
        put_aside(path)
        os.link(other / "t.csv", path) if by == "rename" else path.symlink_to(other / "t.csv")
    with pytest.raises(RunFailed) as caught:
        everything(found, wanted)
    assert str(caught.value) == (
        f"{path} has changed since it was checked at the start of the run. Run again when it is settled; "
        "a file that was written anew is another input, and is charged anew."
    )
    if by == "folder":
        folder.unlink()
        folder.symlink_to(target)
    else:
        put_back(path)
    # At the end all is as it was: without a look at what was opened nobody would know.
    inputs.check_unchanged(found)
    assert everything(found, wanted) == 2


def test_a_machine_that_sees_other_inodes_reads_the_same_file(tmp_path, monkeypatch) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    found = inputs.resolve(spec(tmp_path / "t.csv"))
    os.rename(tmp_path / "t.csv", tmp_path / "old")
    (tmp_path / "t.csv").write_text("a\n1\n")
    os.utime(tmp_path / "t.csv", ns=(found.files[0].changed,) * 2)
    with pytest.raises(RunFailed):
        everything(found, spec())
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert everything(found, spec()) == 1
