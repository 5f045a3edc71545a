"""A witness behind http: a real server on loopback that keeps one object, as an object store does."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dpbeam.errors import LedgerError
from dpbeam.ledger import Amount, Ledger, Owner, Protected, Safeguards, Scope, open_ledger
from dpbeam.ledger.accounts import Charge
from dpbeam.ledger.checkpoints import Checkpoint
from dpbeam.ledger.witness import Kept, Unreachable
from dpbeam.ledger.witnesses import open_witness

ONE = Amount.charge(1, 1e-9)
PEOPLE = Scope(protected=Protected(unit="person"), sources=("/data/people.csv",))


class Shelf(ThreadingHTTPServer):
    """Keeps one object. `meanwhile` are contents that others put between a reader's GET and its PUT; `faults` are
    answers given instead of the right ones, for as long as there are any."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kept: bytes | None = None
        self.meanwhile: list[bytes] = []
        self.faults: list[str] = []
        self.refused, self.lock = 0, threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/witness"

    @property
    def tag(self) -> str:
        return f'"{sha256(self.kept or b"").hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    server: Shelf

    def do_GET(self) -> None:
        fault = self.server.faults.pop() if self.server.faults else ""
        if fault == "no http":
            self.wfile.write(b"what is this\r\n\r\n")
        elif fault == "500":
            self.send_error(500)
        elif self.server.kept is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("ETag", f"W/{self.server.tag}" if fault == "weak" else self.server.tag)
            body = self.server.kept[: len(self.server.kept) // 2] if fault == "half" else self.server.kept
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            if self.server.meanwhile:
                self.server.kept = self.server.meanwhile.pop()
            wanted = self.headers.get("If-Match")
            holds = self.server.kept is None if self.headers.get("If-None-Match") else wanted == self.server.tag
            if not holds:
                self.server.refused += 1
                self.send_error(412)
                return
            self.server.kept = body
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def guarded(path: Path, url: str) -> Ledger:
    return open_ledger(str(path), create=True, safeguards=Safeguards(witness=open_witness(url)))


@pytest.fixture
def path(tmp_path: Path, shelf: Shelf) -> Path:
    path = tmp_path / "ledger.sqlite"
    guarded(path, shelf.url).create_budget("d", Amount.cap(9, 1e-6))
    return path


def started(book: Ledger, key: str) -> Charge:
    return book.start(
        book.reserve("d", key, ONE, owner=Owner.current(), scope=PEOPLE, policy_digest="p", release_id="r", path="/x")
    )


def seen(shelf: Shelf) -> int:
    assert shelf.kept is not None
    return Kept.from_text(shelf.kept.decode()).heads["d"].seq


def test_it_goes_along_with_the_journal_and_refuses_a_ledger_that_was_set_back(shelf, path) -> None:
    book = guarded(path, shelf.url)
    started(book, "one")
    assert seen(shelf) == len(book.history("d"))
    before = path.with_name("before.sqlite")
    shutil.copy(path, before)
    started(book, "two")
    with pytest.raises(LedgerError, match="witness"):
        started(guarded(before, shelf.url), "three")
    started(guarded(path, shelf.url), "three")


def test_what_another_put_meanwhile_is_not_overwritten(shelf, path) -> None:
    book = guarded(path, shelf.url)
    charge = started(book, "one")
    assert shelf.kept is not None
    shelf.meanwhile.append(shelf.kept)  # the same again: nothing is lost, and the PUT holds
    book.close(charge)
    assert shelf.refused == 0
    kept = Kept.from_text(shelf.kept.decode())
    others = kept.moved(Checkpoint(dataset="other", seq=1, hash="0" * 64, time="now"))
    shelf.meanwhile.append(others.to_text().encode())
    started(book, "two")
    assert shelf.refused == 1
    assert set(Kept.from_text(shelf.kept.decode()).heads) == {"d", "other"}
    assert seen(shelf) == len(book.history("d"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no http", "can't be used"),
        ("500", "it answered 500"),
        ("weak", "strong ETag"),
        ("half", "holds nothing that a witness keeps"),
    ],
)
def test_nothing_is_charged_where_it_does_not_answer_as_it_must(shelf, path, fault, said) -> None:
    book = guarded(path, shelf.url)
    before = len(book.history("d"))
    shelf.faults = [fault] * 3
    with pytest.raises(LedgerError, match=said):
        started(book, "one")
    assert len(book.history("d")) == before


def test_nothing_is_charged_where_nobody_answers_and_its_name_holds_no_password(tmp_path, path) -> None:
    witness = open_witness("http://somebody:secret@127.0.0.1:1/witness")
    book = open_ledger(str(path), safeguards=Safeguards(witness=witness))
    with pytest.raises(Unreachable) as refused:
        started(book, "one")
    assert "secret" not in str(refused.value)
    assert len(book.history("d")) == 1
