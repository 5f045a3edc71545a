"""`dpbeam releases` lists what lies in an output folder, and what the ledger says of it."""

from __future__ import annotations

import json
import shutil

from dpbeam.pipelines.cli.main import invoke
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


def test_a_folder_that_is_not_there_is_refused_by_name(workspace, capsys) -> None:
    workspace.create_budget()
    capsys.readouterr()
    assert invoke(["releases", "--output", str(workspace.output), "--ledger", workspace.ledger]) == 2
    assert capsys.readouterr().err == (
        f"dpbeam: folder {workspace.output} can't be listed (No such file or directory); name the folder of releases "
        "with --output\n"
    )
