"""A ledger on PostgreSQL: found by its URL, kept from other writers, and refused where it was tampered with."""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from dpbeam.errors import LedgerError, Refused
from dpbeam.ledger import Locked, open_ledger
from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.ledger import Ledger
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.refusals import Unreachable
from dpbeam.ledger.scope import Protected, Scope
from dpbeam.ledger.stores.postgresql import schema, session, store
from dpbeam.ledger.stores.postgresql.address import Address
from dpbeam.ledger.waiting import listening
from dpbeam.pipelines.cli.main import invoke
from tests.helpers.postgres import LOCKED, PASSWORD, Server, free_port

LEDGER_PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"
ONE = Amount.charge(1, 1e-6)
CAP = Amount.cap(3, 1e-5)
PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))


def reserve(book: Ledger, key: str = "k") -> Charge:
    return book.reserve(
        "d", key, ONE, owner=Owner.current(), scope=PEOPLE, policy_digest="p", release_id="r", path="/x"
    )


@pytest.fixture
def url(postgres) -> str:
    made = postgres.url()
    open_ledger(made, create=True).create_budget("d", CAP)
    return made


def within(postgres: Server, url: str) -> psycopg.Connection:
    """A connection to the ledger's tables, beside dpbeam's."""
    connection = postgres.connect()
    connection.execute(f"SET search_path = {Address.read(url).schema}")
    return connection


# Where it is


