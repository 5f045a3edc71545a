"""The report: hostile text stays text, nothing is fetched or run, and the same facts give the same page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.release.results import interval_columns
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    TruncatedGeometric,
)
from dpbeam.reporting.charts import MAX_BARS, bar_chart, shorten
from dpbeam.reporting.facts import Balance, ReleaseFacts, SelectionFacts, StageReport
from dpbeam.reporting.manifest import Charge, ChosenBound, FileEntry, Guarantee, StatedCertificate
from dpbeam.reporting.report import MAX_COLUMNS, render_report
from dpbeam.reporting.rows import top_rows
from dpbeam.reporting.tables import MetricColumn

HOSTILE = [
    "<script>document.title='pwned'</script>",
    "<img src=x onerror=alert(1)>",
    "</title></style></svg></text><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "]]><script>alert(1)</script><![CDATA[",
    "<!-- --><svg/onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "$\\frac{1}{0}$ $unclosed \\",
    "&lt;b&gt; &amp;",
    "\u202egnp.exe",
    "\x00\x01\x1b[31m\r\n\t",
    "\ufffe\uffff\x85\u2028",
    "🙂👩‍👩‍👧 日本 عربى",
    "e" + "\u0301" * 500,
    "a" * 10_000,
    "",
]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would see: elements, attributes, and the text of each element kind."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.bdi: list[str] = []
        self.svg_text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "bdi":
            self.bdi.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "bdi":
            self.bdi[-1] += data
        if self.open and self.open[-1] == "text":
            self.svg_text.append(data)


def metric(name: str = "count", std: float | None = 3.0) -> MetricColumn:
    return MetricColumn(name=name, kind="count", noise="laplace", std=std)


def results(keys: list[str], name: str = "count", key: str = "ngram") -> pa.Table:
    values = [100.0 - i for i in range(len(keys))]
    return pa.table(
        {
            key: pa.array(keys, pa.string()),
            name: pa.array(values, pa.float64()),
            f"{name}_low": pa.array([v - 5 for v in values], pa.float64()),
            f"{name}_high": pa.array([v + 5 for v in values], pa.float64()),
        }
    )


def stage(table: pa.Table, **changes: Any) -> StageReport:
    whole = StageReport(
        name="by_ngram",
        table=table,
        keys=("ngram",),
        metrics=(metric(),),
        l0=20,
        linf=1,
        selection=SelectionFacts(strategy="truncated_geometric", pre_threshold=10, keep_50=263, keep_99=301),
    )
    return replace(whole, **changes)


def render(*stages: StageReport, **changes: Any) -> str:
    facts: dict[str, Any] = {
        "release": ReleaseFacts(
            release_id="r1",
            release_name="default",
            dataset="ngrams",
            created="2026-11-24T00:30:00Z",
            dpbeam_version="0.1.0",
            policy_digest="sha256:" + "a" * 64,
            input_fingerprint="sha256:" + "b" * 64,
        ),
        "guarantee": Guarantee(epsilon=1.0, delta=1e-8, unit="author_id"),
        "certificate": StatedCertificate(naive=2.0, rdp=1.5, pld=0.99),
        "mechanisms": [
            Laplace(stage="by_ngram", metric="count", scale=2.0, l1=1.0),
            Gaussian(stage="by_ngram", metric="x", sigma=2.0, l2=1.0),
            TruncatedGeometric(stage="by_ngram", epsilon=0.5, delta=1e-9, l0=1),
            LaplaceThresholding(stage="b", scale=2.0, l1=1.0, threshold=9.0, delta=1e-9, l0=1),
            GaussianThresholding(stage="c", sigma=2.0, l2=1.0, threshold=9.0, delta=1e-9, l0=1),
        ],
        "charge": Charge(id="c1", meter="basic", epsilon=1.0, delta=1e-8),
        "balance": Balance(
            cap_epsilon=10.0,
            cap_delta=1e-6,
            spent_epsilon=3.0,
            spent_delta=3e-8,
            held_epsilon=1.0,
            held_delta=1e-8,
            left_epsilon=6.0,
            left_delta=9.6e-7,
        ),
        "files": [FileEntry(path="by_ngram.parquet", sha256="c" * 64, rows=3)],
    }
    return render_report(stages=stages, **facts | changes)


def check_harmless(html: str) -> Page:
    """Parses the page and checks that no element, attribute or address in it could run or fetch anything."""
    page = Page(html)
    assert page.open == []
    forbidden = {"script", "img", "iframe", "object", "embed", "link", "form", "foreignobject", "image", "base"}
    assert page.tags & forbidden == set()
    assert [name for name, _ in page.attributes if name.startswith("on")] == []
    links = [value for name, value in page.attributes if name in ("href", "xlink:href", "src", "action")]
    assert [link for link in links if not link.startswith("#")] == []
    assert re.findall(r"url\((?!#)", html) == []
    return page


def test_a_plain_report_is_whole_and_harmless() -> None:
    check_harmless(render(stage(results(["a", "b"]))))


def test_hostile_keys_run_nothing_and_stay_readable() -> None:
    page = check_harmless(render(stage(results(HOSTILE))))
    for text in [*HOSTILE[:9], HOSTILE[12]]:
        assert text in page.bdi


def test_hostile_keys_reach_the_chart_as_text() -> None:
    page = check_harmless(render(stage(results(["<b>&\"'", "$x$"]))))
    assert {"<b>&\"'", "$x$"} <= set(page.svg_text)


@pytest.mark.parametrize("text", HOSTILE[:-1])
def test_hostile_names_run_nothing(text: str) -> None:
    name = text or "x"
    table = results(["a"], name="m", key="k").rename_columns([name + "k", name, name + "_low", name + "_high"])
    view = stage(table, name=name, keys=(name + "k",), metrics=(metric(name),), clipped=((name, 0.0, 1.0),))
    check_harmless(render(view, guarantee=Guarantee(epsilon=1.0, delta=1e-8, unit=name)))


@given(keys=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
@settings(deadline=None, max_examples=20)
def test_any_unicode_key_gives_a_harmless_page(keys: list[str]) -> None:
    check_harmless(render(stage(results(keys))))


def test_control_and_direction_characters_are_shown_not_sent() -> None:
    html = render(stage(results(["\x00\x1b\n\x7f\u202e\u2066"])))
    assert "␀␛␊␡⟨U+202E⟩⟨U+2066⟩" in html
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e\u2066]", html)


def test_a_very_long_key_is_cut() -> None:
    assert "a" * 300 + "…" in render(stage(results(["a" * 10_000])))
    assert "a" * 301 not in render(stage(results(["a" * 10_000])))


def test_the_page_forbids_scripts_and_the_network() -> None:
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in render(stage(results(["a"])))


def test_the_same_facts_give_the_same_page() -> None:
    assert render(stage(results(HOSTILE))) == render(stage(results(HOSTILE)))


def test_ids_are_unique_with_several_charts() -> None:
    page = Page(render(stage(results(["a"])), stage(results(["a"]), name="other")))
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_every_reference_in_the_page_has_its_target() -> None:
    page = Page(render(stage(results(["a", "b"])), stage(results(["c"]), name="other")))
    ids = {value for name, value in page.attributes if name == "id"}
    targets = {value[1:] for name, value in page.attributes if name in ("href", "xlink:href")}
    targets |= {value for name, value in page.attributes if name == "aria-labelledby"}
    assert targets - ids == set()


def test_a_stage_without_partitions_says_so() -> None:
    assert "No partition was released." in render(stage(results([])))


def test_missing_and_infinite_values_are_shown_as_a_dash() -> None:
    table = pa.table({"ngram": ["a"], "count": [float("nan")], "count_low": [None], "count_high": [float("inf")]})
    html = render(stage(table.set_column(2, "count_low", pa.array([None], pa.float64()))))
    assert '<td class="num">–</td><td class="num interval">– to –</td>' in html


def test_of_a_value_that_is_lacking_no_other_is_said() -> None:
    counted = replace(metric(), label="word")
    table = results(["a", "b", "c"]).append_column("word", pa.array(["w", "", None], pa.string()))
    html = render(stage(table, metrics=(counted,)))
    assert '<td class="num"><bdi>w</bdi>: 100' in html
    assert '<td class="num"><bdi>(empty)</bdi>: 99' in html
    assert '<td class="num">98' in html


def test_only_the_first_50_rows_are_shown_and_the_page_says_so() -> None:
    html = render(stage(results([f"key{i:03}" for i in range(60)])))
    assert "The first 50 of 60 released partitions, by count. The files hold them all." in html
    assert "key049" in html
    assert "key050" not in html


def test_rows_are_ordered_by_the_first_metric_largest_first() -> None:
    table = pa.table({"k": ["a", "b", "c"], "m": [1, 3, 2], "m_low": [0, 0, 0], "m_high": [9, 9, 9]})
    rows = top_rows(table, keys=["k"], metrics=["m"], by="m", limit=2)
    assert [row.keys for row in rows] == [("b",), ("c",)]


@pytest.mark.parametrize(
    "text",
    [
        "differs between the two by a factor of at most e<sup>ε</sup> = 2.7",
        "an extra probability of at most δ (one in 100 million)",
        "to a belief of about 73 % at most",
        "charged ε = 1 and δ = 1e-8",
        "3 % of the budget",
        "A partition of 263 units is kept with probability 50 %, of 301 units with 99 % (truncated geometric; of fewer"
        " than 10, never)",
        "<code>dpbeam certify manifest.json</code>",
        "<code>" + "c" * 64 + "</code>",
        "Values of <bdi>hours</bdi> below 0 or above 100 count as 0 or 100.",
    ],
)
def test_the_page_says_what_it_must(text: str) -> None:
    html = render(stage(results(["a"]), clipped=(("hours", 0.0, 100.0),)))
    assert text.replace("3 % of the budget", "30 % of the budget") in html


def test_bounds_that_the_run_found_are_said_with_their_fallbacks() -> None:
    chosen = (
        ChosenBound(stage="by_ngram", metric=None, parameter="l0", value=24, fallback=False),
        ChosenBound(stage="by_ngram", metric="<b>", parameter="high", value=1.0, fallback=True),
    )
    html = render(stage(results(["a"]), chosen=chosen))
    assert (
        "Of these bounds the run found some itself, from noisy histograms that are part of its cost: l0 = 24, high of "
        "<bdi>&lt;b&gt;</bdi> = 1 (nothing stood out from the noise, so this is the fallback)."
    ) in html
    assert "its scale follows the bounds that the run found" in html
    assert "Of these bounds the run found" not in render(stage(results(["a"])))


def test_public_partitions_and_rows_as_units_are_put_in_their_own_words() -> None:
    html = render(stage(results(["a"]), selection=None, l0=1), guarantee=Guarantee(epsilon=1.0, delta=1e-8, unit="row"))
    assert "Its partitions are public: the policy lists them, and all are shown." in html
    assert "each row counts in one partition, once" in html
    assert "Partitions that too few" not in html


def test_a_chart_shows_at_most_twenty_bars() -> None:
    table = results([f"k{i:02}" for i in range(30)])
    rows = top_rows(table, keys=["ngram"], metrics=["count"], by="count", limit=30)
    svg = bar_chart(rows, metric="count", title="t", prefix="p")
    assert "k19<" in svg
    assert "k20<" not in svg
    assert MAX_BARS == 20


def test_a_chart_label_is_cut_by_width_not_by_count() -> None:
    assert shorten("a" * 40) == "a" * 30 + "…"
    assert shorten("日" * 40) == "日" * 15 + "…"
    assert shorten("") == "(empty)"


def wide(columns: int) -> StageReport:
    """A count, and a metric of so many columns."""
    table = results(["a", "b"])
    for i in range(columns):
        for name in interval_columns(f"e_{i}"):
            table = table.append_column(name, table["count"])
    numbers = [
        MetricColumn(name=f"e_{i}", kind="vector_sum", noise="laplace", std=3.0, place=i, of=columns)
        for i in range(columns)
    ]
    return stage(table, metrics=(*numbers, metric()))


def test_of_a_metric_with_many_columns_the_page_shows_the_first() -> None:
    html = render(wide(MAX_COLUMNS + 1))
    page = check_harmless(html)
    heads = [text for text in page.bdi if text.startswith("e_") or text == "count"]
    assert [f"e_{i}" in heads for i in range(MAX_COLUMNS + 1)] == [True] * MAX_COLUMNS + [False]
    assert "count" in heads
    assert html.count("<figure>") == MAX_COLUMNS + 1
    said = f"<bdi>e_0</bdi> is the first of {MAX_COLUMNS + 1} columns, of which {MAX_COLUMNS} are shown; the files hold"
    assert html.count(said) == 1


def test_a_metric_whose_columns_fit_is_shown_whole() -> None:
    html = render(wide(MAX_COLUMNS))
    assert html.count("<figure>") == MAX_COLUMNS + 1
    assert "is the first of" not in html
