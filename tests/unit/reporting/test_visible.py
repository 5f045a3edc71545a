"""What is shown of texts from outside: nothing hidden, nothing that a terminal acts on, the rest as it is."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpbeam.reporting.visible import visible, visible_key, visible_lines, visible_message

INVISIBLE = "\u00ad\u034f\u061c\u115f\u1160\u17b4\u180b\u180e\u200b\u200e\u2028\u202e\u2060\u2066\u2800\u3164\ufe00"
INVISIBLE += "\ufeff\uffa0\ufff9\U00013441\U00013442\U00016fe4\U0001d159\U0001d173\U000e0001\U000e0041\U000e0100"
UNSAFE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
JOINERS = "\u200c\u200d\ufe0f"
HARD = (
    "\x00\x07\x08\t\n\r\x1b\x7f\x85\x9b\ud800\udcff\ue000\uffff\U0010ffff a^1#\u20e3\u2400中सى❤😀🏽→[/kg]"
    + JOINERS
    + INVISIBLE
)
TEXTS = st.text() | st.text(st.sampled_from(HARD)) | st.text(st.characters(categories=UNSAFE))


@pytest.mark.parametrize("shown", [visible, visible_key, visible_message])
@given(text=TEXTS)
def test_nothing_that_is_not_seen_is_in_any_text_shown(shown, text: str) -> None:
    found = shown(text)
    left = [c for c in found if unicodedata.category(c) in UNSAFE or c in INVISIBLE]
    assert set(left) <= set(JOINERS)
    assert shown(found) == found
    for match in re.finditer(f"[{JOINERS}]", found):  # a joiner has something on both sides, and never another joiner
        assert match.start() > 0
        assert match[0] == "\ufe0f" or match.end() < len(found)
        assert found[match.start() - 1] not in "\u200c\u200d"
    found.encode("utf-8")


@pytest.mark.parametrize("at", range(0, sys.maxunicode + 1, 1 << 16), ids=hex)
def test_every_character_alone_is_seen(at: int) -> None:
    for code in range(at, at + (1 << 16)):
        character = chr(code)
        found = visible(character)
        is_hidden = unicodedata.category(character) in UNSAFE or character in INVISIBLE or character in JOINERS
        assert (found != character) or not is_hidden, hex(code)
        if found != character:
            assert re.fullmatch("[\u2400-\u2421]|\u27e8U\\+[0-9A-F]{4,6}\u27e9", found), hex(code)
            assert is_hidden or not character.isalnum(), hex(code)


def test_every_hidden_character_has_a_look_of_its_own() -> None:
    hidden = [chr(code) for code in range(sys.maxunicode + 1) if visible(chr(code)) != chr(code)]
    assert len({visible(character) for character in hidden}) == len(hidden)


@given(text=st.text(st.characters(categories=("L", "N", "P", "S"), max_codepoint=0x2FF) | st.just(" ")))
def test_ordinary_text_comes_back_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "price[/kg]",
        "[bold]x",
        ":smile:",
        "Ærø",
        "中文　日本",
        "1 234",
        "می\u200cخواهم",
        "क्\u200dष",
        "نص",
        "שלום",
        "👩🏽\u200d🚀",
        "❤\ufe0f\u200d🔥",
        "🙂\u200d↔\ufe0f",
        "1\ufe0f\u20e3",
        "©\ufe0f",
        "🏳\ufe0f\u200d⚧\ufe0f",
        "é",
        "e\u0301",
    ],
)
def test_words_of_all_scripts_and_emoji_come_back_as_they_are(text: str) -> None:
    assert visible(text) == visible_key(text) == visible_message(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;x\x07", "␛]0;x␇"),
        ("a\x9b31m", "a⟨U+009B⟩31m"),
        ("a\u202etxt", "a⟨U+202E⟩txt"),
        ("a\nb\r\x7f", "a␊b␍␡"),
        ("\udcff", "⟨U+DCFF⟩"),
        ("a\u200d", "a⟨U+200D⟩"),
        ("中\u200d文", "中⟨U+200D⟩文"),
        ("ى\u200d", "ى⟨U+200D⟩"),
        ("😀\u200d\u200d😀", "😀⟨U+200D⟩⟨U+200D⟩😀"),
        ("a\ufe0f", "a⟨U+FE0F⟩"),
        ("\x00\u200d😀", "␀⟨U+200D⟩😀"),
        ("\u180b\u200dक", "⟨U+180B⟩⟨U+200D⟩क"),
    ],
)
def test_what_is_hidden_is_shown_by_picture_or_code(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (" a  b ", "␠a  b␠"),
        ("  ", "␠␠"),
        ("a\u00a0", "a⟨U+00A0⟩"),
        ("\u3000a", "⟨U+3000⟩a"),
        ("a\u00a0b", "a\u00a0b"),
        ("", ""),
    ],
)
def test_spaces_at_the_ends_of_a_key_are_seen(key: str, shown: str) -> None:
    assert visible_key(key) == shown


@given(text=TEXTS | st.text(st.sampled_from("9 "), min_size=3500, max_size=4000))
@example("9" * 100_000)
@example("9 " * 100_000)
@example("\x00" * 100_000)
def test_a_message_is_cut_in_the_middle(text: str) -> None:
    found = visible_message(text)
    assert len(found) <= 8 * 3000
    if len(text) < 300:
        assert found == visible(text)
    assert found[:200] == visible(text)[:200]
    assert found[-40:] == visible(text)[-40:]


@given(lines=st.lists(TEXTS.map(lambda text: text.replace("\n", ""))))
def test_lines_that_were_laid_out_keep_their_breaks_alone(lines: list[str]) -> None:
    assert visible_lines("\n".join(lines)).split("\n") == [visible(line) for line in lines] or lines == []
