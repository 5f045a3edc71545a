"""The report: hostile text stays text, nothing is fetched or run, and the same facts give the same page."""

from __future__ import annotations

import base64
import hashlib
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
from dpbeam.reporting.facts import Balance, ReleaseFacts, SelectionFacts, StageReport, ValueFacts
from dpbeam.reporting.manifest import About, Charge, ChosenBound, FileEntry, Guarantee, StatedCertificate
from dpbeam.reporting.page import environment
from dpbeam.reporting.report import render_report
from dpbeam.reporting.rows import top_rows
from dpbeam.reporting.stage_page import MAX_BARS, MAX_BARS_IN_ORDER, MAX_COLUMNS
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
SCRIPT, STYLE = (str(environment().globals[name]) for name in ("script", "style"))


class Page(HTMLParser):
    """What a browser would see: elements, attributes, and the text of each element kind."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.bdi: list[str] = []
        self.labels: list[str] = []
        self.code: list[tuple[str, str]] = []
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
        if tag in ("script", "style"):
            self.code.append((tag, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "bdi":
            self.bdi[-1] += data
        if self.open[-2:] == ["span", "bdi"]:
            self.labels.append(data)
        if self.open and self.open[-1] in ("script", "style"):
            self.code[-1] = (self.open[-1], self.code[-1][1] + data)


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


RELEASE = ReleaseFacts(
    release_id="r1",
    release_name="default",
    dataset="ngrams",
    created="2026-11-24T00:30:00Z",
    dpbeam_version="0.1.0",
    policy_digest="sha256:" + "a" * 64,
    input_fingerprint="sha256:" + "b" * 64,
)
BALANCE = Balance(
    cap_epsilon=10.0,
    cap_delta=1e-6,
    spent_epsilon=3.0,
    spent_delta=3e-8,
    held_epsilon=1.0,
    held_delta=1e-8,
    left_epsilon=6.0,
    left_delta=9.6e-7,
    spent_as_epsilon=3.0,
)


def render(*stages: StageReport, **changes: Any) -> str:
    facts: dict[str, Any] = {
        "release": RELEASE,
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
        "balance": BALANCE,
        "files": [FileEntry(path="by_ngram.parquet", sha256="c" * 64, rows=3)],
    }
    return render_report(stages=stages, **facts | changes)


def check_harmless(html: str) -> Page:
    """Parses the page and checks that no element, attribute or address in it could run or fetch anything."""
    page = Page(html)
    assert page.open == []
    forbidden = {"img", "iframe", "object", "embed", "form", "foreignobject", "image", "base"}
    assert page.tags & forbidden == set()
    assert page.code == [("style", STYLE), ("script", SCRIPT)]
    assert [name for name, _ in page.attributes if name.startswith("on") or name == "style"] == []
    links = [value for name, value in page.attributes if name in ("href", "xlink:href", "src", "action")]
    assert [link for link in links if not link.startswith(("#", "./"))] == ["data:,"]
    assert re.findall(r"url\(|@import", html.replace(SCRIPT, "")) == []
    return page


def test_a_plain_report_is_whole_and_harmless() -> None:
    check_harmless(render(stage(results(["a", "b"]))))


def test_hostile_keys_run_nothing_and_stay_readable() -> None:
    page = check_harmless(render(stage(results(HOSTILE))))
    for text in [*HOSTILE[:9], HOSTILE[12]]:
        assert text in page.bdi


def test_hostile_keys_reach_the_chart_as_text() -> None:
    page = check_harmless(render(stage(results(["<b>&\"'", "$x$"]))))
    assert {"<b>&\"'", "$x$"} <= set(page.labels)


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


def test_the_page_forbids_the_network_and_all_scripts_and_styles_but_its_own() -> None:
    html = render(stage(results(["a"])))
    style, script = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (STYLE, SCRIPT))
    assert (
        f'<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src '
        f"&#39;sha256-{style}&#39;; script-src &#39;sha256-{script}&#39;; img-src data:; base-uri &#39;none&#39;; "
        'form-action &#39;none&#39;">'
    ) in html
    assert html.index("Content-Security-Policy") < html.index("<style>") < html.index("<script>")


def test_the_same_facts_give_the_same_page() -> None:
    assert render(stage(results(HOSTILE))) == render(stage(results(HOSTILE)))


def test_ids_are_unique_with_several_charts() -> None:
    page = Page(render(stage(results(["a"])), stage(results(["a"]), name="other")))
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_every_reference_in_the_page_has_its_target() -> None:
    page = Page(render(stage(results(["a", "b"])), stage(results(["c"]), name="other")))
    ids = {value for name, value in page.attributes if name == "id"}
    targets = {value[1:] for name, value in page.attributes if name == "href" and value.startswith("#")}
    targets |= {value for name, value in page.attributes if name == "aria-labelledby"}
    assert targets - ids == set()


def test_a_stage_without_partitions_says_so() -> None:
    assert "No partition was released." in render(stage(results([])))


def test_missing_and_infinite_values_are_shown_as_a_dash() -> None:
    table = pa.table({"ngram": ["a"], "count": [float("nan")], "count_low": [None], "count_high": [float("inf")]})
    html = render(stage(table.set_column(2, "count_low", pa.array([None], pa.float64()))))
    assert re.search('<td class="num" data-sort="nan">–\\s*</td>', html)


def test_of_a_value_that_is_lacking_no_other_is_said() -> None:
    counted = replace(metric(), label="word")
    table = results(["a", "b", "c"]).append_column("word", pa.array(["w", "", None], pa.string()))
    html = render(stage(table, metrics=(counted,)))
    assert '<td class="num" data-sort="100.0"><bdi>w</bdi>: 100' in html
    assert '<td class="num" data-sort="99.0"><bdi>(empty)</bdi>: 99' in html
    assert '<td class="num" data-sort="98.0">98' in html


def test_only_the_first_50_rows_are_shown_and_the_page_says_so() -> None:
    html = render(stage(results([f"key{i:03}" for i in range(60)])))
    assert "50 of 60 released partitions, by <bdi>count</bdi>." in html
    assert "key049" in html
    assert "key050" not in html


def test_rows_are_ordered_by_a_metric_largest_first() -> None:
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
        ChosenBound(stage="by_ngram", metric=None, parameter="l0", value=24, fallback=False, kept=0.941),
        ChosenBound(stage="by_ngram", metric="<b>", parameter="high", value=1.0, fallback=True),
    )
    html = render(stage(results(["a"]), chosen=chosen))
    assert (
        "Of these bounds the run found some itself, from noisy histograms that are part of its cost: l0 = 24 (keeps "
        "about 94.1 % of the partitions of units), high of <bdi>&lt;b&gt;</bdi> = 1 (nothing stood out from the noise, "
        "so this is the fallback). What isn’t kept makes counts and sums lower than they were without bounds; the "
        "intervals don’t cover it."
    ) in html
    assert "its scale follows the bounds that the run found" in html
    assert "Of these bounds the run found" not in render(stage(results(["a"])))


def test_public_partitions_and_rows_as_units_are_put_in_their_own_words() -> None:
    html = render(stage(results(["a"]), selection=None, l0=1), guarantee=Guarantee(epsilon=1.0, delta=1e-8, unit="row"))
    assert "Its partitions are public: the policy lists them, and all are shown." in html
    assert "each row counts in one partition, once" in html
    assert "Partitions that too few" not in html


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
    assert html.count("<figure") == MAX_COLUMNS + 1
    said = f"<bdi>e_0</bdi> is the first of {MAX_COLUMNS + 1} columns, of which {MAX_COLUMNS} are shown; the files hold"
    assert html.count(said) == 1


def test_a_metric_whose_columns_fit_is_shown_whole() -> None:
    html = render(wide(MAX_COLUMNS))
    assert html.count("<figure") == MAX_COLUMNS + 1
    assert "is the first of" not in html


def charted(html: str) -> list[tuple[str, list[str]]]:
    """Of each chart its caption, and the labels of its bars; those that are noise end in a ~."""
    figures = re.findall(r'<figure class="chart">\s*<figcaption>(.*?)</figcaption>(.*?)</figure>', html, re.DOTALL)
    bars = r'<li( class="faint")?><span class="label"><bdi>(.*?)</bdi>'
    texts = [(re.sub("<.*?>", "", caption), re.findall(bars, body)) for caption, body in figures]
    return [(caption, [label + "~" * bool(faint) for faint, label in found]) for caption, found in texts]


def means(keys: list[str]) -> pa.Table:
    """Counts that rise and means that fall with the key; the last mean's interval holds 0."""
    many = len(keys)
    values = {"count": [100.0 + i for i in range(many)], "mean": [50.0 - i for i in range(many)]}
    wide = [5.0] * (many - 1) + [1000.0]
    return pa.table(
        {"ngram": keys}
        | values
        | {f"{m}_low": [v - w for v, w in zip(values[m], wide, strict=True)] for m in values}
        | {f"{m}_high": [v + w for v, w in zip(values[m], wide, strict=True)] for m in values}
    )


