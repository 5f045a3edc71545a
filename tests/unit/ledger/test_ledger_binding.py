"""A budget is spent on one privacy unit, and on sources that were meant; older ledgers are bound as they go on."""

from __future__ import annotations

import os
import re
import sqlite3
import warnings
from pathlib import Path

import pytest
from apache_beam.io.filesystem import FileSystem
from hypothesis import example, given
from hypothesis import strategies as st

from dpbeam.errors import LedgerError, Refused, UsageError
from dpbeam.ledger import Ledger, open_ledger
from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.budget_facts import SourceAccepted
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import MAX_SOURCES, Protected, Scope, covers
from dpbeam.pipelines.lifecycle import identity
from dpbeam.policy.compile import query
from dpbeam.policy.schema.policy import Policy

ONE = Amount.charge(1, 1e-6)
CAP = Amount.cap(10, 1e-4)
OLD = Path(__file__).parents[2] / "data" / "ledger-1.sql"
"""What version 0.1.0 wrote: charges in every state, as SQLite's own dump."""


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    made = open_ledger(str(tmp_path / "ledger.sqlite"), create=True)
    made.create_budget("people", CAP)
    made.create_budget("others", CAP)
    return made


def scope(unit: str = "person", *sources: str, files: tuple[str, ...] = ()) -> Scope:
    return Scope(protected=Protected(unit=unit), sources=sources or ("/data/people.csv",), files=files)


def reserve(book: Ledger, what: Scope, dataset: str = "people", *, accept: bool = False) -> Charge:
    return book.reserve(
        dataset,
        os.urandom(8).hex(),
        ONE,
        owner=Owner.current(),
        scope=what,
        policy_digest="p",
        release_id="r",
        path="/x",
        accept_source=accept,
    )


def test_the_first_charge_binds_the_budget_and_the_journal_says_so(book) -> None:
    reserve(book, scope("person", "/data/a.csv", "/data/b.csv"))
    budget = book.budget("people")
    assert (budget.protected, budget.sources) == (Protected(unit="person"), ("/data/a.csv", "/data/b.csv"))
    kinds = [(entry.kind, entry.record.amount == ZERO) for entry in book.history("people")]
    assert kinds == [("budget_created", False), ("unit_bound", True), ("source_accepted", True), ("reserved", False)]
    book.verify()


@pytest.mark.parametrize(("first", "second"), [("person", "row"), ("row", "person"), ("person", "household")])
def test_a_charge_of_another_unit_is_refused_and_leaves_no_trace(book, first, second) -> None:
    reserve(book, scope(first))
    before = book.history("people")
    with pytest.raises(Refused) as caught:
        reserve(book, scope(second), accept=True)
    assert str(caught.value) == (
        f"dataset people: its budget protects one {first}, added or removed; the policy protects one {second}, added "
        "or removed. What is lost of the one can't be added to what is lost of the other. Nothing was charged. What "
        "you can do: set privacy_unit to that of the budget; or give the policy another dataset, with a budget of its "
        "own, knowing that both budgets then count for whoever is in both."
    )
    assert book.history("people") == before


def test_a_budget_made_for_a_unit_is_bound_from_the_start(book) -> None:
    book.create_budget("rows", CAP, protected=Protected(unit="row"))
    assert book.budget("rows").protected == Protected(unit="row")
    with pytest.raises(Refused, match="its budget protects one row, added or removed; the policy protects one person"):
        reserve(book, scope("person"), "rows")
    reserve(book, scope("row"), "rows")
    assert [entry.kind for entry in book.history("rows")] == ["budget_created", "source_accepted", "reserved"]


def test_a_refused_first_charge_binds_nothing(book) -> None:
    with pytest.raises(Refused, match="only ε 10"):
        book.reserve(
            "people",
            "k",
            Amount.charge(11, 1e-6),
            owner=Owner.current(),
            scope=scope(),
            policy_digest="p",
            release_id="r",
        )
    assert book.budget("people").protected is None


