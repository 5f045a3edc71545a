"""`dpbeam releases` lists what lies in an output folder, and what the ledger says of it."""

from __future__ import annotations

import json
import re
import shutil

from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.jobs import aggregate
from dpbeam.reporting.formats import violations


def listed(workspace, capsys, *flags: str, ledger: str | None = None) -> list[dict]:
    capsys.readouterr()
    words = ["releases", "--output", str(workspace.output), "--ledger", ledger or workspace.ledger, "--json", *flags]
    assert invoke(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert violations("releases", document) == []
    return document["releases"]


def test_releases_are_listed_with_their_names_and_periods(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run("--release", "v-{period}", "--period", "2026-W48") == 0
    assert workspace.run() == 0
    found = listed(workspace, capsys)
    assert {(each["release_name"], each["period"], each["standing"]) for each in found} == {
        ("v-2026-W48", "2026-W48", "verified"),
        ("default", None, "verified"),
    }
    assert listed(workspace, capsys, "visits") == found
    assert listed(workspace, capsys, "others") == []


def test_a_manifest_is_held_against_the_ledger(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    folder = workspace.release_folder()
    assert [each["standing"] for each in listed(workspace, capsys, ledger="sqlite:///none.sqlite")] == ["unchecked"]
    copied = folder.parent / "20200102T030405Z-00c0ffee"
    shutil.copytree(folder, copied)
    manifest = json.loads((copied / "manifest.json").read_text()) | {"release_id": copied.name}
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert [each["standing"] for each in listed(workspace, capsys)] == ["unknown", "verified"]
    (copied / "manifest.json").write_text("{")
    (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes() + b"\n")
    assert [each["standing"] for each in listed(workspace, capsys)] == ["unreadable", "changed"]
    shutil.rmtree(copied)
    shutil.rmtree(folder)
    (gone,) = listed(workspace, capsys)
    assert (gone["standing"], gone["release_id"], gone["guarantee"]) == ("gone", folder.name, None)


def test_people_see_a_table(workspace, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    workspace.create_budget()
    assert workspace.run("--release", "v-{period}", "--period", "2026-W48") == 0
    capsys.readouterr()
    assert invoke(["releases", "--output", str(workspace.output), "--ledger", workspace.ledger]) == 0
    (row,) = [row for row in capsys.readouterr().out.splitlines() if "2026-W48" in row]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["visits", workspace.release_folder().name, "v-2026-W48", "2026-W48", "1", "1e-06", "verified"]


def html(workspace, *flags: str, ledger: str | None = None) -> int:
    words = ["releases", *flags, "--html", "--output", str(workspace.output)]
    return invoke([*words, "--ledger", ledger or workspace.ledger])


def test_the_page_is_the_one_that_a_run_writes(workspace, capsys) -> None:
    workspace.create_budget()
    for week in ("1", "2"):
        assert workspace.run("--release", "v-{period}", "--period", week) == 0
    page = workspace.output / "visits" / "index.html"
    written, at = page.read_bytes(), page.stat().st_mtime
    page.unlink()
    capsys.readouterr()
    assert html(workspace, "visits") == 0
    assert f"Page: {page}" in capsys.readouterr().out.replace("\n", "")
    assert (page.read_bytes(), page.stat().st_mtime) == (written, at)
    assert [path.name for path in page.parent.iterdir() if path.name.startswith(".")] == []
    assert html(workspace, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["releases"]) == 2


def test_a_page_without_a_ledger_or_in_place_of_another_is_refused(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    page = workspace.output / "visits" / "index.html"
    page.write_text("mine", encoding="utf-8")
    capsys.readouterr()
    assert html(workspace) == 2
    assert capsys.readouterr().err == (
        f"dpbeam: the page over all releases, {page}, can't be written: a page that dpbeam didn't make lies there, and "
        "stays\n"
    )
    page.unlink()
    assert html(workspace, ledger="sqlite:///none.sqlite") == 3
    assert not page.exists()


def test_a_charge_that_published_nothing_counts_from_the_next_release_on(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    assert workspace.run("--release", "one") == 0
    with monkeypatch.context() as broken:
        broken.setattr(aggregate, "run", lambda *_: 1 / 0)
        assert workspace.run("--release", "two") == 4
    page = workspace.output / "visits" / "index.html"
    before = page.read_bytes()
    assert html(workspace) == 0
    assert page.read_bytes() == before
    assert workspace.run("--release", "three") == 0
    spent = re.findall(r'data-sort="[^"]*">([^<]*)</td><td><bdi>person', page.read_text(encoding="utf-8"))
    assert sorted(spent) == ["1", "3"]


def test_a_folder_that_is_not_there_is_refused_by_name(workspace, capsys) -> None:
    workspace.create_budget()
    capsys.readouterr()
    assert invoke(["releases", "--output", str(workspace.output), "--ledger", workspace.ledger]) == 2
    assert capsys.readouterr().err == (
        f"dpbeam: folder {workspace.output} can't be listed (No such file or directory); name the folder of releases "
        "with --output\n"
    )