MEAN = MetricColumn(name="mean", kind="mean", noise="laplace", std=None)


def test_every_chart_shows_the_partitions_with_the_largest_first_count_in_its_order() -> None:
    keys = [f"k{i:02}" for i in range(MAX_BARS + 5)]
    (_, ours), (caption, theirs) = charted(render(stage(means(keys), metrics=(metric(), MEAN))))
    assert caption == f"mean, {MAX_BARS} of {MAX_BARS + 5} partitions, by count, with 95 % intervals"
    assert theirs == ours == ["k24~", *reversed(keys[5:-1])]


def test_the_first_count_orders_though_it_is_not_the_first_metric() -> None:
    html = render(stage(means(["a", "b", "c"]), metrics=(MEAN, metric())))
    assert [bars for _, bars in charted(html)] == [["c~", "b", "a"]] * 2
    assert "All 3 released partitions, by <bdi>count</bdi>." in html


def test_without_a_count_no_noisy_value_picks_or_orders_partitions() -> None:
    keys = [f"k{i:02}" for i in range(MAX_BARS + 5)]
    ((caption, bars),) = charted(render(stage(means(list(reversed(keys))), metrics=(MEAN,))))
    assert caption == f"mean, {MAX_BARS} of {MAX_BARS + 5} partitions, with 95 % intervals"
    assert bars == list(reversed(keys))[:MAX_BARS]


