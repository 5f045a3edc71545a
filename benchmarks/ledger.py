"""What a charge costs, and what opening, showing and verifying a ledger take, at 1,000 and at 1,000,000 entries.

The long history is written straight into a ledger's tables, by the ledger's own rules for entries, since making it by
real charges would take an hour of waiting for the disk; it verifies like any other.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from dpbeam.ledger import Amount, Ledger, Owner, Protected, Scope, open_ledger
from dpbeam.ledger.accounts import Budget, Charge
from dpbeam.ledger.bookkeeping import chained, of_charge
from dpbeam.ledger.entries import Fact, Published, Reserved, SourceAccepted, Started, UnitBound
from dpbeam.ledger.marks import Anchored
from dpbeam.ledger.standing import EVERY, Standing
from dpbeam.ledger.stores.sqlite.store import SqliteTransaction

MILLION = 1_000_000
SIZES = (1_000, 10_000, MILLION)
COST = Amount.charge("1e-6", "1e-15")
PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/visits.parquet",))
CYCLES = 400
ROOT = Path(__file__).parents[1]


def section() -> str:
    """The part of docs/benchmarks.md on the ledger."""
    rows = []
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        for size in SIZES:
            path = Path(folder) / f"{size}.sqlite"
            write_ledger(path, size)
            rows.append(f"| {size:,} | {path.stat().st_size / 2**20:,.0f} | " + " | ".join(measured(path)) + " |")
            print(rows[-1], flush=True)
    return "\n".join(
        [
            "## The ledger",
            "",
            "A SQLite ledger by the length of one dataset's history (`benchmarks/ledger.py`); medians. Cycle: reserve,",
            f"start and publish, each durable, by one process: {CYCLES} in a row with `kept_open`, and the first of a",
            "fresh process, imports not counted. Open: to write. Verify on: by a process that knows the history up to",
            "a cycle ago. Verify: every entry, balance and charge, and SQLite's own check of all pages.",
            "",
            "| entries | MiB | cycles/s | first cycle, ms | open, ms | balance, ms | verify on, ms | verify, s "
            "| peak MiB of it |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def measured(path: Path) -> list[str]:
    """The cells of one ledger."""
    first = statistics.median(in_fresh_process(path, "cycle")["seconds"] for _ in range(5))
    opened = statistics.median(in_fresh_process(path, "open")["seconds"] for _ in range(5))
    shown = statistics.median(in_fresh_process(path, "balance")["seconds"] for _ in range(5))
    whole = in_fresh_process(path, "verify")
    book = open_ledger(str(path))
    with book.kept_open():
        cycle(book, "warm")
        news = []
        for number in range(20):
            cycle(book, f"new-{number}")
            news.append(timed(lambda: book.balance("d")))
        seconds = timed(lambda: [cycle(book, f"k-{number}") for number in range(CYCLES)])
    cells = [
        f"{CYCLES / seconds:,.0f}",
        *(f"{1000 * each:,.1f}" for each in (first, opened, shown, statistics.median(news))),
    ]
    return [*cells, f"{whole['seconds']:.1f}", f"{whole['peak_mib']:,.0f}"]


def timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def cycle(book: Ledger, key: str) -> None:
    charge = book.reserve(
        "d", key, COST, owner=Owner.current(), scope=PEOPLE, policy_digest="p", release_id="r", path="/releases/d/r"
    )
    book.publish(book.start(charge), manifest_sha256="0" * 64)


def in_fresh_process(path: Path, what: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ledger", what, str(path)], cwd=ROOT, capture_output=True, check=True
    )
    return json.loads(done.stdout)


def write_ledger(path: Path, size: int) -> None:
    """A ledger with one dataset, whose journal has about `size` entries: its charges were reserved, started and
    published one after another."""
    open_ledger(str(path), create=True).create_budget("d", Amount.cap(1000, 0.1))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        tx = SqliteTransaction(connection, str(path))
        budget = tx.budget("d")
        assert budget is not None
        anchored, number = 0, 0
        budget = appended(tx, budget, UnitBound(protected=PEOPLE.protected))
        budget = replace(budget, protected=PEOPLE.protected)
        budget = appended(tx, budget, SourceAccepted(sources=PEOPLE.sources, also_of=(), asked=False))
        budget = replace(budget, sources=PEOPLE.sources)
        while budget.head_seq < size:
            if budget.head_seq - anchored >= EVERY:
                budget = appended(tx, budget, Anchored(standing=standing(budget, number)))
                anchored = budget.head_seq
            number += 1
            budget = charged(tx, budget, number)
        tx.update_budget(budget)
        connection.execute("COMMIT")


def charged(tx: SqliteTransaction, budget: Budget, number: int) -> Budget:
    """The budget after one more charge that was published."""
    charge = Charge(
        id=f"{number:032x}", dataset="d", key=f"before-{number}", amount=COST, state="PUBLISHED", fence=number,
        attempt=1, max_attempts=3, owner=Owner.current(), release_id="r", policy_digest="p", path="/r",
        manifest_sha256="0" * 64,
    )  # fmt: skip
    said = {name: getattr(charge, name) for name in ("key", "owner", "policy_digest", "release_id", "path")}
    tx.insert_charge(charge)
    budget = appended(tx, budget, Reserved(**of_charge(charge), **said, max_attempts=3))
    budget = appended(tx, budget, Started(**of_charge(charge)))
    budget = appended(tx, budget, Published(**of_charge(charge), manifest_sha256="0" * 64, path="/r"))
    return replace(budget, balance=replace(budget.balance, spent=budget.balance.spent + COST))


def standing(budget: Budget, fence: int) -> Standing:
    return Standing(
        balance=budget.balance, fence=fence, protected=budget.protected, sources=budget.sources, terms=budget.terms,
        key="", open=(),
    )  # fmt: skip


def appended(tx: SqliteTransaction, budget: Budget, fact: Fact) -> Budget:
    entry = chained("d", budget, fact)
    tx.append(entry)
    return replace(budget, head_seq=entry.seq, head_hash=entry.hash)


def main(what: str, path: str) -> None:
    """Prints what one step takes in this process, which did nothing before."""
    if what == "cycle":
        key = str(time.time_ns())
        seconds = timed(lambda: cycle(open_ledger(path), key))
    elif what == "open":
        seconds = timed(lambda: open_ledger(path))
    elif what == "balance":
        seconds = timed(lambda: open_ledger(path, reading=True).balance("d"))
    else:
        seconds = timed(lambda: open_ledger(path, reading=True).verify())
    print(json.dumps({"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
