"""The page over a dataset's releases: newest first, what manifests say, as text; and what they spent over time."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dpbeam.reporting import index_page
from dpbeam.reporting.budget_chart import Point, budget_chart
from dpbeam.reporting.index_page import GENERATOR, MAX_RELEASES, Cost, ListedRelease
from dpbeam.reporting.manifest import Charge, Guarantee


def listed(day: int, **changes: Any) -> ListedRelease:
    facts = {
        "release_id": f"202611{day:02}T000000Z-0000000a",
        "release_name": f"2026-11-{day:02}",
        "period": None,
        "created": f"2026-11-{day:02}T00:00:00Z",
        "guarantee": Guarantee(epsilon=0.1, delta=1e-8, unit="author_id"),
        "charge": Charge(id="c", meter="basic", epsilon=0.1, delta=1e-8),
        "spent": Cost(epsilon=day / 10, delta=day * 1e-8),
    }
    return ListedRelease(**facts | changes)


def render_index(dataset: str, releases: list[ListedRelease], cap: Cost | None = None) -> str:
    return index_page.render_index(dataset, releases, cap or Cost(epsilon=4.0, delta=1e-6))


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


def test_a_period_is_shown_in_a_column_that_is_there_where_any_release_has_one() -> None:
    html = render_index("ngrams", [listed(1, period="2026-W44"), listed(2)])
    assert "<bdi>Period</bdi>" in html
    assert '<td class="when">2026-W44</td>' in html
    assert '<td class="when">–</td>' in html
    assert "<bdi>Period</bdi>" not in render_index("ngrams", [listed(2)])


def test_what_was_spent_by_each_release_stands_beside_it() -> None:
    html = render_index("ngrams", [listed(1), listed(2, spent=Cost(epsilon=0.7, delta=2e-8))])
    assert re.findall(r'<td class="num" data-sort="[^"]*">([^<]*)</td><td><bdi>author_id', html) == ["0.7", "0.1"]


@pytest.mark.parametrize(
    ("cap", "said"),
    [
        (
            Cost(epsilon=0.5, delta=1e-6),
            "left room in the budget of ε 0.5 and δ 1e-6 for 3 more that cost the same",
        ),
        (Cost(epsilon=9.0, delta=4e-8), "left room in the budget of ε 9 and δ 4e-8 for 2 more that cost the same"),
        (Cost(epsilon=0.29, delta=1e-6), "The budget of ε 0.29 and δ 1e-6 has no room for one more"),
    ],
)
def test_it_says_how_many_more_releases_the_budget_pays(cap: Cost, said: str) -> None:
    assert said in render_index("ngrams", [listed(2), listed(1)], cap)


def test_the_budget_is_drawn_over_time_from_the_second_release_on() -> None:
    assert "<svg" not in render_index("ngrams", [listed(2)])
    html = render_index("ngrams", [listed(1), listed(3), listed(2)])
    assert 'aria-label="From 2026-11-01 to 2026-11-03, ε 0.3 of 4 spent; the table has all figures."' in html
    assert re.findall(r'<rect class="fill" x="(.*?)%" width="(.*?)%" y="(.*?)%" height="(.*?)%"/>', html) == [
        ("0.0", "48.0", "97.5", "2.5"),
        ("48.0", "48.0", "95.0", "5.0"),
        ("96.0", "4.0", "92.5", "7.5"),
    ]


def point(hours: float, epsilon: float) -> Point:
    return Point(at=datetime(2026, 11, 1, tzinfo=timezone.utc) + timedelta(hours=hours), epsilon=epsilon)


def test_steps_never_go_down_nor_beyond_the_cap_and_lie_side_by_side() -> None:
    points = [point(hours**1.5, hours / 1000) for hours in range(1, 1200)]
    chart = budget_chart(points[::-1], 1.0)
    assert chart is not None
    heights = [step.height for step in chart.steps]
    assert heights == sorted(heights)
    assert heights[-1] == 100.0
    for step, after in zip(chart.steps, chart.steps[1:], strict=False):
        assert step.start + step.width == pytest.approx(after.start)
    assert chart.steps[-1].start + chart.steps[-1].width == 100.0
    assert chart == budget_chart(points, 1.0)


def test_of_releases_at_one_place_the_last_sum_is_drawn() -> None:
    chart = budget_chart([point(0, 0.1), point(0.001, 0.2), point(1000, 0.3)], 1.0)
    assert chart is not None
    assert [step.height for step in chart.steps] == [20.0, 30.0]


def test_there_is_no_chart_where_time_stands_still() -> None:
    assert budget_chart([point(0, 0.1), point(0, 0.2)], 1.0) is None
    assert budget_chart([], 1.0) is None


def test_a_page_over_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a page over a dataset's releases needs one at least"):
        render_index("ngrams", [])
