"""A ledger that moves between databases: closed where it was, whole where it goes, and nowhere twice."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dpbeam.errors import LedgerError, Refused
from dpbeam.ledger import Amount, Charge, Ledger, Owner, Protected, Scope, open_ledger
from dpbeam.ledger.meters import GDP
from dpbeam.ledger.moving import Export
from dpbeam.pipelines.cli.main import invoke

ONE = Amount.charge(1, 1e-6)
PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/größe.csv",))
SHA = "0" * 64


def reserve(book: Ledger, dataset: str = "people", key: str = "k") -> Charge:
    return book.reserve(
        dataset, key, ONE, owner=Owner.current(), scope=PEOPLE, policy_digest="p", release_id=f"r-{key}", path="/x",
        accept_source=True,
    )  # fmt: skip


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite", "postgresql to postgresql"])
def urls(request, postgres, tmp_path) -> tuple[str, str]:
    """Where the ledger is, and where it shall go."""
    numbers = itertools.count()
    new: dict[str, Callable[[], str]] = {
        "sqlite": lambda: f"sqlite:///{tmp_path}/ledger-{next(numbers)}.sqlite",
        "postgresql": postgres.url,
    }
    here, there = request.param.split(" to ")
    return new[here](), new[there]()


@pytest.fixture
def book(urls) -> Ledger:
    """Two datasets, with charges that were published, given up and given back."""
    made = open_ledger(urls[0], create=True)
    for dataset in ("people", "others"):
        made.create_budget(dataset, Amount.cap(3, 1e-5))
    made.publish(made.start(reserve(made)), manifest_sha256=SHA)
    made.close(made.start(reserve(made, key="closed")))
    made.refund(reserve(made, "others"))
    return made


def moved(urls: tuple[str, str], file: Path) -> int:
    return invoke(["budget", "export", str(file), "--ledger", urls[0], "--to", urls[1]])


def taken(url: str, file: Path) -> int:
    return invoke(["budget", "import", str(file), "--ledger", url])


def test_it_goes_on_with_the_same_chain_the_same_secret_and_the_same_balance(urls, book, tmp_path, capsys) -> None:
    histories = {dataset: book.history(dataset) for dataset in book.datasets()}
    file = tmp_path / "file"
    assert moved(urls, file) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert taken(urls[1], file) == 0
    there = open_ledger(urls[1])
    assert there.secret() == book.secret()
    assert there.charges() == book.charges()
    for dataset, entries in histories.items():
        assert there.balance(dataset) == book.balance(dataset)
        assert there.history(dataset)[:-2] == entries
        assert [entry.kind for entry in there.history(dataset)[-2:]] == ["moved", "arrived"]
    there.start(reserve(there, key="next"))
    assert there.balance("people").left.epsilon == 0
    assert there.verify() == (9 + 2 + 2) + (5 + 2)
    assert invoke(["budget", "history", "people", "--ledger", urls[0]]) == 0
    assert "nothing is charged here any more" in capsys.readouterr().out.replace("\n", " ")


def test_where_it_was_nothing_is_charged_any_more_and_nothing_begun(urls, book, tmp_path) -> None:
    assert moved(urls, tmp_path / "file") == 0
    with pytest.raises(Refused, match=r"the ledger was moved to .*, and nothing is charged here any more"):
        reserve(book, key="more")
    with pytest.raises(Refused, match="the ledger was moved to"):
        book.create_budget("third", Amount.cap(1, 1e-6))
    assert book.find("people", "k").state == "PUBLISHED"
    book.verify()


def test_it_is_exported_again_to_the_same_place_alone_and_is_the_same(urls, book, tmp_path, capsys) -> None:
    assert moved(urls, tmp_path / "one") == 0
    assert moved(urls, tmp_path / "two") == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert moved((urls[0], f"sqlite:///{tmp_path}/elsewhere"), tmp_path / "three") == 3
    assert "was moved to" in capsys.readouterr().err
    assert not (tmp_path / "three").exists()


def test_it_is_imported_once_and_at_its_place_alone(urls, book, tmp_path, capsys) -> None:
    file = tmp_path / "file"
    assert moved(urls, file) == 0
    assert taken(f"sqlite:///{tmp_path}/elsewhere", file) == 3
    assert "can be imported there alone" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "elsewhere").exists()
    assert taken(urls[1], file) == 0
    there = open_ledger(urls[1])
    reserve(there, key="next")
    before = there.verify()
    assert taken(urls[1], file) == 3
    assert "there is a ledger at" in capsys.readouterr().err
    assert there.verify() == before


def test_another_ledger_is_never_written_over(urls, book, tmp_path) -> None:
    open_ledger(urls[1], create=True).create_budget("people", Amount.cap(1, 1e-6))
    before = open_ledger(urls[1]).history("people")
    assert moved(urls, tmp_path / "file") == 0
    assert taken(urls[1], tmp_path / "file") == 3
    assert open_ledger(urls[1]).history("people") == before


def test_a_run_that_is_unfinished_stops_the_move_before_anything_is_closed(urls, book, tmp_path, capsys) -> None:
    charge = reserve(book, key="running")
    assert moved(urls, tmp_path / "file") == 3
    assert f"has 1 unfinished runs (the first is charge {charge.id})" in capsys.readouterr().err.replace("\n", " ")
    book.start(charge)


def test_a_file_that_is_there_or_cannot_be_stops_the_move_before_anything_is_closed(urls, book, tmp_path) -> None:
    (tmp_path / "there").write_text("mine")
    assert moved(urls, tmp_path / "there") == 2
    assert moved(urls, tmp_path / "no" / "folder") == 2
    assert (tmp_path / "there").read_text() == "mine"
    reserve(book, key="more")


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("place", range(18))
def test_a_changed_file_is_refused(place, tmp_path, capsys) -> None:
    """Cut off, or with any line changed, doubled or left out: also where the digest of the file was made anew."""
    url, to = f"sqlite:///{tmp_path}/a", f"sqlite:///{tmp_path}/b"
    book = open_ledger(url, create=True)
    book.create_budget("people", Amount.cap(3, 1e-5))
    book.create_budget("others", Amount.cap(3, 1e-5))
    book.publish(book.start(reserve(book)), manifest_sha256=SHA)
    file = tmp_path / "file"
    assert moved((url, to), file) == 0
    whole = lines(file)
    place %= len(whole) - 1
    for change in (
        lambda found: found[:place] + found[place + 1 :],
        lambda found: [*found[: place + 1], *found[place:]],
        lambda found: [*found[:place], _changed(found[place]), *found[place + 1 :]],
    ):
        for digest in (False, True):
            _write(file, change(whole), digest=digest)
            assert taken(to, file) == 3
            assert not (tmp_path / "b").exists()
    _write(file, whole, digest=True)
    assert taken(to, file) == 0
    capsys.readouterr()


def _changed(line: dict) -> dict:
    """The line with its first number or text another."""
    if "secret" in line:
        return {**line, "secret": "0" * 64}
    ((kind, row),) = line.items()
    place = next(i for i, value in enumerate(row) if isinstance(value, int))
    return {kind: [*row[:place], row[place] + 1, *row[place + 1 :]]}


def _write(file: Path, found: list[dict], *, digest: bool) -> None:
    import hashlib

    from dpbeam.ledger.canonical import canonical

    if digest:
        text = "".join(f"{canonical(line)}\n" for line in found[:-1])
        found = [*found[:-1], {"sha256": hashlib.sha256(text.encode()).hexdigest()}]
    file.write_text("".join(f"{canonical(line)}\n" for line in found))


def test_a_budget_left_out_of_the_file_is_missed(tmp_path, capsys) -> None:
    url, to = f"sqlite:///{tmp_path}/a", f"sqlite:///{tmp_path}/b"
    book = open_ledger(url, create=True)
    for dataset in ("people", "others"):
        book.create_budget(dataset, Amount.cap(3, 1e-5))
    file = tmp_path / "file"
    assert moved((url, to), file) == 0
    _write(file, [line for line in lines(file) if "others" not in str(next(iter(line.values()))[:1])], digest=True)
    assert len(lines(file)) == 5
    assert taken(to, file) == 3
    assert "dataset people isn't what its journal says" in capsys.readouterr().err.replace("\n", " ")


def test_no_message_of_an_export_holds_its_secret(tmp_path, capsys) -> None:
    url, to = f"sqlite:///{tmp_path}/a", f"sqlite:///{tmp_path}/b"
    open_ledger(url, create=True).create_budget("people", Amount.cap(3, 1e-5))
    assert moved((url, to), tmp_path / "file") == 0
    secret = open_ledger(url).secret()
    made = Export.from_bytes((tmp_path / "file").read_bytes(), "file")
    assert made.secret == secret
    assert secret.hex() not in repr(made)
    with pytest.raises(LedgerError) as caught:
        Export.from_bytes((tmp_path / "file").read_bytes()[:-1], "file")
    said = capsys.readouterr()
    assert secret.hex() not in str(caught.value) + said.out + said.err


def test_a_budget_of_another_meter_keeps_it_and_the_cap_that_was_stated(urls, tmp_path) -> None:
    made, stated, tenth = open_ledger(urls[0], create=True), Amount.cap(2, 1e-5), Amount.charge("0.1", 0, GDP)
    made.create_budget("people", Amount.cap("0.3", 5e-6, GDP), stated=stated)
    charge = made.reserve(
        "people", "k", tenth, owner=Owner.current(), scope=PEOPLE, policy_digest="p", release_id="r", path="/x"
    )
    made.publish(made.start(charge), manifest_sha256=SHA)
    file = tmp_path / "ledger.export"
    assert (moved(urls, file), taken(urls[1], file)) == (0, 0)
    budget = open_ledger(urls[1]).budget("people")
    assert (budget.stated, budget.balance.spent, budget.balance.meter) == (stated, tenth, GDP)
