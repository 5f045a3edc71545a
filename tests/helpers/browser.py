"""The Chromium of this machine, by Playwright; and a report whose content is as large and odd as pages meet."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest
from playwright.sync_api import Page, sync_playwright

from dpbeam.mechanisms.events import Laplace
from dpbeam.reporting.facts import Balance, ReleaseFacts, SelectionFacts, StageReport, ValueFacts
from dpbeam.reporting.manifest import About, Charge, FileEntry, Guarantee, StatedCertificate
from dpbeam.reporting.report import render_report
from dpbeam.reporting.tables import MetricColumn

METRICS = 12
LAST = f"metric_{METRICS}"
ADDRESS = "http://report.test/report.html"


def executable() -> str:
    """Where Chromium is; without it the test is skipped, or fails where it must be there."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("CI must have Chromium: apt-get install --no-install-recommends chromium")
    pytest.skip("no chromium, chromium-browser or google-chrome on PATH")


class Opened:
    """A page in the browser, and all that it asked for and complained of."""

    def __init__(self, page: Page, html: str) -> None:
        self.page = page
        self.asked: list[str] = []
        self.said: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.route("**/*", lambda route: self._answer(route, html))
        page.goto(ADDRESS)

    def _answer(self, route: Any, html: str) -> None:
        self.asked.append(route.request.url)
        route.fulfill(body=html, content_type="text/html; charset=utf-8")


@contextmanager
def opened(html: str, **context: Any) -> Iterator[Opened]:
    """`html` as a page of a site whose every address is answered here; `context` as `Browser.new_context` takes it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        try:
            yield Opened(browser.new_context(**context).new_page(), html)
        finally:
            browser.close()


def report(**changes: Any) -> str:
    """A report with a table that no sheet is wide enough for, a top_k, days, long keys, noise, and a whole table."""
    facts: dict[str, Any] = {
        "release": ReleaseFacts(
            release_id="20261124T003000Z-00000000",
            release_name="2026-W48",
            dataset="visits",
            created="2026-11-24T00:30:00Z",
            dpbeam_version="0.1.0",
            policy_digest="sha256:" + "a" * 64,
            input_fingerprint="sha256:" + "b" * 64,
            about=About(owner="Ward 3", contact="ward3@example.org", purpose="Staffing", source="Register of visits"),
        ),
        "guarantee": Guarantee(epsilon=8.0, delta=1e-8, unit="patient_id"),
        "certificate": StatedCertificate(naive=12.0, rdp=9.0, pld=8.0),
        "mechanisms": [Laplace(stage="by_place", metric=LAST, scale=2.0, l1=1.0)],
        "charge": Charge(id="c1", meter="basic", epsilon=8.0, delta=1e-8),
        "balance": Balance(
            cap_epsilon=20.0,
            cap_delta=1e-6,
            spent_epsilon=12.0,
            spent_delta=3e-8,
            held_epsilon=1.0,
            held_delta=1e-8,
            left_epsilon=7.0,
            left_delta=9.6e-7,
            spent_as_epsilon=12.0,
        ),
        "stages": [_wide(), _days(), _top(), _whole()],
        "files": [FileEntry(path=f"by_place.{kind}", sha256="c" * 64, rows=15) for kind in ("csv", "parquet")],
    }
    return render_report(**facts | changes)


def _stage(
    name: str, table: pa.Table, keys: tuple[str, ...], metrics: list[MetricColumn], **changes: Any
) -> StageReport:
    kept = SelectionFacts(strategy="gaussian_thresholding", pre_threshold=5, keep_50=40, keep_99=60)
    facts: dict[str, Any] = {"l0": 3, "linf": 2, "selection": kept if keys else None} | changes
    return StageReport(name=name, table=table, keys=keys, metrics=tuple(metrics), **facts)


def _column(name: str, values: list[float | None], spread: float = 30.0) -> dict[str, list[float | None]]:
    low, high = ([None if v is None else v + end for v in values] for end in (-spread, spread))
    return {name: values, f"{name}_low": low, f"{name}_high": high}


def _metric(name: str, kind: str = "sum", **how: Any) -> MetricColumn:
    return MetricColumn(name=name, kind=kind, noise="laplace", std=10.0, **how)


def _wide() -> StageReport:
    """15 places of several spellings, and more metrics than fit side by side."""
    keys = [*(f"place {i:02}" for i in range(13)), "a-key-without-a-blank-" * 20, "日本 عربى 🙂"]
    columns: dict[str, Any] = {"place": keys, "ward": ["north"] * len(keys)}
    for number in range(1, METRICS + 1):
        columns |= _column(f"metric_{number}", [1000.0 * number - 80 * i for i in range(len(keys))])
    metrics = [_metric("metric_1", "count"), *(_metric(f"metric_{i}") for i in range(2, METRICS + 1))]
    return _stage("by_place", pa.table(columns), ("place", "ward"), metrics)


def _days() -> StageReport:
    columns = {"day": [f"2026-11-{i:02}" for i in range(1, 29)]} | _column("visits", [200.0 - 9 * i for i in range(28)])
    return _stage("by_day", pa.table(columns), ("day",), [_metric("visits", "count")], order="keys")


def _top() -> StageReport:
    columns: dict[str, Any] = {"city": ["Lyon", "Oslo"], "words_1": ["brie", "fjord"], "words_2": ["espresso", None]}
    columns |= _column("words_1_count", [900.0, 500.0]) | _column("words_2_count", [20.0, None])
    metrics = [_metric(f"words_{i}_count", "top_k", label=f"words_{i}", place=i - 1, of=2) for i in (1, 2)]
    values = (ValueFacts(name="words", column="word", max_values=2, selection=None),)
    return _stage("by_city", pa.table(columns), ("city",), metrics, values=values)


def _whole() -> StageReport:
    columns = _column("count", [12345.0]) | _column("mean_age", [41.5], 1.0)
    return _stage("in_all", pa.table(columns), (), [_metric("count", "count"), _metric("mean_age", "mean")])