def test_keys_with_an_order_of_their_own_keep_it() -> None:
    keys = [f"2026-{i:03}" for i in range(MAX_BARS_IN_ORDER + 1)]
    html = render(stage(means(keys), metrics=(metric(), MEAN), order="keys"))
    captions, bars = zip(*charted(html), strict=True)
    assert captions[0] == "count, 31 of 32 partitions, in the order of their keys, with 95 % intervals"
    assert bars[0] == bars[1] == keys[:MAX_BARS_IN_ORDER]
    assert "All 32 released partitions, in the order of their keys." in html


def test_noise_is_faint_in_the_table_too_and_the_page_says_what_that_means() -> None:
    html = render(stage(means(["a", "b"]), metrics=(metric(), MEAN)))
    assert html.count('<td class="num faint"') == 2
    assert '<td class="num faint" data-sort="49.0">' in html
    assert (
        'Where the interval holds 0 the value can’t be told from 0: it is <em class="faint">set in grey italics</em>, '
        "and its bar is hollow."
    ) in html


def tops() -> StageReport:
    """The two most frequent words of two cities, of which Oslo has but one."""
    counts = {"words_1_count": [9.0, 7.0], "words_2_count": [5.0, None]}
    ends = {f"{m}_{end}": [None if v is None else v + d for v in vs] for m, vs in counts.items() for end, d in ENDS}
    table = pa.table({"city": ["Lyon", "Oslo"], "words_1": ["brie", "fjord"], "words_2": ["", None]} | counts | ends)
    columns = tuple(
        replace(metric(f"words_{i}_count"), kind="top_k", label=f"words_{i}", place=i - 1, of=2) for i in (1, 2)
    )
    top = ValueFacts(name="words", column="word", max_values=2, selection=None)
    return stage(table, keys=("city",), metrics=columns, values=(top,))