REFUSED = {
    "postgresql://me:CANARY@h/db": "the ledger's URL holds a password, which others would read in lists of processes "
    "and in logs; take it out, and put it into a file (?password_file=PATH, or PGPASSFILE), or into PGPASSWORD",
    "postgresql://h/db?password=CANARY": "the ledger's URL holds a password, which others would read in lists of "
    "processes and in logs; take it out, and put it into a file (?password_file=PATH, or PGPASSFILE), or into "
    "PGPASSWORD",
    "postgresql://h": "the ledger's URL must name one database: postgresql://USER@HOST:PORT/DATABASE",
    "postgresql://h:port/db": "the ledger's URL has a port that is no number; write HOST:PORT",
    "postgresql://h/db?lock_timeout=soon": "the ledger's URL: lock_timeout must be whole seconds from 1 to 86400, got "
    "'soon'",
    "postgresql://h/db?schema=pg_x": "the ledger's schema must be a name of a-z, 0-9 and _, and not one of "
    "PostgreSQL's own",
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_is_none_is_refused_before_anything_is_reached(url) -> None:
    with pytest.raises(LedgerError) as caught:
        open_ledger(url)
    assert str(caught.value) == REFUSED[url]
    assert "CANARY" not in str(caught.value)


def test_an_option_that_is_not_known_is_named() -> None:
    with pytest.raises(LedgerError, match="has an option that isn't known: colour; known are application_name, "):
        open_ledger("postgresql://h/db?colour=red")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me@h:1/db?sslmode=verify-full&password_file=/p", "postgresql://me@h:1/db"),
        ("postgres://h/db?schema=other", "postgresql://h/db?schema=other"),
        ("postgresql://[::1]:5432/db", "postgresql://[::1]:5432/db"),
    ],
)
def test_messages_name_who_and_where_and_no_option(url, said) -> None:
    assert str(Address.read(url)) == said


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://db.example.org/d", "require"),
        ("postgresql://db.example.org/d?sslmode=verify-full", "verify-full"),
        ("postgresql://10.0.0.1/d?sslmode=disable", "disable"),
        ("postgresql://127.0.0.1/d", None),
        ("postgresql://localhost/d", None),
        ("postgresql:///d?host=/run/postgresql", None),
    ],
)
def test_what_leaves_the_machine_goes_by_tls_unless_another_way_is_asked_for(url, mode, monkeypatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert Address.read(url).parameters().get("sslmode") == mode


def test_a_server_that_is_not_there_is_named_at_once() -> None:
    port = free_port()
    with pytest.raises(Unreachable) as caught:
        open_ledger(f"postgresql://me@127.0.0.1:{port}/db")
    assert str(caught.value) == (
        f"the ledger postgresql://me@127.0.0.1:{port}/db can't be reached: Connection refused. Nothing was done; check "
        "the address, the user, the password and the server, then try again"
    )


def test_a_missing_ledger_is_not_made(postgres) -> None:
    url = postgres.url()
    with pytest.raises(LedgerError, match=r"there is no ledger at .*; create a budget first with"):
        open_ledger(url)
    with postgres.connect() as raw:
        assert raw.execute("SELECT to_regnamespace(%s)", (Address.read(url).schema,)).fetchone() == (None,)


@pytest.fixture
def locked(postgres, url) -> str:
    """The URL of the same ledger for a user with a password, who has the rights that docs/ledger.md says."""
    named = Address.read(url).schema
    with within(postgres, url) as raw:
        with suppress(psycopg.errors.DuplicateObject):
            raw.execute(f"CREATE ROLE {LOCKED} LOGIN PASSWORD '{PASSWORD}'")
        (block,) = re.findall(r"```sql\n(.*?)```", LEDGER_PAGE.read_text(encoding="utf-8"), re.DOTALL)
        raw.execute(re.sub(r"\bdpbeam\b", named, block).replace("TO runs", f"TO {LOCKED}").encode())
    return postgres.url(schema=named, user=LOCKED)


def test_a_password_comes_from_a_file_or_the_environment_and_is_in_no_message(locked, tmp_path, monkeypatch) -> None:
    for name in ("PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    book = open_ledger(f"{locked}&password_file={file}")
    book.start(reserve(book))
    assert PASSWORD not in repr(book) + repr(book.store) + book.store.place
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert open_ledger(locked).balance("d").spent == ONE
    for wrong in ("another CANARY", ""):
        file.write_text(wrong)
        with pytest.raises(Unreachable) as caught:
            open_ledger(f"{locked}&password_file={file}")
        assert f'password authentication failed for user "{LOCKED}"' in str(caught.value) or not wrong
        assert "CANARY" not in str(caught.value)
    with pytest.raises(LedgerError, match=r"can't be read from .*: No such file or directory; check password_file"):
        open_ledger(f"{locked}&password_file={tmp_path}/none")


def test_who_only_runs_releases_needs_no_right_to_change_what_was(postgres, locked, monkeypatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    book = open_ledger(locked)
    book.publish(book.start(reserve(book)), manifest_sha256="0" * 64)
    assert book.verify() == 6
    with postgres.connect() as raw:
        raw.execute(f"SET SESSION AUTHORIZATION {LOCKED}")
        for change in ("UPDATE {}.journal SET epsilon = 0", "DELETE FROM {}.charges", "UPDATE {}.meta SET value = ''"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                raw.execute(change.format(Address.read(locked).schema))


def test_a_right_that_is_missing_is_said(postgres, locked, monkeypatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    book = open_ledger(locked)
    with within(postgres, locked) as raw:
        raw.execute(f"REVOKE INSERT ON journal FROM {LOCKED}")
    with pytest.raises(LedgerError, match="this user lacks a right that it needs there; grant it what docs"):
        reserve(book)
    assert open_ledger(locked, reading=True).balance("d").held == ZERO


# Kept from other writers


def test_a_writer_waits_for_others_is_told_so_and_gives_up_after_its_time(postgres, url) -> None:
    book = open_ledger(f"{url}&lock_timeout=2")
    heard: list[str] = []
    with within(postgres, url) as raw, listening(heard.append):
        with raw.transaction():
            raw.execute("SELECT one FROM turn FOR UPDATE")
            with pytest.raises(Locked, match="other runs kept it locked for 2 s; try again when they are done"):
                reserve(book)
            assert book.balance("d").held == ZERO  # readers wait for nobody
        reserve(book)
    assert heard == ["waiting for other runs at the ledger"]


def test_a_transaction_sees_what_the_one_before_it_wrote_and_no_other_comes_between(url) -> None:
    first, second = open_ledger(url), open_ledger(url)
    order: list[str] = []

    def late() -> None:
        with second.store.write() as tx:
            order.append(f"second sees {tx.last_fence()}")

    with first.store.write() as tx:
        thread = threading.Thread(target=late)
        thread.start()
        thread.join(timeout=0.2)
        charge = Charge(
            id="c", dataset="d", key="k", amount=ONE, state="RESERVED", fence=7, attempt=1, max_attempts=1,
            owner=Owner.current(), release_id="r", policy_digest="p",
        )  # fmt: skip
        tx.insert_charge(charge)
        order.append("first wrote")
    thread.join()
    assert order == ["first wrote", "second sees 7"]


def test_many_threads_spend_the_cap_to_the_last_unit(url) -> None:
    book = open_ledger(url)

    def spend(number: int) -> int:
        try:
            book.start(reserve(book, f"k{number}"))
        except Refused:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spend, range(12))) == 3
    assert book.balance("d").left.epsilon == 0
    book.verify()


def test_a_session_that_the_server_ended_between_two_steps_is_made_anew(postgres, url) -> None:
    book = open_ledger(url)
    charge = reserve(book)
    with postgres.connect() as raw:
        raw.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dpbeam'")
    book.start(charge)
    assert book.balance("d").spent == ONE


def test_a_forked_process_and_its_parent_use_no_connection_of_each_other(url) -> None:
    book = open_ledger(url)
    charge = reserve(book)
    child = os.fork()
    if child == 0:
        try:
            book.start(charge)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert book.publish(book.charge(charge.id), manifest_sha256="0" * 64).state == "PUBLISHED"


def test_a_server_that_may_forget_commits_is_refused(postgres, url) -> None:
    with postgres.connect() as raw:
        try:
            raw.execute("ALTER SYSTEM SET fsync = off")
            raw.execute("SELECT pg_reload_conf()")
            while raw.execute("SHOW fsync").fetchone() != ("off",):
                pass
            with pytest.raises(LedgerError, match="its server runs with fsync or full_page_writes off"):
                open_ledger(url)
            assert open_ledger(url, reading=True).balance("d").left == CAP
        finally:
            raw.execute("ALTER SYSTEM RESET fsync")
            raw.execute("SELECT pg_reload_conf()")
            while raw.execute("SHOW fsync").fetchone() != ("on",):
                pass


def test_a_commit_waits_for_the_disk_though_the_server_would_not(postgres, url) -> None:
    with postgres.connect() as raw:
        raw.execute("ALTER ROLE keeper SET synchronous_commit = off")
        try:
            with open_ledger(url).store.write() as tx:
                assert tx._all("SHOW synchronous_commit") == [("on",)]
        finally:
            raw.execute("ALTER ROLE keeper RESET synchronous_commit")


# Tampered with


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE journal SET epsilon = 0",
        "DELETE FROM journal",
        "TRUNCATE journal",
        "INSERT INTO journal SELECT dataset, 9, time, kind, charge_id, epsilon, delta, fence, details, hash, hash, '' "
        "FROM journal",
        "DELETE FROM charges",
        "DELETE FROM budgets",
        "TRUNCATE budgets CASCADE",
        "DELETE FROM meta",
    ],
)
def test_what_was_recorded_is_only_added_to(postgres, url, change) -> None:
    reserve(open_ledger(url))
    with within(postgres, url) as raw, pytest.raises(psycopg.errors.RaiseException, match="is append-only"):
        raw.execute(change)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE budgets SET spent_epsilon = cap_epsilon + 1",
        "UPDATE budgets SET held_delta = -1",
        "UPDATE budgets SET meter = 'none'",
        "UPDATE charges SET state = 'FREE'",
        "UPDATE charges SET attempt = max_attempts + 1",
    ],
)
def test_what_no_balance_and_no_charge_can_be_is_refused_by_the_tables(postgres, url, change) -> None:
    reserve(open_ledger(url))
    with within(postgres, url) as raw, pytest.raises(psycopg.errors.CheckViolation):
        raw.execute(change)


