"""What `recover` removes is a broken run's own: not what a changed ledger names, nor what a link leads to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.rows import CHARGE
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle import attempts, publish
from dpbeam.transforms.wire.staging import Area
from tests.helpers import kills, ledger_damage


class Broken:
    """A workspace whose run was killed with draws in staging, beside a folder that is somebody else's."""

    def __init__(self, workspace) -> None:
        self.workspace, self.victim = workspace, workspace.folder / "victim"
        workspace.create_budget()
        assert workspace.run("--release", "other") == 0

        def work() -> None:
            Area.read_stage = kills.die
            workspace.run()

        assert os.WIFSIGNALED(os.waitpid(kills.forked(work), 0)[1])
        (self.charge,) = workspace.open_charges()
        self.staged = Path(attempts.staging_area(self.charge).path)
        assert list(self.staged.iterdir()) != []
        self.victim.mkdir()
        (self.victim / "precious.csv").write_text("x")
        self._kept = workspace.folder.with_name(f"{workspace.folder.name}-kept")
        shutil.copytree(workspace.folder, self._kept)

    @property
    def ledger(self) -> Path:
        return self.workspace.folder / "ledger.sqlite"

    def back(self) -> None:
        """As it was after the kill."""
        shutil.rmtree(self.workspace.folder)
        shutil.copytree(self._kept, self.workspace.folder)

    def others(self) -> dict[str, bytes]:
        """All files but those that the killed run left, and the ledger's."""
        found = [path for path in self.workspace.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        own = [path for path in found if self.staged in path.parents or path.name.startswith("ledger.sqlite")]
        return {str(path): path.read_bytes() for path in {*found} - {*own}}

    def recover(self) -> int:
        return invoke(["recover", "--ledger", self.workspace.ledger])


@pytest.fixture
def broken(workspace, capsys) -> Broken:
    return Broken(workspace)


def test_recover_removes_what_the_run_left_and_nothing_else(broken, capsys) -> None:
    before = broken.others()
    assert broken.recover() == 0
    assert not broken.staged.exists()
    assert broken.others() == before
    kills.settle(broken.workspace)


def test_a_ledger_that_does_not_verify_makes_recover_remove_nothing(broken, capsys) -> None:
    """One UPDATE of any column, to any folder, is enough for it to say no."""
    open_row, tried = f"id = '{broken.charge.id}'", 0
    folders = [broken.victim, broken.victim / "visits" / "x", f"../../{broken.victim.name}", "..", "."]
    for column in CHARGE:
        for folder in folders:
            broken.back()
            if not ledger_damage.put(broken.ledger, ("charges", column, f"'{folder}'", open_row)):
                continue
            tried += 1
            before = broken.others()
            capsys.readouterr()
            assert broken.recover() == 3, (column, folder)
            assert ledger_damage.MESSAGE.search(capsys.readouterr().err)
            assert broken.workspace.run() == 3, (column, folder)
            assert broken.others() == before, (column, folder)
            assert list(broken.staged.iterdir()) != [], (column, folder)
    assert tried >= 60


def test_a_ledger_that_does_not_verify_gives_no_release_again(broken, capsys) -> None:
    """What is finished and removed then is where the charge says."""
    (published,) = broken.workspace.published_charges()
    for column, value in (("id", "'../victim'"), ("path", f"'{broken.victim}'"), ("attempt", "2")):
        broken.back()
        assert ledger_damage.put(broken.ledger, ("charges", column, value, f"id = '{published.id}'"))
        before = broken.others()
        capsys.readouterr()
        assert broken.workspace.run("--release", "other") == 3, column
        assert "doesn't verify" in capsys.readouterr().err
        assert broken.others() == before


def forged(broken: Broken, **changes: object) -> Charge:
    """Has journal and table, with right hashes, say other things of the broken run."""
    id = broken.charge.id

    def change(row):
        if row["charge_id"] != id:
            return row
        details = {name: changes.get(name, value) for name, value in row["details"].items()}
        return row | {"details": details, "charge_id": changes.get("id", id)}

    ledger_damage.forged(broken.ledger, change, "visits")
    columns = sorted(changes, key="id".__eq__)  # the id last, for the row is found by it
    ledger_damage.put(broken.ledger, *(("charges", name, f"'{changes[name]}'", f"id = '{id}'") for name in columns))
    broken.workspace.open_ledger().verify()
    (charge,) = broken.workspace.open_charges()
    return charge


def pending_of(broken: Broken) -> bytes:
    return (broken.workspace.release_folder() / "manifest.json").read_bytes()


FORGED: dict[str, Callable[[Broken], dict[str, object]]] = {
    "a folder by another name": lambda b: {"path": str(b.victim)},
    "a relative path": lambda b: {"path": f"victim/visits/{b.charge.release_id}"},
    "a path that climbs": lambda b: {"path": f"{b.victim}/visits/..", "release_id": ".."},
    "another release's name": lambda b: {"path": str(b.workspace.release_folder())},
    "another release as its own": lambda b: {
        "path": str(b.workspace.release_folder()), "release_id": b.workspace.release_folder().name,
    },
    "a folder of the right name, with other things": lambda b: {
        "path": str(b.victim / "visits" / b.charge.release_id),
    },
    "an id that climbs": lambda b: {"id": "../../victim"},
    "no path": lambda b: {},
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_not_even_right_hashes_make_recover_remove_what_is_another_s(broken, capsys, what) -> None:
    named = broken.victim / "visits" / broken.charge.release_id
    named.mkdir(parents=True)
    (named / "precious.csv").write_text("x")
    (named / "folder").mkdir()
    (broken.victim.with_name("victim-1")).mkdir()
    (broken.victim.with_name("victim-1") / "precious.csv").write_text("x")
    (broken.workspace.output / "visits" / "x").mkdir()
    changes = FORGED[what](broken)
    if changes:
        forged(broken, **changes)
    before = broken.others()
    code = broken.recover()
    assert broken.others() == before
    assert code == (4 if changes else 0), capsys.readouterr().err
    if changes:
        assert "so it isn't removed, though the ledger names it" in capsys.readouterr().err


def elsewhere(broken: Broken) -> Path:
    """A folder that isn't the run's, with files that are named as the run's are."""
    made = broken.workspace.folder / "elsewhere"
    shutil.copytree(broken.workspace.output, made)
    (made / "precious.parquet").write_text("x")
    return made


def link(at: Path, to: Path) -> None:
    if at.is_symlink() or at.is_file():
        at.unlink()
    elif at.exists():
        shutil.rmtree(at)
    at.parent.mkdir(exist_ok=True)
    at.symlink_to(to)


LINKS: dict[str, Callable[[Broken, Path], None]] = {
    ".staging": lambda b, away: link(b.staged.parent, away / ".staging"),
    "the attempt's folder": lambda b, away: link(b.staged, away / ".staging" / b.staged.name),
    "a file in the attempt's folder": lambda b, away: link(b.staged / "link", away / "precious.parquet"),
    "a folder in the attempt's folder": lambda b, away: link(b.staged / "link", away),
    "the folder of the release in staging": lambda b, away: link(Path(f"{b.staged}.release"), away),
    "the release in staging": lambda b, away: link(Path(f"{b.staged}.release") / "files", away),
    "the dataset's folder": lambda b, away: link(b.workspace.output / "visits", away / "visits"),
    "the release's folder": lambda b, away: link(Path(b.charge.path), away),
    "a file in the release's folder": lambda b, away: link(Path(b.charge.path) / "a.csv", away / "precious.parquet"),
    "a folder in the release's folder": lambda b, away: link(Path(b.charge.path) / "a.csv", away),
}


@pytest.mark.parametrize("what", LINKS)
def test_recover_never_follows_a_link_out(broken, capsys, what) -> None:
    away = elsewhere(broken)
    (away / "visits" / broken.charge.release_id).mkdir()
    (away / "visits" / broken.charge.release_id / "by_place.csv").write_text("x")
    LINKS[what](broken, away)
    before = {path: path.read_bytes() for path in away.rglob("*") if path.is_file()}
    assert broken.recover() in (0, 4)
    assert {path: path.read_bytes() for path in away.rglob("*") if path.is_file()} == before
    assert broken.workspace.open_charges() == []


def test_a_folder_that_version_0_1_0_left_is_removed_and_one_of_another_release_is_not(broken, capsys) -> None:
    folder = Path(broken.charge.path)
    for name, goes in ((publish.PENDING_NAME, False), ("half.parquet", True)):
        broken.back()
        folder.mkdir()
        (folder / "by_place.csv").write_text("x")
        (folder / name).write_bytes(pending_of(broken))
        assert broken.recover() == (0 if goes else 4)
        assert folder.exists() != goes


def test_a_published_charge_under_a_forged_name_loses_no_folder(broken, capsys) -> None:
    """What is finished, not only what is given up, is recognized first."""
    (published,) = broken.workspace.published_charges()
    victim = broken.workspace.output / "victim-1"
    victim.mkdir()
    (victim / "precious.csv").write_text("x")
    ledger_damage.forged(
        broken.ledger,
        lambda row: row | {"charge_id": "../victim"} if row["charge_id"] == published.id else row,
        "visits",
    )
    ledger_damage.put(broken.ledger, ("charges", "id", "'../victim'", f"id = '{published.id}'"))
    broken.workspace.open_ledger().verify()
    assert broken.recover() == 0
    assert broken.workspace.run("--release", "other") == 4
    assert "isn't named as releases and charges are" in capsys.readouterr().err
    assert (victim / "precious.csv").exists()
