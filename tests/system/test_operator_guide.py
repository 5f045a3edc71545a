"""What the operators' guide says of each way in which a run stops is what happens: the message, the exit code, the
cost, the log, and what the same command does afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.stores.sqlite import file as sqlite_file
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle import charging, release
from dpbeam.pipelines.lifecycle import recover as recovering
from tests.helpers import kills
from tests.helpers.disks import mounted
from tests.helpers.endings import PROGRAM
from tests.helpers.locking import locked
from tests.helpers.operator import sections

SECTIONS = sections()
TWICE = Amount(epsilon=2 * kills.COST.epsilon, delta=2 * kills.COST.delta)


@dataclass
class Operator:
    """Runs commands, and looks each ending up in the guide."""

    workspace: object
    capsys: pytest.CaptureFixture[str]

    def ends(self, section: str, code: int, *flags: str) -> str:
        """The run ends as the section says; returns what it said."""
        found = SECTIONS[section]
        ended, said = self.workspace.run(*flags), self.said()
        assert ended == code, said
        assert str(code) in found.exit_code.split(", ")
        assert found.says(said), said
        return said

    def said(self) -> str:
        return "".join(reversed(self.capsys.readouterr()))

    def recovers(self, outcome: str) -> None:
        assert invoke(["recover", "--ledger", self.workspace.ledger]) == 0
        assert f": {outcome}" in self.said()

    @property
    def spent(self) -> Amount:
        return self.workspace.open_ledger().balance("visits").spent


@pytest.fixture
def operator(workspace, capsys) -> Operator:
    workspace.create_budget()
    return Operator(workspace, capsys)


@pytest.fixture
def as_another_process(monkeypatch) -> None:
    """Runs of this process are as if they had died: `recover` and the next run come from another one."""
    for module in (recovering, charging):
        monkeypatch.setattr(module, "alive", lambda _: False)


@contextlib.contextmanager
def after(name: str, act: Callable[[], object]):
    """Does something real right after a step of the lifecycle."""
    step = getattr(release, name)

    def work(value):
        done = step(value)
        act()
        return done

    kills.does(name, work)
    try:
        yield
    finally:
        setattr(release, name, step)


def fill(folder: Path) -> None:
    """Leaves no byte free on the folder's disk."""
    with contextlib.suppress(OSError), (folder / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 512)


def test_a_full_disk_of_the_output(operator) -> None:
    workspace = operator.workspace
    with mounted(workspace.output, "-o", "size=64k"):
        said = operator.ends("The disk of the output is full", 4)
        assert f"{kills.COST} of dataset visits stays spent" in said
        assert len(workspace.logs()) == 1
        assert workspace.run("--output", str(workspace.folder / "elsewhere")) == 4  # the charge has its folder
        subprocess.run(["mount", "-o", "remount,size=8m", str(workspace.output)], check=True)
        assert workspace.run() == 0
    assert operator.spent == kills.COST


def test_a_full_disk_of_the_ledger(operator, tmp_path, monkeypatch) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-o", "size=400k"):
        monkeypatch.setattr(type(operator.workspace), "ledger", f"sqlite:///{disk / 'ledger.sqlite'}")
        operator.workspace.create_budget()
        fill(disk)
        operator.ends("The disk of the ledger is full", 3)
        (disk / "fill").unlink()
        assert operator.spent == ZERO
        assert operator.workspace.logs() == []
        assert invoke(["budget", "verify", "--ledger", operator.workspace.ledger]) == 0
        assert operator.workspace.run() == 0


@pytest.mark.usefixtures("as_another_process")
def test_a_disk_of_the_ledger_that_fills_up_while_a_run_works(operator, tmp_path, monkeypatch) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-o", "size=400k"):
        monkeypatch.setattr(type(operator.workspace), "ledger", f"sqlite:///{disk / 'ledger.sqlite'}")
        operator.workspace.create_budget()
        with after("assemble", lambda: fill(disk)):
            operator.ends("The release is made, and the ledger can't be told", 3)
        assert operator.workspace.manifests() == []
        assert operator.workspace.logs() == []
        (disk / "fill").unlink()
        operator.recovers("published")
        assert len(operator.workspace.manifests()) == 1
        assert operator.spent == kills.COST


def test_a_locked_ledger(operator, monkeypatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.05)
    with locked(operator.workspace.folder / "ledger.sqlite"):
        operator.ends("The ledger is locked", 3)
    assert operator.spent == ZERO
    assert operator.workspace.logs() == []
    assert operator.workspace.run() == 0


@pytest.mark.parametrize("damage", ["bytes", "an entry"])
def test_a_damaged_ledger(operator, damage) -> None:
    path = operator.workspace.folder / "ledger.sqlite"
    backup = path.read_bytes()
    if damage == "bytes":
        path.write_bytes(backup[:5000] + bytes(4000) + backup[9000:])
    else:
        path.write_bytes(backup.replace(b'"budget_created"', b'"budget_createx"').replace(b"person", b"qerson"))
        assert path.read_bytes() != backup
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    operator.ends("The ledger is damaged", 3)
    assert operator.workspace.logs() == []
    assert invoke(["recover", "--ledger", operator.workspace.ledger]) == 3
    path.write_bytes(backup)
    assert operator.spent == ZERO
    assert operator.workspace.run() == 0


def test_a_release_that_can_not_be_moved_into_place(operator) -> None:
    workspace = operator.workspace
    folder = workspace.output / "visits"

    def in_the_way() -> None:
        """A folder that isn't empty stands where the release is to be."""
        (charge,) = workspace.open_charges()
        (folder / charge.release_id).mkdir(parents=True)
        (folder / charge.release_id / "note.txt").write_text("mine")

    with after("assemble", in_the_way):
        operator.ends("The release is made, and can't be moved into place", 4)
    assert operator.spent == kills.COST
    (left,) = folder.glob("*/note.txt")
    left.unlink()
    left.parent.rmdir()
    operator.recovers("published")
    assert len(workspace.manifests()) == 1
    assert operator.spent == kills.COST


