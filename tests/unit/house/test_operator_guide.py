"""Whoever is told to run `dpbeam recover`, or sees an exit code, finds a section that says what to do."""

from __future__ import annotations

import re

import pytest

from dpbeam.pipelines.cli.commands import CODES
from tests.helpers.operator import ROOT, holds, said_of_recover, sections

SECTIONS = sections()
MESSAGES = [message for section in SECTIONS.values() for message in section.messages]
SAID = list(said_of_recover())


@pytest.mark.parametrize(("place", "fixed"), SAID, ids=[place for place, _ in SAID])
def test_every_message_that_says_recover_has_a_section(place: str, fixed: tuple[str, ...]) -> None:
    assert [message for message in MESSAGES if holds(message, fixed)] != []


@pytest.mark.parametrize("message", [message for message in MESSAGES if "`dpbeam recover" in message])
def test_every_message_in_the_guide_that_says_recover_is_in_the_code(message: str) -> None:
    assert [place for place, fixed in SAID if holds(message, fixed)] != []


def test_the_messages_are_looked_for() -> None:
    assert len(SAID) > 15
    assert not holds("free some space, then settle it", ("free some space", "`dpbeam recover`"))


def test_every_section_is_listed_at_the_top_with_its_exit_code() -> None:
    guide = (ROOT / "docs" / "operator.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[.*?\]\(#([\w-]+)\) \| (.*?) \|", guide, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in SECTIONS}
    assert slugs - {slug for slug, _ in listed} == {"a-pipeline-of-your-own-was-left"}


def test_every_exit_code_has_its_section() -> None:
    page = (ROOT / "docs" / "exit_codes.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## ([\d, ]+): ", page, re.MULTILINE)
    assert {int(code) for title in titles for code in title.split(",")} == {*CODES, 129, 143}
