"""What somebody does to a ledger from outside is found, and named: by replaying, by signatures, by the witness."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dpbeam.errors import LedgerError, UsageError
from dpbeam.ledger import Amount, Ledger, Owner, Protected, Safeguards, Scope, open_ledger
from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.keys import read_key, read_trusted, trust, write_key
from dpbeam.ledger.signing import Signer
from dpbeam.ledger.witnesses import open_witness
from dpbeam.ledger.witnesses.file import FileWitness
from tests.helpers.ledger_damage import forged, put, rows

ONE = Amount.charge(1, 1e-9)
PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))
KEY = Signer.new()


def guarded(path: Path, *, signer: Signer | None = KEY, trusted: frozenset[str] | None = None) -> Ledger:
    """The ledger with the witness beside it, and a key."""
    watch = open_witness(str(path.parent / "elsewhere" / "witness"))
    return open_ledger(str(path), safeguards=Safeguards(witness=watch, signer=signer, trusted=trusted))


def reserve(book: Ledger, key: str) -> Charge:
    return book.reserve(
        "d", key, ONE, owner=Owner.current(), scope=PEOPLE, policy_digest="p", release_id="r", path="/x"
    )


def published(book: Ledger, key: str) -> Charge:
    return book.publish(book.start(reserve(book, key)), manifest_sha256="0" * 64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "elsewhere").mkdir()
    open_ledger(str(folder / "ledger.sqlite"), create=True, safeguards=Safeguards())
    book = guarded(folder / "ledger.sqlite")
    book.create_budget("d", Amount.cap(20, 1e-6))
    for number in range(3):
        published(book, f"k{number}")
    return folder


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy" / "ledger.sqlite"


def raw(path: Path, *statements: str) -> None:
    """Changes the file behind the ledger's back, its triggers out of the way."""
    with closing(sqlite3.connect(path)) as connection, connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)


def swap(first: int, second: int) -> list[str]:
    """Two entries in each other's place, but for their numbers."""
    return [
        f"UPDATE journal SET seq = 999 WHERE seq = {first}",
        f"UPDATE journal SET seq = {first} WHERE seq = {second}",
        f"UPDATE journal SET seq = {second} WHERE seq = 999",
    ]


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["UPDATE journal SET epsilon = 1 WHERE seq = 5"], "dataset d, entry 5 doesn't match its own hash"),
        (["DELETE FROM journal WHERE seq = 7"], "dataset d, entry 7 is missing"),
        (swap(6, 9), "dataset d, entry 6 doesn't follow the entry before it"),
        (["UPDATE journal SET actor = 'x' WHERE seq = 2"], "dataset d, entry 2 doesn't match its own hash"),
    ],
    ids=["amount", "deleted", "reordered", "actor"],
)
def test_the_first_entry_that_was_tampered_with_is_named(path, statements, says) -> None:
    raw(path, *statements)
    with pytest.raises(LedgerError, match=re.escape(says)):
        open_ledger(str(path)).verify()


def test_an_untouched_ledger_is_signed_and_witnessed_up_to_its_end(path) -> None:
    head = rows(path)[-1]
    assert guarded(path, trusted=frozenset({KEY.key})).verify() == head["seq"]
    kept = json.loads((path.parent / "elsewhere" / "witness").read_text())["heads"]["d"]
    assert (kept["seq"], kept["hash"], kept["key"]) == (head["seq"], head["hash"], KEY.key)


def test_a_history_that_was_written_anew_as_a_whole_is_not_what_was_signed(path) -> None:
    def change(row):
        return row | {"details": row["details"] | {"release_id": "other"}} if row["kind"] == "reserved" else row

    forged(path, change)
    raw(path, """UPDATE charges SET release_id = 'other'""")
    with pytest.raises(LedgerError, match=r"dataset d, entry \d+ isn't what key [0-9a-f]{16} signed on "):
        open_ledger(str(path)).verify()
    with pytest.raises(LedgerError, match=r"older than its witness .*, or another copy of it: dataset d has another"):
        reserve(guarded(path), "new")
    book = open_ledger(str(path), safeguards=Safeguards(trusted=frozenset({KEY.key})))
    with pytest.raises(LedgerError, match=r"isn't what key [0-9a-f]{16} signed on "):
        reserve(book, "new")


