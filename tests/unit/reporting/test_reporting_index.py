"""The page over a dataset's releases: newest first, what manifests say, as text."""

from __future__ import annotations

import re
from typing import Any

from dpbeam.reporting.index_page import GENERATOR, MAX_RELEASES, ListedRelease, render_index
from dpbeam.reporting.manifest import Charge, Guarantee


def listed(day: int, **changes: Any) -> ListedRelease:
    facts = {
        "release_id": f"202611{day:02}T000000Z-0000000a",
        "release_name": f"2026-11-{day:02}",
        "created": f"2026-11-{day:02}T00:00:00Z",
        "guarantee": Guarantee(epsilon=0.1, delta=1e-8, unit="author_id"),
        "charge": Charge(id="c", meter="basic", epsilon=0.1, delta=1e-8),
    }
    return ListedRelease(**facts | changes)


def test_releases_come_newest_first_each_with_a_link_to_its_report() -> None:
    html = render_index("ngrams", [listed(2), listed(3), listed(1)])
    links = re.findall(r'<a href="(.*?)"><bdi>(.*?)</bdi>', html)
    assert links == [
        ("./20261103T000000Z-0000000a/report.html", "2026-11-03"),
        ("./20261102T000000Z-0000000a/report.html", "2026-11-02"),
        ("./20261101T000000Z-0000000a/report.html", "2026-11-01"),
    ]


def test_what_they_cost_in_sum_is_exact() -> None:
    html = render_index("ngrams", [listed(day) for day in (1, 2, 3)])
    assert "3 releases, charged ε 0.3 and δ 3e-8 in sum." in html


def test_the_same_releases_give_the_same_page() -> None:
    assert render_index("ngrams", [listed(1), listed(2)]) == render_index("ngrams", [listed(2), listed(1)])


def test_a_hostile_name_is_text() -> None:
    html = render_index("ngrams", [listed(1, release_name="</a><script>alert(1)</script>")])
    assert "<bdi>&lt;/a&gt;&lt;script&gt;alert(1)&lt;/script&gt;</bdi>" in html
    assert html.count("<script>") == 1


def test_the_page_says_who_made_it() -> None:
    assert GENERATOR in render_index("ngrams", [listed(1)])[:4096]


def test_of_very_many_releases_the_newest_are_listed() -> None:
    many = [listed(1, release_id=f"20261101T000000Z-{i:08x}") for i in range(MAX_RELEASES + 1)]
    html = render_index("ngrams", many)
    assert html.count("report.html") == MAX_RELEASES
    assert "The newest 1,000 releases. Each report opens from its name." in html
    assert f"-{0:08x}/" not in html
