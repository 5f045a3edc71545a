"""A witness behind http(s): GET reads it, PUT replaces it only if it is still what was read (`If-Match`, RFC 9110).

The server must keep what is put, answer GET with an ETag, and refuse with 412 a PUT whose If-Match or If-None-Match
doesn't hold, as object stores do.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

from dpbeam.ledger.waiting import Patience
from dpbeam.ledger.witness import Kept, Unreachable, damaged

TIMEOUT_S = 10.0
WAIT_S = 60.0
_MOST_BYTES = 2**26
_FAILURES = (OSError, ValueError, HTTPException)


@dataclass(frozen=True, kw_only=True)
class WebWitness:
    """`Witness` at `url`."""

    url: str

    @property
    def place(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def read(self) -> Kept | None:
        return self._get()[0]

    def update(self, change: Callable[[Kept | None], Kept | None]) -> None:
        patience = Patience(WAIT_S, "other runs at the witness")
        while True:
            kept, tag = self._get()
            made = change(kept)
            if made is None or self._put(made, tag):
                return
            if not patience.wait():
                raise Unreachable(f"the witness {self.place} was changed by others for {WAIT_S:.0f} s; try again")

    def _get(self) -> tuple[Kept | None, str | None]:
        """What is kept, and its ETag; None and None if there is none."""
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url), timeout=TIMEOUT_S) as answer:
                tag, text = answer.headers.get("ETag"), answer.read(_MOST_BYTES).decode("ascii")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None, None
            raise self._unreachable(f"it answered {error.code}") from None
        except UnicodeError:
            raise damaged(self.place) from None
        except _FAILURES as error:
            raise self._unreachable(type(error).__name__) from None
        if not tag or tag.startswith("W/"):
            raise self._unreachable("it answers without a strong ETag, so two runs could overwrite one another")
        try:
            return Kept.from_text(text), tag
        except ValueError:
            raise damaged(self.place) from None

    def _put(self, made: Kept, tag: str | None) -> bool:
        """Whether it was put: False if another was put in between."""
        condition = {"If-None-Match": "*"} if tag is None else {"If-Match": tag}
        request = urllib.request.Request(
            self.url,
            data=made.to_text().encode("ascii"),
            method="PUT",
            headers={"Content-Type": "application/json", **condition},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                return True
        except urllib.error.HTTPError as error:
            if error.code in (409, 412):
                return False
            raise self._unreachable(f"it answered {error.code} to PUT") from None
        except _FAILURES as error:
            raise self._unreachable(type(error).__name__) from None

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"the witness {self.place} can't be used ({why}); nothing is charged without it. Check its server"
        )