def test_a_backup_that_was_restored_is_refused_before_it_charges_and_by_verify(path, tmp_path) -> None:
    shutil.copy(path, tmp_path / "backup")
    published(guarded(path), "forgotten")
    shutil.copy(tmp_path / "backup", path)
    before = path.read_bytes()
    for step in (
        lambda: reserve(guarded(path), "new"),
        lambda: guarded(path).verify(),
        lambda: guarded(path).verify("d"),
    ):
        with pytest.raises(
            LedgerError, match=r"Was it restored from a backup, or do two copies run\? Nothing is charged"
        ):
            step()
    assert path.read_bytes() == before
    assert open_ledger(str(path)).verify() > 0  # by itself, nothing tells


def test_of_two_copies_that_run_at_once_one_is_stopped_before_it_reads(path, tmp_path) -> None:
    second = tmp_path / "second.sqlite"
    shutil.copy(path, second)
    witness = Safeguards(witness=open_witness(str(path.parent / "elsewhere" / "witness")))
    one, two = open_ledger(str(path), safeguards=witness), open_ledger(str(second), safeguards=witness)
    charge = reserve(one, "here")
    with pytest.raises(LedgerError, match="another copy of it"):
        reserve(two, "there")
    one.start(charge)


def test_two_copies_that_reserve_between_check_and_word_are_told_apart_by_the_word(path, tmp_path, monkeypatch) -> None:
    second = tmp_path / "second.sqlite"
    shutil.copy(path, second)
    witness = FileWitness(path=path.parent / "elsewhere" / "witness")
    other, plain = open_ledger(str(second), safeguards=Safeguards(witness=witness)), FileWitness.update

    def late(self, change):
        monkeypatch.setattr(FileWitness, "update", plain)
        reserve(other, "there")  # the other copy comes first with its word
        plain(self, change)

    monkeypatch.setattr(FileWitness, "update", late)
    with pytest.raises(LedgerError, match="another copy of it"):
        reserve(guarded(path), "here")
    assert open_ledger(str(path)).find("d", "here").state == "RESERVED"  # it was held, and nothing was read


def test_a_kill_between_commit_and_word_leaves_a_witness_that_lags_and_is_caught_up(path, monkeypatch) -> None:
    def killed(self, change):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FileWitness, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            reserve(guarded(path), "new")
    known = guarded(path).safeguards.witness.read().heads["d"].seq
    assert known < rows(path)[-1]["seq"]
    book = guarded(path)
    book.start(book.find("d", "new"))
    assert book.safeguards.witness.read().heads["d"].seq == rows(path)[-1]["seq"]


def test_a_budget_that_was_created_again_is_refused_by_the_witness(path) -> None:
    path.unlink()
    open_ledger(str(path), create=True, safeguards=Safeguards())
    with pytest.raises(LedgerError, match=r"watches another ledger than .*: this one was made anew"):
        guarded(path).create_budget("d", Amount.cap(20, 1e-6))


def test_a_budget_that_was_created_again_in_the_same_ledger_is_refused_by_the_witness(path) -> None:
    raw(path, "DELETE FROM checkpoints", "DELETE FROM charges", "DELETE FROM journal", "DELETE FROM budgets")
    with pytest.raises(LedgerError, match=r"dataset d has no entry \d+ than the witness saw"):
        guarded(path).create_budget("d", Amount.cap(20, 1e-6))


def test_a_witness_that_is_gone_or_damaged_stops_every_charge(path) -> None:
    place = path.parent / "elsewhere" / "witness"
    text = place.read_text()
    place.write_text(text.replace('"seq":', '"seq": '))
    with pytest.raises(LedgerError, match="holds nothing that a witness keeps"):
        reserve(guarded(path), "new")
    place.unlink()
    with pytest.raises(LedgerError, match=r"doesn't exist\. Nothing is charged. If it was removed"):
        reserve(guarded(path), "new")
    guarded(path).watch()
    assert place.read_text().startswith('{"heads":{"d":')
    published(guarded(path), "new")
    with pytest.raises(LedgerError, match=r"exists\. Remove it first"):
        guarded(path).watch()


def test_what_a_witness_keeps_counts_only_if_a_trusted_key_signed_it(path) -> None:
    place = path.parent / "elsewhere" / "witness"
    stored = json.loads(place.read_text())
    stored["heads"]["d"] |= {"seq": 1, "hash": rows(path)[0]["hash"]}
    place.write_text(json.dumps(stored, sort_keys=True, separators=(",", ":")) + "\n")
    reserve(guarded(path), "new")
    place.write_text(json.dumps(stored, sort_keys=True, separators=(",", ":")) + "\n")
    with pytest.raises(LedgerError, match="dataset d, entry 1, what no trusted key has signed"):
        reserve(guarded(path, trusted=frozenset({KEY.key})), "newer")


