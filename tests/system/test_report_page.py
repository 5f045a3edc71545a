"""The report in a real Chromium: on a desk, on a phone, on paper, and with scripts off."""

from __future__ import annotations

import io
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from pypdf import PdfReader

from tests.helpers.browser import ADDRESS, LAST, METRICS, opened, report

DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DARK: dict[str, Any] = {**DESK, "color_scheme": "dark"}
SCREENS = pytest.mark.parametrize("screen", [DESK, PHONE, DARK], ids=["desk", "phone", "dark"])

SIZES = """() => {
  const sizes = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(node);
    if (node.textContent.trim() === "" || range.getClientRects().length === 0) continue;
    sizes[node.textContent.trim()] = parseFloat(getComputedStyle(node.parentElement).fontSize);
  }
  return sizes;
}"""


@SCREENS
def test_the_page_asks_for_nothing_and_complains_of_nothing(screen: dict[str, Any]) -> None:
    with opened(report(), **screen) as site:
        site.page.wait_for_load_state("networkidle")
        assert site.asked == [ADDRESS]
        assert site.said == []


@SCREENS
def test_the_page_is_no_wider_than_the_screen(screen: dict[str, Any]) -> None:
    with opened(report(), **screen) as site:
        wide, screen_wide = site.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide == screen_wide == screen["viewport"]["width"]


def test_all_text_on_a_phone_is_of_12_pixels_or_more() -> None:
    with opened(report(), **PHONE) as site:
        sizes = site.page.evaluate(SIZES)
    assert len(sizes) > 200
    assert {text: size for text, size in sizes.items() if size < 12} == {}


def test_a_wide_table_scrolls_within_its_frame_and_says_so() -> None:
    with opened(report(), **PHONE) as site:
        frame = site.page.locator(".scroll", has=site.page.locator("table.many"))
        assert frame.evaluate("frame => frame.scrollWidth > frame.clientWidth")
        assert site.page.locator(".hint:visible").all_inner_texts() == ["More columns: scroll the table sideways →"]


@SCREENS
def test_axe_finds_nothing_to_object_to(screen: dict[str, Any]) -> None:
    with opened(report(), **screen) as site:
        site.page.locator("summary").click()
        found = Axe().run(site.page)
    assert len(found.response["passes"]) > 20  # it did look
    assert found.response["violations"] == []


def printed(html: str) -> list[tuple[str, float]]:
    """The pieces of text on paper (A4, upright), each with where it begins, as a share of the sheet's width."""
    with opened(html) as site:
        content = site.page.pdf(format="A4")
    found: list[tuple[str, float]] = []
    for sheet in PdfReader(io.BytesIO(content)).pages:
        width = float(sheet.mediabox.width)

        def keep(text: str, cm: Any, tm: Any, *_: Any, width: float = width) -> None:
            found.append((text.strip(), (cm[0] * tm[4] + cm[2] * tm[5] + cm[4]) / width))

        sheet.extract_text(visitor_text=keep)
    return [(text, at) for text, at in found if text]


def test_on_paper_no_column_is_lost() -> None:
    pieces = printed(report())
    outside = [piece for piece in pieces if not 0 <= piece[1] <= 0.97]
    assert outside == []
    text = "\n".join(text for text, _ in pieces)
    for number in range(1, METRICS + 1):
        assert text.count(f"metric_{number}\n") >= 15, number
    assert all(f"{1000 * METRICS - 80 * i:,}" in text for i in range(15))  # the last column's values, of every row
    assert "patient_id" in text


def test_with_scripts_off_all_tables_are_read() -> None:
    with opened(report(), **DESK, java_script_enabled=False) as site:
        rows = site.page.locator("table.many tbody tr")
        assert rows.count() == 15
        assert rows.last.is_visible()
        assert LAST in site.page.locator("table.many thead").inner_text()
        assert site.page.locator(".bars li:visible").count() > 60
        assert site.page.locator("button, input").count() == 0  # nothing that would do nothing


def keys(site: Any, stage: str = "by_day") -> list[str]:
    heads = site.page.locator(f'[aria-label="Results of stage {stage}"] tbody th:visible')
    return [text.strip() for text in heads.all_inner_texts()]


def test_a_click_on_a_column_sorts_by_its_values_and_another_turns_them_round() -> None:
    with opened(report(), **DESK) as site:
        head = site.page.locator('[aria-label="Results of stage by_day"] thead th').last
        days = keys(site)
        head.locator("button").click()
        assert (keys(site), head.get_attribute("aria-sort")) == (days, "descending")
        head.locator("button").click()
        assert (keys(site), head.get_attribute("aria-sort")) == (days[::-1], "ascending")


def test_a_missing_value_comes_before_all_others_that_rise() -> None:
    with opened(report(), **DESK) as site:
        head = site.page.locator('[aria-label="Results of stage by_city"] thead th').last
        head.locator("button").click()
        head.locator("button").click()
        assert keys(site, "by_city") == ["Lyon", "Oslo"]


def test_finding_leaves_the_rows_that_hold_the_text() -> None:
    with opened(report(), **DESK) as site:
        box = site.page.get_by_label("Find in these rows").nth(1)
        box.fill("11-2")
        assert keys(site) == [f"2026-11-2{i}" for i in range(9)]
        assert site.page.locator(".find output").nth(1).inner_text() == "9 of 28 rows"
        box.fill("")
        assert len(keys(site)) == 28


TITLE = "document.title = 'run'"
INJECTED = f"<script>{TITLE}</script><img src=x onerror=\"{TITLE}\"><p style='color: red'>x"


@pytest.mark.parametrize("protected", [True, False])
def test_a_script_that_got_into_the_page_would_not_run(protected: bool) -> None:
    html = report().replace("</main>", INJECTED + "</main>")
    if not protected:
        html = html.replace("Content-Security-Policy", "x-none")
    with opened(html) as site:
        site.page.wait_for_load_state("networkidle")
        assert (site.page.title() == "run") is not protected
        assert site.page.locator("main > p").last.evaluate("p => p.style.color") == ("" if protected else "red")
        assert (site.asked == [ADDRESS]) is protected


def test_a_real_release_reads_on_a_phone(workspace) -> None:
    workspace.csv(*(f"p{i},{'Lyon' if i % 3 else 'Oslo'},{i % 50}" for i in range(3000)))
    workspace.create_budget()
    assert workspace.run() == 0
    html = (workspace.release_folder() / "report.html").read_text(encoding="utf-8")
    with opened(html, **PHONE) as site:
        assert site.page.evaluate("document.documentElement.scrollWidth") == 390
        assert "Lyon" in site.page.locator(".bars").first.inner_text()
        assert site.said == []
        assert Axe().run(site.page).response["violations"] == []
