"""Whatever becomes of any field of a ledger's file: each command that meets it ends with 3 and words of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpbeam.errors import LedgerError
from dpbeam.ledger import open_ledger
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.rows import BUDGET, CHARGE, ENTRY
from dpbeam.ledger.scope import Protected, Scope
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle.recover import recover
from tests.helpers.ledger_damage import MESSAGE, forged, put, rows

ONE = Amount.charge(1, 1e-6)
PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))
DEEP = 100_000
RELEASE = "20260101T000000Z-00000000"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with charges in every state, whose last rows have something in every column."""
    path = tmp_path_factory.mktemp("whole") / "ledger.sqlite"
    book = open_ledger(str(path), create=True)
    book.create_budget("d", Amount.cap(20, 1e-4))
    for number in range(5):
        charge = reserve(path, "d", f"k{number}")
        if number == 0:
            book.refund(charge)
            continue
        charge = book.start(charge)
        if number == 1:
            book.close(charge)
        if number == 2:
            book.fail_attempt(charge, "pipeline")
    book.publish(charge, manifest_sha256="0" * 64)
    reserve(path, "d", "last", refresh=True)
    return path


def reserve(path: Path, dataset: str, key: str, scope: Scope = PEOPLE, **more: Any) -> Any:
    """What a run asks of a ledger before it reads anything."""
    book = open_ledger(str(path))
    book.find(dataset, key)
    return book.reserve(
        dataset,
        key,
        ONE,
        owner=Owner.current(),
        scope=scope,
        policy_digest="p",
        release_id=RELEASE,
        path=f"/x/d/{RELEASE}",
        **more,
    )


DAMAGE = {
    "no UTF-8": "CAST(x'c328ff' AS TEXT)",
    "half a character": "CAST(x'61ed' AS TEXT)",
    "NUL": "'a' || char(0) || 'b'",
    "bytes": "x'00ff'",
    "nothing": "NULL",
    "empty": "''",
    "the largest number": "9223372036854775807",
    "below zero": "-1",
    "infinity": "9e999",
    "a fraction": "0.5",
    "many digits": f"'{'9' * 100_000}'",
    "deep lists": f"'{'[' * DEEP}{']' * DEEP}'",
    "deep objects": f"""'{'{"a":' * DEEP}1{"}" * DEEP}'""",
    "a huge number": """'{"a":1e999}'""",
    "a lone surrogate": """'{"a":"\\ud800"}'""",
    "a string": """'"text"'""",
}
COLUMNS = {"budgets": BUDGET, "charges": CHARGE, "journal": ENTRY, "meta": ("name", "value")}
COMMANDS: dict[str, Callable[[Path], Any]] = {
    "budget show": lambda path: open_ledger(str(path), reading=True).budget("d"),
    "budget history": lambda path: open_ledger(str(path), reading=True).history("d"),
    "budget verify": lambda path: open_ledger(str(path), reading=True).verify(),
    "budget verify DATASET": lambda path: open_ledger(str(path), reading=True).verify("d"),
    "recover": lambda path: recover(open_ledger(str(path))),
    "run": lambda path: reserve(path, "d", "new"),
}
LINES = (["budget", "show", "d"], ["budget", "history", "d"], ["budget", "verify"], ["recover"])


@pytest.mark.parametrize(("table", "column"), [(table, column) for table in COLUMNS for column in COLUMNS[table]])
def test_damage_of_any_kind_in_any_column_is_refused(whole, tmp_path, capsys, table, column) -> None:
    tried = 0
    for kind, value in DAMAGE.items():
        for where in ("name = 'version'", "name = 'secret'") if table == "meta" else ("TRUE",):
            path = tmp_path / "ledger.sqlite"
            shutil.copy(whole, path)
            if not put(path, (table, column, value, where)):
                continue
            for name, command in COMMANDS.items():
                with pytest.raises(LedgerError) as caught:
                    command(path)
                assert MESSAGE.fullmatch(str(caught.value)), (kind, name)
            line = LINES[tried % len(LINES)]
            assert (invoke([*line, "--ledger", str(path)]), capsys.readouterr().out) == (3, ""), (kind, line)
            tried += 1
            path.unlink()
    assert tried >= 10


def test_the_same_ledger_undamaged_is_taken(whole, tmp_path) -> None:
    path = tmp_path / "ledger.sqlite"
    shutil.copy(whole, path)
    time = "(SELECT time FROM journal WHERE seq = 2)"
    assert put(path, ("journal", "time", "'x'", "seq = 2"))
    shutil.copy(whole, path)
    assert not put(path, ("journal", "time", time, "seq = 2"))
    for command in COMMANDS.values():
        command(path)


@pytest.mark.parametrize("value", [None, -1, 0.5, "\ud800", "a\0b", [1], {"pid": "x"}], ids=repr)
def test_a_history_forged_with_right_hashes_makes_nothing_fall_over(whole, tmp_path, capsys, value) -> None:
    found = {(row["kind"], name) for row in rows(whole) for name in row["details"]}
    assert len(found) > 15
    for kind, name in sorted(found):
        path = tmp_path / "ledger.sqlite"
        shutil.copy(whole, path)

        def change(row: dict[str, Any], kind=kind, name=name) -> dict[str, Any]:
            return row | {"details": row["details"] | {name: value}} if row["kind"] == kind else row

        forged(path, change)
        for line in LINES[:3]:
            code, said = invoke([*line, "--ledger", str(path)]), capsys.readouterr()
            assert code in (0, 3), (kind, name, line, said.err)
            assert code == 0 or MESSAGE.fullmatch(said.err.removeprefix("dpbeam: ").strip()), (kind, name, said.err)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("journal", "fence"),
        ("charges", "fence"),
        ("budgets", "spent_epsilon"),
        ("charges", "path"),
        ("journal", "time"),
        ("journal", "details"),
        ("budgets", "dataset"),
    ],
)
def test_what_is_wrong_with_one_dataset_stops_no_other_and_the_command_says_so(whole, tmp_path, table, column) -> None:
    path = tmp_path / "ledger.sqlite"
    shutil.copy(whole, path)
    open_ledger(str(path)).create_budget("other", Amount.cap(20, 1e-4))
    reserve(path, "other", "k", replace(PEOPLE, sources=("/data/others.csv",)))
    value = {"spent_epsilon": "7", "fence": "9223372036854775807"}.get(column, "'[]'")
    assert put(path, (table, column, value, "dataset = 'other'"))
    book = open_ledger(str(path))
    for fails in (book.verify, lambda: recover(book)):
        with pytest.raises(LedgerError) as caught:
            fails()
        whose = "the dataset that it was of" if column == "dataset" else "dataset other"
        said = f"charged to {whose}; others are charged on, if `dpbeam budget verify DATASET` holds for them. Keep"
        assert said in str(caught.value)
    with pytest.raises(LedgerError, match="doesn't verify"):
        reserve(path, "other", "more")
    assert book.verify("d") > 0
    held = book.balance("d").held
    reserve(path, "d", "new")
    assert book.balance("d").held == held + ONE
