"""A release of a period: the period stands in its name and its manifest, and never gets lost in silence."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

import dpbeam
from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle.naming import ReleaseName

WEEK = ("--release", "visits-{period}", "--period")


def test_each_period_is_a_release_of_its_own_and_its_manifest_says_which(workspace, capsys) -> None:
    workspace.create_budget()
    for week in ("2026-W48", "2026-W49", "2026-W48"):
        assert workspace.run(*WEEK, week) == 0
    stated = [json.loads(path.read_text(encoding="utf-8")) for path in workspace.manifests()]
    assert {(each["version"], each["release_name"], each["period"]) for each in stated} == {
        (3, "visits-2026-W48", "2026-W48"),
        (3, "visits-2026-W49", "2026-W49"),
    }
    assert len(stated) == 2
    for path in workspace.manifests():
        assert invoke(["certify", str(path)]) == 0


def test_the_period_stands_in_report_tables_page_and_python(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run(*WEEK, "2026-W48") == 0
    folder = workspace.release_folder()
    assert "<dt>Period</dt><dd><bdi>2026-W48</bdi></dd>" in (folder / "report.html").read_text(encoding="utf-8")
    assert pq.read_schema(folder / "by_place.parquet").metadata[b"dpbeam.period"] == b"2026-W48"
    assert '<td class="when">2026-W48</td>' in (folder.parent / "index.html").read_text(encoding="utf-8")
    assert dpbeam.read_release(folder).period == "2026-W48"


def test_a_release_made_in_python_is_of_a_period_too(workspace) -> None:
    workspace.create_budget()
    policy = dpbeam.load_policy(workspace.policy_path)
    made = dpbeam.release(
        policy, ledger=workspace.ledger, output=workspace.output, name="v-{period}", period="2026-W48"
    )
    assert (made.period, made.manifest.release_name) == ("2026-W48", "v-2026-W48")


@pytest.mark.parametrize(
    ("template", "period", "said"),
    [
        ("default", "2026-W48", "a release's period must stand in its name, got the period 2026-W48 and the name "
         "'default'; name it default-{period}"),
        ("v-{period}", None, "the release's name 'v-{period}' has a place for a period; say which, as in 2026-W48"),
        ("v-{period}", "week 48", "a release's period must be 1 to 32 letters, digits, dots, hyphens and underscores, "
         "such as 2026-W48, got 'week 48'"),
        ("v-{period}", "", "a release's period must be 1 to 32 letters, digits, dots, hyphens and underscores, "
         "such as 2026-W48, got ''"),
        ("{period}\n", "1", "a release's name must be 1 to 128 printable characters, got '1\\n'"),
    ],
)  # fmt: skip
def test_a_name_and_a_period_that_do_not_go_together_are_refused(template, period, said) -> None:
    with pytest.raises(UsageError) as refused:
        ReleaseName.of(template, period)
    assert str(refused.value) == said


def test_a_name_without_a_period_is_as_it_was() -> None:
    assert ReleaseName.of("a{b}", None) == ReleaseName(text="a{b}")