FORGED = {
    "an edited amount": ("UPDATE journal SET epsilon = 1 WHERE seq = 4", "entry 4 can't follow|entry 4 doesn't match"),
    "a deleted entry": ("DELETE FROM journal WHERE seq = 3", "entry 3 is missing"),
    "a deleted charge": ("DELETE FROM charges", "a charge of dataset d isn't what the journal says"),
    "a smaller balance": ("UPDATE budgets SET held_epsilon = 0", "the balance of dataset d isn't what its journal"),
    "a secret of another": ("UPDATE meta SET value = decode(repeat('00', 32), 'hex') WHERE name = 'secret'", "entry 1"),
    "no trigger": ("ALTER TABLE journal DISABLE TRIGGER journal_no_change", "its tables or triggers are not those"),
    "another trigger": ("CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RETURN NULL; END'", "its tables or triggers are not those"),
    "no constraint": ("ALTER TABLE budgets DROP CONSTRAINT budgets_check1", "its tables or triggers are not those"),
    "one more table": ("CREATE TABLE more (n int)", "its tables or triggers are not those"),
    "no reference": ("ALTER TABLE journal DISABLE TRIGGER ALL", "its tables or triggers are not those"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forgery_by_the_owner_of_the_tables_is_found_and_named(postgres, url, name) -> None:
    reserve(open_ledger(url))
    change, said = FORGED[name]
    with within(postgres, url) as raw:
        if change.startswith(("UPDATE", "DELETE")):
            raw.execute("SET session_replication_role = replica")  # as a superuser can: no trigger fires
        raw.execute(change)
    with pytest.raises(LedgerError, match=said):
        open_ledger(url).verify()
    with pytest.raises(LedgerError, match=said):
        reserve(open_ledger(url), "another")


def test_a_newer_ledger_is_left_to_a_newer_program(postgres, url) -> None:
    with within(postgres, url) as raw:
        raw.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    with pytest.raises(LedgerError, match=f"has version 99, this dpbeam knows versions up to {schema.VERSION}"):
        open_ledger(url)


def test_a_migration_is_made_whole_or_not_at_all_and_by_a_writer_alone(postgres, url, monkeypatch) -> None:
    newer = schema.VERSION + 1
    with monkeypatch.context() as patch:
        for module in (schema, store):
            patch.setattr(module, "VERSION", newer)
        half = ("ALTER TABLE budgets ADD COLUMN more text", "SELECT 1 / 0")
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, half))
        with pytest.raises(LedgerError, match="PostgreSQL reports 22012"):
            open_ledger(url)
        with pytest.raises(LedgerError, match="it is read once a command that writes"):
            open_ledger(url, reading=True)
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS[:-1], half[:1]))
        assert open_ledger(url).balance("d").left == CAP
        assert open_ledger(url, reading=True).datasets() == ["d"]
    with pytest.raises(LedgerError, match="has version"):
        open_ledger(url)


