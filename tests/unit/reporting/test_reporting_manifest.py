"""The manifest: what is written is read back, and nothing that breaks the format is read or built."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
)
from dpbeam.reporting.manifest import (
    About,
    Charge,
    ChosenBound,
    Coverage,
    FileEntry,
    Guarantee,
    Manifest,
    StatedCertificate,
    by_stage,
    parse_manifest,
    read_manifest,
)

MECHANISMS: tuple[Mechanism, ...] = (
    Laplace(stage="a", metric="count", scale=2.0, l1=1.0),
    Gaussian(stage="a", metric="hours", sigma=3.5, l2=2.0),
    TruncatedGeometric(stage="a", epsilon=0.5, delta=1e-9, l0=2, pre_threshold=10),
    LaplaceThresholding(stage="b", scale=4.0, l1=2.0, threshold=50.0, delta=1e-9, l0=2),
    GaussianThresholding(stage="c", sigma=4.0, l2=1.5, threshold=50.0, delta=1e-9, l0=2, pre_threshold=3),
)


def manifest(**changes: Any) -> Manifest:
    whole = Manifest(
        release_id="ngrams-0001",
        release_name="Größe <b>",
        dataset="ngrams",
        created="2026-11-24T00:30:00Z",
        dpbeam_version="0.1.0",
        policy_digest="sha256:" + "a" * 64,
        input_fingerprint="sha256:" + "b" * 64,
        guarantee=Guarantee(epsilon=1.0, delta=1e-8, unit="author_id"),
        certificate=StatedCertificate(naive=2.5, rdp=None, pld=0.99),
        mechanisms=MECHANISMS,
        charge=Charge(id="c1", meter="basic", epsilon=1.0, delta=1e-8),
        files=(
            FileEntry(path="by_ngram.parquet", sha256="c" * 64, rows=3),
            FileEntry(path="report.html", sha256="d" * 64, rows=None),
        ),
    )
    return replace(whole, **changes)


def document(**changes: Any) -> dict[str, Any]:
    return manifest().to_json() | changes


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(manifest().to_bytes())
    assert read_manifest(path) == manifest()


CHOSEN = (
    ChosenBound(stage="a", metric=None, parameter="l0", value=24, fallback=False),
    ChosenBound(stage="a", metric="hours", parameter="high", value=0.5, fallback=True),
)


def test_bounds_that_a_run_chose_make_a_manifest_of_version_2_that_reads_back() -> None:
    whole = manifest(chosen_bounds=CHOSEN)
    assert whole.to_json()["version"] == 2
    assert parse_manifest(whole.to_bytes().decode()) == whole
    assert manifest().to_json()["version"] == 1
    assert "chosen_bounds" not in manifest().to_json()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chosen_bounds": [CHOSEN[0].to_json()]}, "breaks the format of version 1"),
        ({"version": 2}, "breaks the format of version 2:\n  the document: .*not valid under any"),
        ({"version": 2, "chosen_bounds": []}, "should be non-empty"),
        ({"version": 2, "chosen_bounds": [CHOSEN[0].to_json() | {"parameter": "l2"}]}, "'l2' is not one of"),
        ({"version": 2, "chosen_bounds": [CHOSEN[0].to_json() | {"note": 1}]}, "Additional properties"),
    ],
)
def test_chosen_bounds_stand_in_version_2_and_nowhere_else(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_manifest(json.dumps(document(**changes)))


ABOUT = About(owner="Ward 3", contact="ward3@example.org")


@pytest.mark.parametrize("more", [{}, {"chosen_bounds": CHOSEN, "engine": "pipelinedp"}])
def test_what_a_policy_says_to_readers_makes_a_manifest_of_version_3_that_reads_back(more: dict[str, Any]) -> None:
    whole = manifest(about=ABOUT, **more)
    assert whole.to_json()["version"] == 3
    assert whole.to_json()["about"] == {"owner": "Ward 3", "contact": "ward3@example.org"}
    assert parse_manifest(whole.to_bytes().decode()) == whole


@pytest.mark.parametrize("more", [{}, {"chosen_bounds": CHOSEN}, {"engine": "pipelinedp"}, {"about": ABOUT}])
def test_a_period_makes_a_manifest_of_version_3_that_reads_back(more: dict[str, Any]) -> None:
    whole = manifest(period="2026-W48", **more)
    assert whole.to_json()["version"] == 3
    assert whole.to_json()["period"] == "2026-W48"
    assert ("about" in whole.to_json()) == ("about" in more)
    assert parse_manifest(whole.to_bytes().decode()) == whole


def test_without_a_period_none_stands_in_a_manifest() -> None:
    assert "period" not in manifest().to_json()
    assert "period" not in manifest(about=ABOUT).to_json()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": ABOUT.stated}, "breaks the format of version 1"),
        (
            {"version": 2, "chosen_bounds": [CHOSEN[0].to_json()], "about": ABOUT.stated},
            "breaks the format of version 2",
        ),
        ({"version": 3}, "breaks the format of version 3"),
        ({"version": 3, "about": {}}, "about: {} should be non-empty"),
        ({"version": 3, "about": {"owner": ""}}, "about.owner: '' should be non-empty"),
        ({"version": 3, "about": {"note": "x"}}, "Additional properties"),
        (
            {"period": "2026-W48"},
            "breaks the format of version 1:\n  the document: False schema does not allow '2026-W48'",
        ),
        ({"version": 2, "period": "1", "engine": "pipelinedp"}, "breaks the format of version 2"),
        ({"version": 3, "period": "week 48"}, "period: 'week 48' does not match"),
        ({"version": 6}, "is of version 6; this dpbeam reads up to version 5: use a newer dpbeam"),
        ({"version": 5}, "breaks the format of version 5"),
    ],
)
def test_what_a_policy_says_to_readers_and_periods_stand_in_version_3_and_nowhere_else(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse_manifest(json.dumps(document(**changes)))


COVERAGE = Coverage(
    stage="a",
    rows_passed=0.9,
    rows_passed_low=0.8,
    rows_passed_high=1.0,
    rows_kept=0.5,
    rows_kept_low=0.4,
    rows_kept_high=0.6,
    privacy_units=100.5,
)


@pytest.mark.parametrize("more", [{}, {"about": ABOUT}, {"chosen_bounds": CHOSEN}], ids=str)
def test_coverage_makes_it_version_4_and_reads_back(more) -> None:
    whole = manifest(coverage=(COVERAGE,), **more)
    assert whole.version == 4
    assert parse_manifest(whole.to_bytes().decode()) == whole


KEEPING = replace(CHOSEN[0], kept=0.941)


@pytest.mark.parametrize("more", [{}, {"about": ABOUT, "engine": "pipelinedp"}])
def test_a_share_that_a_bound_keeps_makes_a_manifest_of_version_4_that_reads_back(more: dict[str, Any]) -> None:
    whole = manifest(chosen_bounds=(KEEPING, CHOSEN[1]), **more)
    assert whole.to_json()["version"] == 4
    assert [bound.get("kept") for bound in whole.to_json()["chosen_bounds"]] == [0.941, None]
    assert parse_manifest(whole.to_bytes().decode()) == whole


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"coverage": [asdict(COVERAGE)]}, "breaks the format of version 1"),
        ({"version": 4}, "breaks the format of version 4"),
        ({"version": 4, "coverage": []}, r"coverage: \[\] should be non-empty"),
        ({"version": 4, "coverage": [asdict(COVERAGE) | {"rows_kept": 1.5}]}, "1.5 is greater than the maximum of 1"),
    ],
)
def test_coverage_that_breaks_the_format_is_refused(changes, match) -> None:
    with pytest.raises(ValueError, match=match):
        parse_manifest(json.dumps(document(**changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2, "chosen_bounds": [KEEPING.to_json()]}, "breaks the format of version 2"),
        ({"version": 3, "chosen_bounds": [KEEPING.to_json()], "about": ABOUT.stated}, "breaks the format of version 3"),
        ({"version": 4}, "breaks the format of version 4"),
        ({"version": 4, "chosen_bounds": [CHOSEN[0].to_json()]}, "breaks the format of version 4"),
        ({"version": 4, "chosen_bounds": [KEEPING.to_json() | {"kept": 1.5}]}, "1.5 is greater than the maximum of 1"),
    ],
)
def test_a_share_that_a_bound_keeps_stands_in_version_4_and_nowhere_else(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_manifest(json.dumps(document(**changes)))


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("l0", "keeps about 94.1 % of the partitions of units"),
        ("linf", "keeps about 94.1 % of their rows in a partition"),
        ("l1", "keeps about 94.1 % of the rows of units"),
        ("high", "keeps about 94.1 % of values as they are"),
    ],
)
def test_what_a_bound_keeps_is_put_in_words(parameter: Any, words: str) -> None:
    assert replace(KEEPING, parameter=parameter).keeps == words
    assert CHOSEN[0].keeps is None


def test_about_that_says_nothing_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="about must say something, or be None"):
        About()


def test_chosen_bounds_are_found_by_stage() -> None:
    other = replace(CHOSEN[0], stage="b")
    assert by_stage((*CHOSEN, other)) == {"a": CHOSEN, "b": (other,)}
    assert by_stage(()) == {}


def test_the_same_manifest_gives_the_same_bytes_after_a_round_trip() -> None:
    text = manifest().to_bytes()
    assert parse_manifest(text.decode()).to_bytes() == text


def test_the_bytes_are_indented_utf8_json_in_reading_order_with_a_newline_at_the_end() -> None:
    text = manifest().to_bytes().decode("utf-8")
    assert text.startswith('{\n  "version": 1,\n  "release_id": "ngrams-0001",\n  "release_name": "Größe <b>",\n')
    assert text.endswith("}\n")


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
@settings(deadline=None, max_examples=30)
def test_any_unicode_release_name_survives(name: str) -> None:
    whole = manifest(release_name=name)
    assert parse_manifest(whole.to_bytes().decode("utf-8")) == whole


@pytest.mark.parametrize("field", [name for name in document() if name != "version"])
def test_a_manifest_without_a_field_is_refused_by_its_name(field: str) -> None:
    with pytest.raises(ValueError, match=f"the document: '{field}' is a required property"):
        parse_manifest(json.dumps({key: value for key, value in document().items() if key != field}))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        parse_manifest(json.dumps(document(note="x")))
    assert str(caught.value) == (
        "breaks the format of version 1:\n  the document: Additional properties are not allowed ('note' was unexpected)"
    )


def test_a_newer_version_is_refused_naming_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(document(version=6, more="fields")), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    assert str(caught.value) == (
        f"manifest {path} is of version 6; this dpbeam reads up to version 5: use a newer dpbeam"
    )


@pytest.mark.parametrize("version", [0, -1, True, "1", None, 1.5, [1]])
def test_a_version_that_is_no_whole_number_of_at_least_1_is_refused(version: Any) -> None:
    with pytest.raises(ValueError) as caught:
        parse_manifest(json.dumps(document(version=version)))
    assert str(caught.value) == f"must have a version, a whole number of at least 1, got {version!r}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": NaN}', "holds NaN, which JSON doesn't have"),
        ('{"version": 1, "x": -Infinity}', "holds -Infinity, which JSON doesn't have"),
        ('{"version": 1, "x": 1e999}', "holds the number 1e999, which is beyond a double's range"),
        ('{"version": 1, "version": 1}', "gives the field 'version' twice"),
        ('{"version": "\\ud800"}', "holds text that is not Unicode (a lone surrogate)"),
        ("[" * 200_000, "is nested too deeply"),
        ("{", "is not JSON (line 1, column 2: Expecting property name enclosed in double quotes)"),
        ("[1]", "must be a JSON object"),
    ],
)
def test_what_is_not_strict_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_manifest(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x.csv", "a/../../x", "a/..", "./a", "a//b", "a/", "a\\b", "C:x", "a\nb", "a.csv\n", "\0"],
)
def test_a_file_path_that_could_lead_out_of_the_release_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"files\[0\]\.path: "):
        manifest(files=(FileEntry(path=path, sha256="c" * 64, rows=1),))


@pytest.mark.parametrize("path", ["a.csv", "stages/a.csv", "..a", "a..", ".hidden", "größe.csv"])
def test_a_plain_relative_file_path_is_accepted(path: str) -> None:
    assert manifest(files=(FileEntry(path=path, sha256="c" * 64, rows=1),)).files[0].path == path


@pytest.mark.parametrize(
    "changes",
    [
        {"release_id": "../x"},
        {"dataset": "ngrams\n"},
        {"created": "2026-13-01T00:00:00Z"},
        {"created": "yesterday"},
        {"policy_digest": "a" * 64},
        {"mechanisms": ()},
        {"guarantee": Guarantee(epsilon=float("nan"), delta=1e-8, unit="u")},
        {"guarantee": Guarantee(epsilon=float("inf"), delta=1e-8, unit="u")},
        {"guarantee": Guarantee(epsilon=0, delta=1e-8, unit="u")},
        {"guarantee": Guarantee(epsilon=1, delta=0, unit="u")},
        {"guarantee": Guarantee(epsilon=1, delta=1, unit="u")},
        {"certificate": StatedCertificate(naive=-1, rdp=1, pld=1)},
        {"files": (FileEntry(path="a", sha256="c" * 63, rows=1),)},
        {"files": (FileEntry(path="a", sha256="c" * 64, rows=-1),)},
        {"files": (FileEntry(path="a", sha256="c" * 64, rows=1),) * 2},
        {"files": (FileEntry(path="manifest.json", sha256="c" * 64, rows=None),)},
    ],
    ids=str,
)
def test_a_manifest_that_breaks_its_format_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        manifest(**changes)


@pytest.mark.parametrize("mechanism", [m.kind for m in MECHANISMS])
def test_a_mechanism_with_a_field_of_another_kind_is_refused_by_place_and_field(mechanism: str) -> None:
    index = [m.kind for m in MECHANISMS].index(mechanism)
    changed = document()
    changed["mechanisms"][index]["rho"] = 1.0
    with pytest.raises(ValueError, match=rf"mechanisms\[{index}\]: .*'rho' was unexpected"):
        parse_manifest(json.dumps(changed))


def test_every_broken_rule_is_listed() -> None:
    with pytest.raises(ValueError) as caught:
        parse_manifest(json.dumps(document(dataset="A", policy_digest="x", mechanisms=[])))
    places = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert places == ["dataset", "mechanisms", "policy_digest"]


def test_a_missing_manifest_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_manifest(tmp_path / "m.json")
    assert str(caught.value) == (
        f"manifest {tmp_path / 'm.json'} can't be read (No such file or directory); name a release's manifest.json"
    )


def test_a_manifest_that_is_not_utf8_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    assert str(caught.value) == f"manifest {path} is not UTF-8 text; name a release's manifest.json"


@pytest.mark.parametrize(("meter", "name"), [("zcdp", "rho"), ("gdp", "mu_squared")])
def test_a_charge_in_another_meter_stands_in_version_5_under_the_meters_own_name(meter, name) -> None:
    made = manifest(charge=Charge(id="c1", meter=meter, epsilon=0.25, delta=1e-9))
    written = json.loads(made.to_bytes())
    assert (written["version"], written["charge"]) == (5, {"id": "c1", "meter": meter, name: 0.25, "delta": 1e-9})
    assert parse_manifest(made.to_bytes().decode()) == made
    other = written | {"charge": {"id": "c1", "meter": meter, "epsilon": 0.25, "delta": 1e-9}}
    with pytest.raises(ValueError, match="breaks the format of version 5"):
        parse_manifest(json.dumps(other))
    with pytest.raises(ValueError, match="breaks the format of version 4"):
        parse_manifest(json.dumps(written | {"version": 4}))
