"""No room is the house, and no module is two."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MOST_LINES = 400


def lengths() -> dict[Path, int]:
    """The lines of every module, by its path."""
    paths = (path for folder in ("dpbeam", "transforms", "pipelines") for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}


LENGTHS = lengths()


def test_no_room_holds_more_than_a_quarter_of_the_code() -> None:
    rooms = Counter[str]()
    for path, lines in LENGTHS.items():
        rooms["/".join(path.parts[:2]) if path.parts[0] == "dpbeam" else path.parts[0]] += lines
    assert rooms.total() > 10_000
    assert {room: lines for room, lines in rooms.items() if not lines <= rooms.total() / 4} == {}


@pytest.mark.parametrize("path", LENGTHS, ids=str)
def test_no_module_is_longer_than_can_be_kept_in_mind(path: Path) -> None:
    assert LENGTHS[path] <= MOST_LINES
