"""The report in a real Chromium: hostile keys run nothing, and the page is drawn."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from dpbeam.mechanisms.events import Laplace
from dpbeam.reporting.facts import Balance, ReleaseFacts, StageReport
from dpbeam.reporting.manifest import Charge, FileEntry, Guarantee, StatedCertificate
from dpbeam.reporting.report import render_report
from dpbeam.reporting.tables import MetricColumn
from tests.helpers.browser import executable

PAYLOAD = "document.title='pwned';document.body.appendChild(document.createElement('canvas'))"
KEYS = [
    f"<script>{PAYLOAD}</script>",
    f'<img src=x onerror="{PAYLOAD}">',
    f"</text></svg></style></title><script>{PAYLOAD}</script>",
    f'"><svg onload="{PAYLOAD}">',
    f"<iframe srcdoc='<script>parent.{PAYLOAD}</script>'></iframe>",
    "<meta http-equiv=refresh content='0;url=data:text/html,pwned'>",
    "plain",
]


@pytest.fixture(scope="module")
def chromium() -> str:
    return executable()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = [100.0 - i for i in range(len(KEYS))]
    table = pa.table(
        {"key": KEYS, "count": values, "count_low": [v - 5 for v in values], "count_high": [v + 5 for v in values]}
    )
    html = render_report(
        release=ReleaseFacts(
            release_id="r1",
            release_name=KEYS[0],
            dataset="hostile",
            created="2026-11-24T00:30:00Z",
            dpbeam_version="0.1.0",
            policy_digest="sha256:" + "a" * 64,
            input_fingerprint="f",
        ),
        guarantee=Guarantee(epsilon=1.0, delta=1e-8, unit=KEYS[1]),
        certificate=StatedCertificate(naive=1.0, rdp=1.0, pld=0.9),
        mechanisms=[Laplace(stage="s", metric="count", scale=2.0, l1=1.0)],
        charge=Charge(id="c1", meter="basic", epsilon=1.0, delta=1e-8),
        balance=Balance(
            cap_epsilon=10.0,
            cap_delta=1e-6,
            spent_epsilon=1.0,
            spent_delta=1e-8,
            held_epsilon=0.0,
            held_delta=0.0,
            left_epsilon=9.0,
            left_delta=9.9e-7,
            spent_as_epsilon=1.0,
        ),
        stages=[
            StageReport(
                name="s",
                table=table,
                keys=("key",),
                metrics=(MetricColumn(name="count", kind="count", noise="laplace", std=2.8),),
                l0=1,
                linf=1,
                selection=None,
            )
        ],
        files=[FileEntry(path="s.csv", sha256="c" * 64, rows=len(KEYS))],
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def browse(chromium: str, page: Path, *flags: str) -> str:
    home = page.parent / "profile"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    done = subprocess.run(
        [*command, f"--user-data-dir={home}", *flags, page.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    return done.stdout.decode("utf-8")


def test_hostile_text_makes_no_element_and_runs_nothing(chromium: str, page: Path) -> None:
    dom = browse(chromium, page, "--dump-dom")
    assert "plain</bdi>" in dom, "the page was not drawn"
    assert re.findall(r"<(script|img|iframe|canvas|object|embed)[\s>/]", dom) == ["script"]  # the page's own
    assert "<title>pwned" not in dom


def test_the_browser_would_have_run_the_payload_in_an_unprotected_page(chromium: str, page: Path) -> None:
    bare = page.with_name("bare.html")
    bare.write_text(f"<title>t</title><body>{''.join(KEYS[:2])}", encoding="utf-8")
    dom = browse(chromium, bare, "--dump-dom")
    assert "<title>pwned" in dom
    assert "<canvas" in dom


def test_the_page_is_drawn(chromium: str, page: Path) -> None:
    image = page.with_name("report.png")
    browse(chromium, page, f"--screenshot={image}", "--window-size=1000,1400")
    drawn = image.read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) > 20_000, "a blank page compresses to a few kB"
