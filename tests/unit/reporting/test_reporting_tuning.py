"""The page of tuning: what it is first, a chart a choice, and nothing in it but text."""

from __future__ import annotations

import re

from dpbeam.reporting.tuning_page import Choice, render_tuning

HOSTILE = "<script>alert(1)</script>"


def page(**more) -> str:
    tried = [
        Choice(label="1 (the policy's)", error=12.5, rows=0.25, partitions=0.5),
        Choice(label=f"2 {HOSTILE}", error=0.0625, rows=1.0, partitions=1.0),
    ]
    facts = {"about": ["RAW figures."], "recommended": ["l0: 1 → 2"], "choices": {"s: l0": tried, "none": []}}
    return render_tuning(HOSTILE, **facts | more)


def test_it_says_first_what_it_holds() -> None:
    body = page().partition("<body>")[2]
    assert (
        body.index("Raw figures: keep them where the data are") < body.index("RAW figures.") < body.index("l0: 1 → 2")
    )


def test_a_choice_has_three_bars_that_end_at_100_percent() -> None:
    bars = re.findall(r'<rect class="fill" x="0.0%" width="([0-9.]+)%"', page())
    assert [float(width) for width in bars] == [100.0, 25.0, 50.0, 6.25, 100.0, 100.0]
    assert "≥ 1,000 %" in page()


def test_partitions_that_are_not_selected_have_no_bar() -> None:
    html = page(choices={"s": [Choice(label="1", error=0.5, rows=1.0, partitions=None)]})
    assert html.count("<rect") == 2


def test_text_of_others_is_shown_as_text() -> None:
    assert HOSTILE not in page()
    assert "&lt;script&gt;" in page()
    assert "http://" not in page().replace("http-equiv", "")