def test_another_source_needs_a_word_once(book) -> None:
    reserve(book, scope())
    with pytest.raises(Refused) as caught:
        reserve(book, scope("person", "/data/new.csv"))
    assert str(caught.value) == (
        "dataset people: its budget was spent on /data/people.csv; this run reads /data/new.csv. Nothing was charged. "
        "What you can do: if that holds data of the same people (it was moved, or it goes on), say so with "
        "--accept-source, which the journal keeps: it is another input, so a new release is made and charged; if it is "
        "about other people, give the policy another dataset, with a budget of its own."
    )
    reserve(book, scope("person", "/data/new.csv"), accept=True)
    reserve(book, scope("person", "/data/new.csv"))
    reserve(book, scope())
    accepted = [entry.fact for entry in book.history("people") if isinstance(entry.fact, SourceAccepted)]
    assert [fact.sources for fact in accepted if fact.asked] == [("/data/new.csv",)]


@pytest.mark.parametrize(
    ("known", "read", "files"),
    [
        ("/data/people.csv", "/data/people.csv", ("/data/people.csv",)),
        ("/data/*.csv", "/data/people.csv", ("/data/people.csv",)),
        ("/data/people.csv", "/data/*.csv", ("/data/people.csv", "/data/z.csv")),
        ("/data/p*.csv", "/data/*e.csv", ("/data/people.csv", "/data/e.csv")),
        ("/data", "/data/2026/people.csv", ("/data/2026/people.csv",)),
        ("/data/2026/people.csv", "/data", ("/data/2026/people.csv",)),
    ],
)
def test_a_source_of_another_dataset_needs_a_word(book, known, read, files) -> None:
    reserve(book, scope("person", known))
    with pytest.raises(
        Refused, match="which is read under the name of people too, so the same people would lose of two"
    ):
        reserve(book, scope("person", read, files=files), "others")
    reserve(book, scope("person", read, files=files), "others", accept=True)
    assert book.history("others")[-2].fact.also_of == ("people",)
    reserve(book, scope("person", known))  # its own source goes on as before
    book.verify()


def test_a_part_of_an_accepted_source_needs_no_word(book) -> None:
    reserve(book, scope("person", "/data/*/part.csv"))
    reserve(book, scope("person", "/data/2026/part.csv", files=("/data/2026/part.csv",)))
    with pytest.raises(Refused, match="--accept-source"):
        reserve(book, scope("person", "/data/2026/x.csv", files=("/data/2026/x.csv",)))