def test_a_schema_that_holds_something_else_is_left_alone(postgres) -> None:
    url = postgres.url()
    with postgres.connect() as raw:
        raw.execute(f"CREATE SCHEMA {Address.read(url).schema} CREATE TABLE theirs (n int)")
    with pytest.raises(LedgerError, match="holds something else; name another with"):
        open_ledger(url, create=True)


def test_of_many_that_make_a_ledger_at_once_all_get_the_same(postgres) -> None:
    url = postgres.url()
    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(lambda _: open_ledger(url, create=True).secret(), range(6)))) == 1


def test_a_release_is_made_on_it_and_found_again_at_no_cost(postgres, workspace, capsys) -> None:
    url = postgres.url()
    assert invoke(["budget", "create", str(workspace.policy_path), "--ledger", url]) == 0
    run = ["run", str(workspace.policy_path), "--ledger", url, "--output", str(workspace.output)]
    assert invoke(run) == 0, capsys.readouterr().err
    assert invoke(run) == 0, capsys.readouterr().err
    assert "at no cost" in capsys.readouterr().out
    assert invoke(["recover", "--ledger", url]) == 0
    assert invoke(["budget", "verify", "--ledger", url]) == 0
    assert open_ledger(url).balance("visits").spent == ONE


def test_text_that_no_row_can_have_is_found_in_none(url) -> None:
    book = open_ledger(url)
    assert book.charge("a\0b") is None
    assert book.find("d", "\ud800") is None


def test_statements_are_sent_as_one_state(url) -> None:
    """A reader sees nothing of what is written after its first look."""
    book = open_ledger(url)
    with book.store.read() as tx:
        before = list(tx.entries("d"))
        reserve(book)
        assert list(tx.entries("d")) == before
        assert list(tx.charges("d")) == []
    assert session.reading(book.store.connections, book.store.address)[1].version == schema.VERSION