def test_an_input_that_is_rewritten_between_the_charge_and_the_reading(operator) -> None:
    data = operator.workspace.folder / "data.csv"
    with after("start", lambda: data.write_text(data.read_text().replace("inn", "pub"))):
        said = operator.ends("The input was rewritten", 4)
    assert f"{kills.COST} of dataset visits stays spent" in said
    assert operator.workspace.manifests() == []
    assert len(operator.workspace.logs()) == 1
    assert operator.workspace.run() == 0
    assert operator.spent == TWICE  # another input is charged anew, as the guide warns
    operator.recovers("closed")


def test_a_column_that_breaks_its_rule_until_no_attempt_is_left(operator) -> None:
    workspace = operator.workspace
    workspace.policy["columns"]["amount"]["on_invalid"] = "fail"
    workspace.csv("p1,inn,1", "p2,inn,many")
    for _ in range(3):
        assert workspace.run() == 4
    assert len(workspace.logs()) == 3
    operator.ends("All attempts failed", 3)
    assert len(workspace.logs()) == 3
    assert operator.spent == kills.COST
    operator.recovers("closed")
    assert workspace.run() == 3
    assert workspace.run("--refresh") == 4
    assert operator.spent == TWICE


def killed(operator: Operator) -> None:
    def work() -> None:
        kills.does("verify", kills.die)
        operator.workspace.run()

    status = os.waitpid(kills.forked(work), 0)[1]
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_after_a_kill_the_same_command_goes_on_at_no_further_cost(operator) -> None:
    killed(operator)
    assert operator.workspace.run() == 0
    assert operator.spent == kills.COST


def test_after_a_kill_and_recover_the_same_command_is_refused(operator) -> None:
    killed(operator)
    operator.recovers("closed")
    assert operator.workspace.run() == 3
    assert SECTIONS["It was killed"].says(operator.said())
    assert operator.workspace.run("--refresh") == 0
    assert operator.spent == TWICE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal(operator, number) -> None:
    with after("start", lambda: signal.raise_signal(number)):
        said = operator.ends("It was stopped", 128 + number)
    assert f"{kills.COST} of dataset visits stays spent" in said
    assert operator.workspace.left_behind() == []
    assert operator.workspace.run() == 0
    assert operator.spent == kills.COST


def test_too_little_left(operator) -> None:
    workspace = operator.workspace
    workspace.policy["run"]["epsilon"] = 6.0
    assert workspace.run("--release", "one") == 0
    spent = operator.spent
    ledger = workspace.open_ledger()
    held = next(iter(workspace.published_charges()))
    ledger.reserve(
        "visits", "held", Amount.charge(1, 1e-8), owner=Owner.current(), scope=ledger_scope(workspace),
        policy_digest=held.policy_digest, release_id="20260101T000000Z-00000000",
    )  # fmt: skip
    operator.ends("Too little is left", 3, "--release", "two")
    assert operator.spent == spent
    assert workspace.logs() == []


def ledger_scope(workspace):
    from dpbeam.ledger.scope import Protected, Scope

    return Scope(protected=Protected(unit="person"), sources=(str(workspace.folder / "data.csv"),))


def test_the_same_release_that_is_being_made(operator) -> None:
    workspace, said = operator.workspace, []
    words = ["run", str(workspace.policy_path), "--ledger", workspace.ledger, "--output", str(workspace.output)]

    def second() -> None:
        said.append(subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=False))

    with after("start", second):
        assert workspace.run() == 0
    (done,) = said
    assert done.returncode == 3
    assert SECTIONS["The same release is being made"].says(done.stderr), done.stderr
    assert workspace.run() == 0
    assert operator.spent == kills.COST


def test_a_run_that_was_begun_on_another_host(operator, monkeypatch) -> None:
    with monkeypatch.context() as elsewhere:
        there = replace(Owner.current(), host="elsewhere")
        elsewhere.setattr(Owner, "current", lambda: there)
        killed(operator)
    said = operator.ends("It was begun on another host", 3)
    operator.recovers("unknown")
    (charge,) = operator.workspace.open_charges()
    assert f"dpbeam recover --charge {charge.id} --force" in said
    words = ["recover", "--charge", charge.id, "--force", "--ledger", operator.workspace.ledger]
    assert invoke(words) == 0
    assert ": closed" in operator.said()
    assert operator.spent == kills.COST


@pytest.mark.usefixtures("as_another_process")
def test_staging_that_something_is_mounted_in(operator) -> None:
    workspace = operator.workspace
    with contextlib.ExitStack() as stack:

        def mount() -> None:
            (folder,) = (path for path in workspace.output.rglob("*") if path.is_dir() and path.name.endswith("-1"))
            stack.enter_context(mounted(folder / "in the way"))
            raise SystemError("a library's error")

        with after("run_job", mount):
            assert workspace.run() == 4
        operator.said()
        operator.ends("Staging is in the way", 4)
    assert workspace.run() == 0


@pytest.mark.usefixtures("as_another_process")
def test_an_internal_error(operator) -> None:
    def fails() -> None:
        raise SystemError("a library's error")

    with after("run_job", fails):
        said = operator.ends("An internal error", 4)
    assert "a library's error" not in said
    (log,) = operator.workspace.logs()
    assert "a library's error" in log.read_text(encoding="utf-8")
    assert operator.workspace.run() == 0
    assert operator.spent == kills.COST