ENDS = (("low", -1.0), ("high", 1.0))


def test_the_most_frequent_values_are_drawn_with_their_names_under_each_partition() -> None:
    html = render(tops())
    ((caption, bars),) = charted(html)
    assert caption == "words, all 2 partitions, with 95 % intervals"
    assert bars == ["brie", "(empty)", "fjord"]
    assert re.findall('<li class="group"><bdi>(.*?)</bdi>', html) == ["Lyon", "Oslo"]


def test_a_stage_links_to_its_own_files() -> None:
    files = [FileEntry(path=path, sha256="c" * 64, rows=1) for path in ("by_ngram.csv", "by_ngram.parquet", "x.csv")]
    html = render(stage(results(["a"])), files=files)
    caption = 'All rows and digits: <a href="./by_ngram.csv">by_ngram.csv</a>, <a href="./by_ngram.parquet">'
    assert html.count(caption) == 1


def test_the_period_is_shown_with_and_without_what_a_policy_says_to_readers() -> None:
    for about in (None, About(owner="Ward 3")):
        html = render(stage(results(["a"])), release=replace(RELEASE, period="2026-W48", about=about))
        assert "<dt>Period</dt><dd><bdi>2026-W48</bdi></dd>" in html
        assert ("Ward 3" in html) == (about is not None)
    assert "Period" not in render(stage(results(["a"])))


def test_what_the_policy_says_to_readers_stands_on_top_as_text() -> None:
    about = About(owner="Ward 3", contact="<a href=x>", source="Register of visits")
    html = render(stage(results(["a"])), release=replace(RELEASE, about=about))
    said = re.findall("<dt>(Owner|Contact|Purpose|Source)</dt><dd><bdi>(.*?)</bdi></dd>", html)
    assert said == [("Owner", "Ward 3"), ("Contact", "&lt;a href=x&gt;"), ("Source", "Register of visits")]
    assert '<dl class="facts">' not in render(stage(results(["a"])))


def test_the_page_begins_with_its_contents() -> None:
    page = Page(render(stage(results(["a"])), stage(results(["a"]), name="other")))
    links = [value for name, value in page.attributes if name == "href" and value.startswith("#")]
    assert links[:8] == [
        "#guarantee", "#results", "#stage-1", "#stage-2", "#cost", "#suppressed", "#plan", "#files",
    ]  # fmt: skip


def test_the_whole_table_has_a_row_a_metric() -> None:
    whole = stage(means(["a"]).drop_columns(["ngram"]), keys=(), metrics=(metric(), MEAN), selection=None)
    html = render(whole)
    assert re.findall(r'<th scope="row" class="key"><bdi>(\w+)</bdi></th><td class="num', html) == ["count", "mean"]
    assert charted(html) == []


@pytest.mark.parametrize(("columns", "many"), [(3, False), (5, True)])
def test_each_value_of_a_table_too_wide_for_a_sheet_carries_its_column_name(columns: int, many: bool) -> None:
    html = render(wide(columns))
    assert (html.count('data-label="e_0"') == 2) is many
    assert ('<table class="data many">' in html) is many


@pytest.mark.parametrize(("spent", "said"), [(1.0, False), (3.0, True)])
def test_what_was_spent_before_is_put_in_words_where_there_is_any(spent: float, said: bool) -> None:
    html = render(stage(results(["a"])), balance=replace(BALANCE, spent_epsilon=spent))
    assert ("adds up to ε = 3, this release included" in html) is said


def test_a_weak_guarantee_is_called_so_on_top_and_in_its_note() -> None:
    html = render(stage(results(["a"])), guarantee=Guarantee(epsilon=8.0, delta=1e-8, unit="author_id"))
    assert "<dt>Guarantee, weak</dt><dd>ε = 8<" in html
    assert '<p class="note weak">This is a weak guarantee' in html
