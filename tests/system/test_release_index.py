"""The page over a dataset's releases: made with each release, from what the ledger holds to be published, and never in
the way of one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle import index, publish
from dpbeam.pipelines.lifecycle.index import write_index
from tests.helpers.browser import opened


def page(workspace: Any) -> Path:
    return workspace.output / "visits" / "index.html"


def names(workspace: Any) -> list[str]:
    return re.findall(r'report.html"><bdi>(.*?)</bdi>', page(workspace).read_text(encoding="utf-8"))


@pytest.fixture
def weekly(workspace: Any) -> Any:
    """Two releases."""
    workspace.create_budget()
    assert workspace.run("--release", "week 1") == 0
    assert workspace.run("--release", "week 2") == 0
    return workspace


def test_each_release_is_listed_and_its_report_is_where_the_link_leads(weekly) -> None:
    assert sorted(names(weekly)) == ["week 1", "week 2"]
    links = re.findall(r'href="\./(.*?/report.html)"', page(weekly).read_text(encoding="utf-8"))
    assert len(links) == 2
    assert all((page(weekly).parent / link).is_file() for link in links)
    assert weekly.left_behind() == []


def test_the_page_does_not_tell_when_a_run_ended(weekly) -> None:
    begun = {publish.begun(manifest.parent.name).timestamp() for manifest in weekly.manifests()}
    assert page(weekly).stat().st_mtime == max(begun)


def test_a_release_that_is_not_as_the_ledger_says_is_not_listed(weekly) -> None:
    first, second = weekly.manifests()
    first.write_bytes(first.read_bytes().replace(b"week", b"Week"))
    forged = first.parent.with_name("20261124T003000Z-ffffffff")
    forged.mkdir()
    (forged / "manifest.json").write_bytes(second.read_bytes())
    write_index(weekly.open_ledger(), "visits", page(weekly).parent, weekly.folder / "draft")
    assert len(names(weekly)) == 1


def test_a_page_that_is_not_ours_stays_and_the_release_is_out(workspace, capsys) -> None:
    workspace.create_budget()
    page(workspace).parent.mkdir(parents=True)
    page(workspace).write_text("<p>My own page", encoding="utf-8")
    assert workspace.run() == 0
    assert page(workspace).read_text(encoding="utf-8") == "<p>My own page"
    said = "".join(capsys.readouterr().err.split())
    message = (
        f"note: The page over all releases, {page(workspace)}, wasn't written: a page that dpbeam didn't make lies "
        "there, and stays."
    )
    assert said.endswith("".join(message.split()))
    assert len(workspace.published_charges()) == 1


def test_a_release_is_out_though_the_page_cannot_be_written(workspace, capsys) -> None:
    workspace.create_budget()
    page(workspace).mkdir(parents=True)
    assert workspace.run() == 0
    assert "wasn't written: Is a directory." in " ".join(capsys.readouterr().err.split())
    assert len(workspace.published_charges()) == 1
    assert invoke(["certify", str(workspace.manifests()[0])]) == 0
    assert not (workspace.output / ".staging").exists()


def test_a_release_that_appears_while_the_page_is_written_is_listed(weekly, monkeypatch) -> None:
    """As where two processes publish at once, and the first to look is the last to write."""
    first, second = (manifest.parent for manifest in weekly.manifests())
    aside = weekly.folder / "aside"
    second.rename(aside)
    write = index.render_index

    def late(*arguments: Any) -> str:
        if aside.exists():
            aside.rename(second)
        return write(*arguments)

    monkeypatch.setattr(index, "render_index", late)
    write_index(weekly.open_ledger(), "visits", first.parent, weekly.folder / "draft")
    assert sorted(names(weekly)) == ["week 1", "week 2"]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_reads_on_a_desk_and_on_a_phone(weekly, width: int) -> None:
    html = page(weekly).read_text(encoding="utf-8")
    with opened(html, viewport={"width": width, "height": 900}) as site:
        assert site.page.evaluate("document.documentElement.scrollWidth") == width
        assert Axe().run(site.page).response["violations"] == []
        assert site.said == []