@given(st.text("ab*?[]!^-&|~/.\\", max_size=9), st.text("ab[]^!-&|~/.\\", max_size=6))
@example("[[]", "[")
@example("[[]*", "[a")
@example("[!a&&b]", "&")
@example("[!a&&b]", "/")
@example("[a||b]", "|")
@example("[a~~b]", "~")
@example("[!--a]", "-")
@example("[!--a]", "!")
@example("[a----b]", "-")
@example("[a----b]", ".")
def test_a_pattern_stands_for_the_files_that_beam_finds(pattern, name) -> None:
    beam = found_by_beam(pattern, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Python warns of sets that it may come to read in another way
        found = covers(pattern, name)
    assert found == (beam or name == pattern or name.startswith(pattern.rstrip("/") + "/"))


def found_by_beam(pattern: str, name: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return re.fullmatch(FileSystem.translate_pattern(pattern), name) is not None
        except re.error:
            return False


def test_links_and_ways_of_writing_it_make_no_other_source(tmp_path, monkeypatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("x")
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    real = os.path.realpath(tmp_path)
    for path in ("data/a.csv", "./link/../data//a.csv", "link/a.csv", f"{tmp_path}/data/a.csv"):
        assert identity.source(path) == f"{real}/data/a.csv"
    assert identity.source("link/*.csv") == f"{real}/data/*.csv"
    assert identity.source("link/") == f"{real}/data"
    assert identity.source("gs://bucket/a/") == "gs://bucket/a"


def old_ledger(folder: Path) -> Path:
    path = folder / "old.sqlite"
    with sqlite3.connect(path) as raw:
        raw.executescript(OLD.read_text(encoding="utf-8"))
    raw.close()
    return path


def test_a_ledger_of_version_1_is_migrated_with_its_journal_as_it_was(tmp_path) -> None:
    path = old_ledger(tmp_path)
    with sqlite3.connect(path) as raw:
        columns = [row[1] for row in raw.execute("PRAGMA table_info(journal)")]
        before = raw.execute(f"SELECT {', '.join(columns)} FROM journal ORDER BY dataset, seq").fetchall()
    raw.close()
    book = open_ledger(str(path))
    assert book.verify() == 17
    assert book.balance("people").spent == Amount.charge(4, 4e-6)
    assert book.balance("people").held == ONE
    assert (book.budget("people").protected, book.budget("people").sources) == (None, ())
    with sqlite3.connect(path) as raw:
        assert raw.execute(f"SELECT {', '.join(columns)} FROM journal ORDER BY dataset, seq").fetchall() == before
    raw.close()


def test_a_migrated_budget_that_was_spent_is_bound_by_a_word_and_its_next_charge(tmp_path) -> None:
    path = str(old_ledger(tmp_path))
    with pytest.raises(Refused, match=r"that didn't note for whom; the policy protects one row,"):
        reserve(open_ledger(path), scope("row"))
    assert open_ledger(path).budget("people").protected is None
    reserve(open_ledger(path), scope("row"), accept=True)
    assert open_ledger(path).history("people")[-2].fact.asked
    assert open_ledger(path).budget("people").protected == Protected(unit="row")
    with pytest.raises(Refused, match="its budget protects one row"):
        reserve(open_ledger(path), scope("person"))
    assert open_ledger(path).verify() == 20


def test_a_migrated_budget_of_which_nothing_is_spent_needs_no_word(tmp_path) -> None:
    path = old_ledger(tmp_path)
    book = open_ledger(str(path))
    unspent = [name for name in book.datasets() if book.balance(name).left == book.balance(name).cap]
    for name in unspent:
        reserve(book, scope("row", f"/data/{name}.csv"), name)
        assert book.budget(name).protected == Protected(unit="row")
    assert unspent


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE budgets SET privacy_unit = 'row'",
        "UPDATE budgets SET privacy_unit = NULL, neighbours = NULL",
        "UPDATE budgets SET neighbours = 'x'",
        "UPDATE budgets SET sources = '[]'",
        """UPDATE budgets SET sources = '["/data/people.csv", "/data/y"]'""",
        "UPDATE budgets SET sources = '['",
    ],
)
def test_a_budget_bound_behind_the_ledgers_back_is_found(book, tmp_path, change) -> None:
    reserve(book, scope())
    with sqlite3.connect(tmp_path / "ledger.sqlite") as raw:
        raw.execute(change + " WHERE dataset = 'people'")
    raw.close()
    with pytest.raises(LedgerError, match="doesn't verify"):
        reserve(book, scope())


def bound_policy(unit: str, *paths: str) -> Policy:
    return Policy.model_validate(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": list(paths)},
            "privacy_unit": unit,
            "columns": {unit: {"type": "string"}},
            "run": {"epsilon": 1.0, "delta": 1e-6},
            "stages": [
                {
                    "name": "s",
                    "group_by": [],
                    "bounds": {"l0": 1, "linf": 1},
                    "noise": "laplace",
                    "metrics": ["count"],
                }
            ],
        }
    )


def test_more_paths_than_a_ledger_keeps_are_refused_with_a_remedy() -> None:
    made = bound_policy("person", *(f"/data/{day}.csv" for day in range(MAX_SOURCES + 1)))
    with pytest.raises(UsageError) as refused:
        identity.scope(query(made), ["/data/0.csv"])
    assert str(refused.value) == (
        "source.path must be 1 to 1000 paths, got 1001; name their folder or a pattern in place of many files, by "
        "names in UTF-8. Nothing was charged"
    )


def test_a_path_that_is_no_text_is_refused_with_a_remedy(monkeypatch) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: "/data/\udcff")
    with pytest.raises(UsageError, match=r"source.path must be valid Unicode; name their folder .* in UTF-8"):
        identity.scope(query(bound_policy("person", "a.csv")), [])


def test_a_unit_whose_name_no_ledger_keeps_is_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match=r"privacy unit must be text .* without NUL; rename the column in the source"):
        identity.protected(bound_policy("a\0b", "a.csv"))
