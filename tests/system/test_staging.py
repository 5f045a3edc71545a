"""What isn't published is nobody's to see: another user watches the output folder while runs are killed, and copies all
that it can read; of each charge that is one draw at most."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import stat
import tempfile
import time
from pathlib import Path

import pytest

from dpbeam.errors import RunFailed
from dpbeam.pipelines.lifecycle import publish, release
from dpbeam.transforms.wire import staging
from dpbeam.transforms.wire.staging import Area
from tests.helpers import kills
from tests.helpers.disks import mounted

NOBODY = 65534


@pytest.fixture
def in_sight(workspace):
    """The workspace in a folder that every user may look into; nothing but modes of our own keeps anybody out."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copy(workspace.folder / "data.csv", folder)
        workspace.folder = Path(folder)
        workspace.create_budget()
        workspace.output.mkdir(mode=0o755)
        before = os.umask(0)
        try:
            yield workspace
        finally:
            os.umask(before)


def open_to_others(path: Path, root: Path) -> bool:
    """Whether another user may read the file, as the modes say: for who isn't root and can't become another user."""
    folders = [parent for parent in path.parents if parent == root or root in parent.parents]
    return bool(path.stat().st_mode & stat.S_IROTH) and all(f.stat().st_mode & stat.S_IXOTH for f in folders)


def readable(root: Path) -> dict[str, bytes]:
    """Every file under the folder that can be read by another user, as this process finds it now."""
    found = {}
    for at, _, names in os.walk(root):
        for path in (Path(at, name) for name in names):
            with contextlib.suppress(OSError):
                if os.geteuid() == NOBODY or open_to_others(path, root):
                    found[str(path.relative_to(root))] = path.read_bytes()
    return found


def results(files: dict[str, bytes]) -> set[bytes]:
    return {data for name, data in files.items() if name.endswith(".csv")}


@contextlib.contextmanager
def watcher(root: Path):
    """Another user who reads all it can, all the time; gives a function that says how many results it has copied."""
    copies, go_on = root.with_name(f"{root.name}-copies"), root.with_name(f"{root.name}-watch")
    copies.mkdir(mode=0o777)
    go_on.touch()

    def watch() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        seen: set[bytes] = set()
        last = False
        while not last:
            last = not go_on.exists()  # one more look after the end
            for data in results(readable(root)) - seen:
                seen.add(data)
                (copies / str(len(seen))).write_bytes(data)

    child = kills.forked(watch)
    try:
        yield lambda: {path.read_bytes() for path in copies.iterdir()}
    finally:
        go_on.unlink()
        assert os.waitpid(child, 0)[1] == 0


KILLED = {**kills.INSIDE, "before staging is read": (Area, "read_stage")}


def test_whoever_watches_runs_that_are_killed_sees_one_draw_of_a_charge(in_sight, capsys) -> None:
    with watcher(in_sight.output):
        for place in KILLED:
            owner, name = KILLED[place]

            def work(owner=owner, name=name, place=place) -> None:
                setattr(owner, name, kills.die)
                in_sight.run("--release", place)

            assert os.WIFSIGNALED(os.waitpid(kills.forked(work), 0)[1])
            # What a kill left stays where it is: whoever looks now finds nothing of it.
            assert [name for name in readable(in_sight.output) if not name.endswith("/index.html")] == []
            assert in_sight.left_behind() != []  # and there was something to find
            assert in_sight.run("--release", place) == 0
            shutil.move(in_sight.release_folder(), in_sight.folder / f"kept {place}")
    published = [(path / "by_place.csv").read_bytes() for path in in_sight.folder.glob("kept *")]
    assert len(published) == len(KILLED)
    copied = {path.read_bytes() for path in in_sight.folder.glob("releases-copies/*")}
    assert copied <= {*published}  # each of them is of a charge of its own
    assert in_sight.open_ledger().balance("visits").spent.epsilon == len(KILLED) * kills.COST.epsilon


def test_whoever_watches_runs_killed_at_random_sees_what_is_published_alone(in_sight, capsys) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    started = time.monotonic()
    assert in_sight.run("--release", "first") == 0
    length = time.monotonic() - started
    with watcher(in_sight.output):
        for trial in range(6):
            for _ in range(2):
                child = kills.forked(lambda trial=trial: in_sight.run("--release", f"r{trial}"))
                time.sleep(rng.uniform(0.3, 1.0) * length)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            assert in_sight.run("--release", f"r{trial}") == 0, seed
    copied = {path.read_bytes() for path in in_sight.folder.glob("releases-copies/*")}
    published = {(path.parent / "by_place.csv").read_bytes() for path in in_sight.manifests()}
    assert len(published) == 7
    assert copied <= published, seed