def test_a_key_that_was_swapped_is_refused_at_signing_and_found_by_verify(path) -> None:
    thief = Signer.new()
    with pytest.raises(LedgerError, match=rf"signed with key {KEY.key[:16]}, not with {thief.key[:16]}"):
        reserve(guarded(path, signer=thief), "new")

    def change(row):
        return row | {"details": row["details"] | {"key": thief.key}} if row["kind"] == "key_pinned" else row

    forged(path, change)
    with pytest.raises(
        LedgerError, match=rf"entry \d+ was signed with key {KEY.key[:16]}, which the journal doesn't pin"
    ):
        open_ledger(str(path)).verify()
    raw(path, "DELETE FROM checkpoints")
    with pytest.raises(LedgerError, match=rf"was signed with key {thief.key[:16]}; the checkpoint is gone"):
        open_ledger(str(path)).verify()
    open_ledger(str(path), safeguards=Safeguards(signer=thief)).checkpoint("d")
    assert open_ledger(str(path)).verify() > 0  # all is signed, by the wrong key: who trusts it?
    with pytest.raises(LedgerError, match=rf"signed with key {thief.key[:16]}, which isn't among the trusted keys"):
        open_ledger(str(path), safeguards=Safeguards(trusted=frozenset({KEY.key}))).verify()


def test_a_rotation_is_signed_by_the_old_key_and_journalled(path) -> None:
    new = KEY.rotated().rotated()
    made = guarded(path, signer=new).checkpoint("d")
    assert made.key == new.key
    pins = [row["details"] for row in rows(path) if row["kind"] == "key_pinned"]
    assert [(pin["follows"], pin["key"]) for pin in pins] == [
        ("", KEY.key), (KEY.key, new.followed[0].key), (new.followed[0].key, new.key),
    ]  # fmt: skip
    with pytest.raises(LedgerError, match="Nothing was signed"):
        guarded(path).checkpoint("d")

    def change(row):
        return row | {"details": row["details"] | {"signature": "0" * 128}} if row["details"].get("follows") else row

    forged(path, change)
    with pytest.raises(LedgerError, match=rf"pins key [0-9a-f]{{16}}, which {KEY.key[:16]} never named"):
        open_ledger(str(path)).verify()


def test_a_signature_that_was_changed_is_found(path) -> None:
    assert put(path, ("checkpoints", "signature", f"'{'0' * 128}'", "TRUE"))
    with pytest.raises(LedgerError, match=rf"has a checkpoint that key {KEY.key[:16]} didn't sign"):
        open_ledger(str(path)).verify()


def test_a_key_file_is_for_its_owner_alone_and_lies_in_no_repository(tmp_path) -> None:
    place, signer = tmp_path / "key", KEY.rotated()
    write_key(place, signer)
    assert place.stat().st_mode & 0o777 == 0o600
    assert read_key(place) == signer
    assert signer.private.hex() not in repr(signer)
    with pytest.raises(UsageError, match="exists; `dpbeam budget key rotate`"):
        write_key(place, signer)
    place.chmod(0o640)
    with pytest.raises(UsageError, match=r"may be read by others \(mode 0640\); `chmod 600 "):
        read_key(place)
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    with pytest.raises(UsageError, match="lies in the repository"):
        write_key(tmp_path / "repository" / "key", signer)
    assert [each.name for each in (tmp_path / "repository").iterdir()] == [".git"]


def test_trusted_keys_are_a_line_each(tmp_path) -> None:
    place = tmp_path / "trusted"
    trust(place, KEY.key, "of the night run")
    assert read_trusted(place) == {KEY.key}
    place.write_text("no key\n")
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        read_trusted(place)


def test_the_environment_names_the_safeguards(path, monkeypatch) -> None:
    write_key(path.parent / "key", KEY)
    monkeypatch.setenv("DPBEAM_SIGNING_KEY", str(path.parent / "key"))
    monkeypatch.setenv("DPBEAM_WITNESS", str(path.parent / "elsewhere" / "witness"))
    book = open_ledger(str(path))
    assert book.safeguards.signer == KEY
    published(book, "new")
    with book.store.read() as tx:
        assert [each.seq for each in tx.checkpoints("d")] == [rows(path)[-1]["seq"]]
    monkeypatch.setenv("DPBEAM_WITNESS", "ftp://somewhere")
    with pytest.raises(UsageError, match=r"a witness must be a file or an http\(s\) URL"):
        open_ledger(str(path))
