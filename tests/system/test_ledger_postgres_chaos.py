"""A PostgreSQL server that is stopped, started and killed under load, and connections that are cut in a COMMIT: nothing
is charged twice, nothing that was published is unpaid, and the cap holds to the last unit."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from dpbeam.errors import LedgerError, Refused
from dpbeam.ledger import Charge, KeyTaken, Ledger, Owner, Protected, Scope, open_ledger
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.refusals import Unreachable
from tests.helpers.cutting import proxy
from tests.helpers.postgres import running

ONE = Amount.charge(1, 1e-6)
RUNS = 60
CAP = Amount(epsilon=RUNS * ONE.epsilon, delta=RUNS * ONE.delta)
PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))
SHA = "0" * 64


def reserve(book: Ledger, key: str = "k") -> Charge:
    return book.reserve(
        "d", key, ONE, owner=Owner.current(), scope=PEOPLE, policy_digest="p", release_id=f"r-{key}", path="/x"
    )


@pytest.fixture
def url(postgres) -> str:
    """A ledger with a budget of RUNS runs."""
    made = postgres.url()
    open_ledger(made, create=True).create_budget("d", CAP)
    return made


def through(url: str, port: int, *options: str) -> str:
    head, _, tail = url.rpartition(":")
    return "&".join((f"{head}:{port}/{tail.partition('/')[2]}", *options))


def act(book: Ledger, step: str) -> object:
    """Brings a charge to where the step starts from; gives what does the step."""
    if step == "create_budget":
        return lambda: book.create_budget("other", CAP)
    if step == "reserve":
        return lambda: reserve(book)
    charge = reserve(book)
    if step == "refund":
        return lambda: book.refund(charge)
    if step == "start":
        return lambda: book.start(charge)
    charge = book.start(charge)
    return {
        "publish": lambda: book.publish(charge, manifest_sha256=SHA),
        "close": lambda: book.close(charge),
        "retry": lambda: book.retry(charge, Owner.current(), staging_gone=True),
    }[step]


STEPS = ("create_budget", "reserve", "refund", "start", "publish", "close", "retry")


@pytest.mark.parametrize("step", STEPS)
def test_a_commit_whose_answer_was_lost_is_known_to_be_recorded(postgres, url, step) -> None:
    with proxy(postgres.port) as between:
        book = open_ledger(through(url, between.port))
        do = act(book, step)
        before = book.verify()
        between.cut = "after"
        do()
        assert between.cuts == 1
    assert open_ledger(url).verify() == before + (3 if step == "reserve" else 1)  # unit and source are bound, too


@pytest.mark.parametrize("step", STEPS)
def test_a_commit_that_never_arrived_is_known_not_to_be_recorded_and_can_be_done_again(postgres, url, step) -> None:
    with proxy(postgres.port) as between:
        book = open_ledger(through(url, between.port))
        do = act(book, step)
        before = book.verify()
        between.cut = "before"
        with pytest.raises(Unreachable, match="the connection broke off before the change was recorded"):
            do()
        assert between.cuts == 1
        assert book.verify() == before
        do()
        assert book.verify() > before


def test_where_nothing_can_be_found_out_it_says_so_and_nothing_is_charged_twice(postgres, url) -> None:
    with proxy(postgres.port) as between:
        book = open_ledger(through(url, between.port, "lock_timeout=1"))
        between.cut, between.close_after = "after", True
        with pytest.raises(LedgerError, match="whether it was recorded can't be found out now") as caught:
            reserve(book)
        assert not isinstance(caught.value, Unreachable)
        between.closed = False
        with pytest.raises(KeyTaken):
            reserve(book)
    assert open_ledger(url).balance("d").held == ONE


SPENDER = """
import sys
from dpbeam.errors import LedgerError, Refused
from dpbeam.ledger import Amount, Owner, Protected, Scope, open_ledger

url, name = sys.argv[1:]
scope = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))
number = 0
print("ready", flush=True)
while True:
    number += 1
    try:
        book = open_ledger(url)
        charge = book.reserve("d", f"{name}-{number}", Amount.charge(1, 1e-6), owner=Owner.current(), scope=scope,
            policy_digest="p", release_id=f"r-{name}-{number}", path="/x")
        print("started", book.start(charge).id, flush=True)
        print("published", book.publish(book.charge(charge.id), manifest_sha256="0" * 64).id, flush=True)
    except Refused:
        break
    except LedgerError as error:
        print("error", str(error).replace(chr(10), " "), flush=True)
"""


def spend_rest(book: Ledger) -> None:
    """Gives back what is held, and spends what is left until the ledger refuses."""
    for charge in book.charges("d"):
        if charge.state == "RESERVED":
            book.refund(charge.id)
    number = 0
    while True:
        try:
            book.start(reserve(book, f"rest-{number}"))
        except Refused:
            return
        number += 1


def check(book: Ledger, said: list[list[str]]) -> None:
    """What must hold after whatever happened to processes that said what they did."""
    book.verify()
    charges = {charge.id: charge for charge in book.charges("d")}
    assert not [words for words in said if words[0] not in ("ready", "started", "published", "error")]
    assert all(charges[words[1]].state != "RESERVED" for words in said if words[0] == "started")
    assert all(charges[words[1]].state == "PUBLISHED" for words in said if words[0] == "published")
    spent = [charge for charge in charges.values() if charge.state in ("STARTED", "PUBLISHED", "SPENT_UNPUBLISHED")]
    published = [charge for charge in spent if charge.state == "PUBLISHED"]
    balance = book.balance("d")
    assert balance.spent == Amount(epsilon=len(spent) * ONE.epsilon, delta=len(spent) * ONE.delta)
    assert len(published) <= len(spent) <= RUNS
    spend_rest(book)
    assert book.balance("d").left == ZERO
    assert book.balance("d").spent == CAP
    book.verify()


def spending(url: str, count: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SPENDER, url]
    started = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for number in range(count)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return started


def ended(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    return [line.split() for process in processes for line in process.communicate(timeout=120)[0].splitlines()]


def progressed(book: Ledger, charges: int) -> None:
    """Waits until the ledger has so many charges."""
    until = time.monotonic() + 60
    while len(book.charges("d")) < charges:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_server_that_is_stopped_and_killed_under_load_forgets_nothing_and_charges_nothing_twice() -> None:
    with running() as server:
        url = server.url()
        book = open_ledger(url, create=True)
        book.create_budget("d", CAP)
        processes = spending(url, 4)
        for charges, end in ((10, server.kill), (25, server.stop), (40, server.kill)):
            progressed(book, charges)
            end()
            server.start()
        check(book, ended(processes))


def test_connections_that_are_cut_in_commits_under_load_lose_nothing(postgres, url) -> None:
    book = open_ledger(url)
    with proxy(postgres.port) as between:
        processes = spending(through(url, between.port), 4)
        for charges in range(5, RUNS - 10, 5):
            progressed(book, charges)
            between.cut = "midway"
        said = ended(processes)
        assert between.cuts >= 3
    check(book, said)