def test_the_watcher_finds_what_lies_in_the_open(in_sight, capsys, monkeypatch) -> None:
    """The fault that it looks for: a release put together in the open folder."""

    def in_the_open(self):
        folder = in_sight.output / "visits" / "half"
        folder.mkdir(parents=True)
        return folder

    def work() -> None:
        Area.create_release = in_the_open
        publish.write_manifest = kills.die
        in_sight.run()

    with watcher(in_sight.output):
        assert os.WIFSIGNALED(os.waitpid(kills.forked(work), 0)[1])
    assert len(list(in_sight.folder.glob("releases-copies/*"))) >= 1  # perhaps a half one, too


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_no_umask_opens_staging_and_the_release_has_the_modes_it_gives(in_sight, capsys, monkeypatch, mask) -> None:
    staged = in_sight.output / ".staging"
    modes, write = set(), release.publish.write_manifest

    def looks(folder, manifest):
        attempt = next(path for path in staged.iterdir() if path.suffix != ".release")
        modes.update(stat.S_IMODE(path.stat().st_mode) for path in (staged, attempt, folder.parent))
        return write(folder, manifest)

    monkeypatch.setattr(publish, "write_manifest", looks)
    os.umask(mask)
    assert in_sight.run() == 0
    assert modes == {0o700}
    folder = in_sight.release_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~mask
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~mask}


def test_staging_that_an_earlier_version_left_open_is_closed(in_sight, capsys) -> None:
    old = in_sight.output / ".staging"
    old.mkdir(mode=0o755)
    (old / "of another run").touch()
    assert in_sight.run() == 0
    assert stat.S_IMODE(old.stat().st_mode) == 0o700


@pytest.mark.parametrize("what", ["a link", "a file", "another user's"])
def test_staging_that_is_not_ours_is_refused_before_the_charge(in_sight, capsys, what) -> None:
    path, elsewhere = in_sight.output / ".staging", in_sight.folder / "elsewhere"
    elsewhere.mkdir()
    match what:
        case "a link":
            path.symlink_to(elsewhere)
            said = "is a link: results would be staged where it points"
        case "a file":
            path.touch()
            said = "is no folder"
        case _:
            if os.geteuid() != 0:
                pytest.skip("only root can give a folder away")
            path.mkdir()
            os.chown(path, NOBODY, NOBODY)
            said = "belongs to another user"
    assert in_sight.run() == 2
    assert f"staging folder {path} {said}" in capsys.readouterr().err
    assert in_sight.uncharged()
    assert list(elsewhere.iterdir()) == []


def test_an_output_folder_that_everybody_may_write_is_refused(in_sight, capsys) -> None:
    in_sight.output.chmod(0o777)
    assert in_sight.run() == 2
    assert "may be written by every user" in capsys.readouterr().err
    assert in_sight.uncharged()
    in_sight.output.chmod(0o1777)  # as /tmp: nobody may rename there what is another's
    assert in_sight.run() == 0


def test_a_dataset_folder_on_another_disk_is_refused_before_the_charge(in_sight, capsys) -> None:
    with mounted(in_sight.output / "visits"):
        assert in_sight.run() == 2
        assert "lies on another file system than" in capsys.readouterr().err
        assert in_sight.uncharged()


def test_staging_that_is_swapped_for_a_link_gets_nothing_more(tmp_path) -> None:
    area = staging.Area(path=str(tmp_path / ".staging" / "a-1"), attempt="a-1")
    area.create()
    area.write_marker("one")
    (tmp_path / ".staging").rename(tmp_path / "away")
    (tmp_path / "open" / "a-1").mkdir(parents=True)
    (tmp_path / ".staging").symlink_to(tmp_path / "open")
    with pytest.raises(RunFailed, match="is a link"):
        area.write_marker("two")
    with pytest.raises(RunFailed, match="is a link"):
        area.create_release()
    assert list((tmp_path / "open" / "a-1").iterdir()) == []


def test_a_release_that_can_not_be_moved_is_kept_and_shown_later(in_sight, capsys, monkeypatch) -> None:
    rename = os.rename

    def refuses(source, target):
        if str(source).endswith("files"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as full:
        full.setattr(os, "rename", refuses)
        assert in_sight.run() == 4
        assert "is made and paid for, but can't be moved" in capsys.readouterr().err
        assert in_sight.run() == 4  # asked again, it says so again
    assert in_sight.manifests() == []
    kills.settle(in_sight)
    assert len(in_sight.manifests()) == 1
    assert in_sight.open_ledger().balance("visits").spent == kills.COST
