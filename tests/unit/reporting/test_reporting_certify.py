"""An outsider's check of a release: a whole one stands, and each thing that is wrong is named."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.metering import metered_cost
from dpbeam.mechanisms.events import Gaussian, TruncatedGeometric
from dpbeam.reporting.certify import Uncertified, certify
from dpbeam.reporting.manifest import Charge, Coverage, FileEntry, Guarantee, Manifest, StatedCertificate
from dpbeam.reporting.tables import write_csv, write_parquet

MECHANISMS = (
    TruncatedGeometric(stage="a", epsilon=0.3, delta=1e-9, l0=1),
    Gaussian(stage="a", metric="count", sigma=12.0, l2=1.0),
)
GUARANTEE = Guarantee(epsilon=1.0, delta=1e-8, unit="id")


@pytest.fixture(scope="module")
def stated() -> StatedCertificate:
    found = certify_events(MECHANISMS, epsilon=1.0, delta=1e-8)
    return StatedCertificate(naive=found.naive, rdp=found.rdp, pld=found.pld)


@pytest.fixture
def release(tmp_path: Path, stated: StatedCertificate) -> Path:
    table = pa.table({"key": ["a", 'b"\n,'], "count": [1.5, 2.5], "count_low": [0.5, 1.5], "count_high": [2.5, 3.5]})
    write_parquet(table, tmp_path / "a.parquet")
    write_csv(table, tmp_path / "a.csv")
    (tmp_path / "report.html").write_text("<p>", encoding="utf-8")
    write(tmp_path, stated)
    return tmp_path


def entry(folder: Path, name: str, rows: int | None) -> FileEntry:
    return FileEntry(path=name, sha256=hashlib.sha256((folder / name).read_bytes()).hexdigest(), rows=rows)


def write(folder: Path, stated: StatedCertificate, **changes: Any) -> None:
    if "files" not in changes:
        names: dict[str, int | None] = {"a.parquet": 2, "a.csv": 2, "report.html": None}
        changes["files"] = tuple(entry(folder, name, rows) for name, rows in names.items())
    whole = Manifest(
        release_id="r1",
        release_name="default",
        dataset="d",
        created="2026-11-24T00:30:00Z",
        dpbeam_version="0.1.0",
        policy_digest="sha256:" + "a" * 64,
        input_fingerprint="f",
        guarantee=GUARANTEE,
        certificate=stated,
        mechanisms=MECHANISMS,
        charge=Charge(id="c", meter="basic", epsilon=1.0, delta=1e-8),
        files=(),
    )
    (folder / "manifest.json").write_bytes(replace(whole, **changes).to_bytes())


def problems(folder: Path) -> tuple[str, ...]:
    with pytest.raises(Uncertified) as caught:
        certify(folder / "manifest.json")
    return caught.value.problems


def test_a_whole_release_is_certified_with_the_recomputed_certificate(release: Path, stated: StatedCertificate) -> None:
    result = certify(release / "manifest.json")
    assert result.certificate == stated
    assert result.epsilon <= 1.0


@pytest.mark.parametrize("method", ["naive", "rdp", "pld"])
@pytest.mark.parametrize("factor", [1 - 1e-5, 1 + 1e-5])
def test_a_certificate_other_than_the_mechanisms_give_is_named(
    release: Path, stated: StatedCertificate, method: str, factor: float
) -> None:
    found = getattr(stated, method)
    write(release, replace(stated, **{method: found * factor}))
    assert problems(release) == (f"certificate.{method}: stated {found * factor}, the mechanisms compose to {found}",)


def test_mechanisms_above_the_guarantee_are_refused(release: Path, stated: StatedCertificate) -> None:
    write(release, stated, mechanisms=(*MECHANISMS, Gaussian(stage="a", metric="x", sigma=1.0, l2=1.0)))
    [problem] = problems(release)
    assert problem.startswith("mechanisms: they don't meet the guarantee (the mechanisms cost epsilon ")


@pytest.mark.parametrize(("name", "paid"), [("epsilon", 0.5), ("delta", 1e-9)])
def test_a_charge_below_the_guarantee_is_named(
    release: Path, stated: StatedCertificate, name: str, paid: float
) -> None:
    charge = replace(Charge(id="c", meter="basic", epsilon=1.0, delta=1e-8), **{name: paid})
    write(release, stated, charge=charge)
    due = getattr(GUARANTEE, name)
    assert problems(release) == (f"charge.{name}: {paid} was charged for a guarantee of {due}",)


@pytest.mark.parametrize("meter", ["zcdp", "gdp"])
def test_a_charge_in_another_meter_covers_what_the_mechanisms_cost_in_it(
    release: Path, stated: StatedCertificate, meter
) -> None:
    due = metered_cost(MECHANISMS, meter)
    write(release, stated, charge=Charge(id="c", meter=meter, epsilon=due.loss, delta=due.delta))
    certify(release)
    write(release, stated, charge=Charge(id="c", meter=meter, epsilon=due.loss * 0.99, delta=due.delta * 0.9))
    symbol = {"zcdp": "ρ", "gdp": "μ²"}[meter]
    assert problems(release) == (
        f"charge: {symbol} {due.loss * 0.99} was charged for mechanisms that cost {due.loss}",
        f"charge: δ {due.delta * 0.9} was charged for mechanisms that cost {due.delta}",
    )


def test_a_charge_of_an_unknown_meter_is_none() -> None:
    with pytest.raises(KeyError):
        Charge(id="c", meter="promise", epsilon=1.0, delta=1e-8).to_json()


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


def test_coverage_that_no_mechanism_pays_for_is_named(release: Path, stated: StatedCertificate) -> None:
    write(release, stated, coverage=(COVERAGE,))
    assert problems(release) == ("coverage of stage 'a': no mechanism is of it",)


def test_a_table_that_no_mechanism_pays_for_is_named(release: Path, stated: StatedCertificate) -> None:
    write(release, stated, mechanisms=tuple(replace(mechanism, stage="b") for mechanism in MECHANISMS))
    assert problems(release) == (
        "file 'a.parquet': is a table, but no mechanism is of its stage",
        "file 'a.csv': is a table, but no mechanism is of its stage",
    )


def test_what_is_no_table_can_be_the_report_alone(release: Path, stated: StatedCertificate) -> None:
    (release / "rows.jsonl").write_text('{"person": "p1"}', encoding="utf-8")
    names: dict[str, int | None] = {"a.parquet": 2, "a.csv": 2, "report.html": None, "rows.jsonl": None}
    write(release, stated, files=tuple(entry(release, name, rows) for name, rows in names.items()))
    assert problems(release) == (
        "file 'rows.jsonl': is neither a table nor report.html, the only other file of a release",
    )


def test_a_changed_file_is_named_with_both_digests(release: Path) -> None:
    before = hashlib.sha256((release / "report.html").read_bytes()).hexdigest()
    (release / "report.html").write_text("<b>", encoding="utf-8")
    after = hashlib.sha256(b"<b>").hexdigest()
    assert problems(release) == (f"file 'report.html': stated sha256 {before}, found {after}",)


def test_a_missing_file_is_named(release: Path) -> None:
    (release / "a.csv").unlink()
    assert problems(release) == ("file 'a.csv': is missing",)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "sub/extra.csv"])
def test_a_file_that_is_not_listed_is_named(release: Path, name: str) -> None:
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).write_text("x", encoding="utf-8")
    assert problems(release) == (f"file {name!r}: is not listed in the manifest",)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_a_wrong_row_count_is_named(release: Path, stated: StatedCertificate, name: str) -> None:
    others = tuple(
        entry(release, other, rows) for other, rows in (("a.parquet", 2), ("a.csv", 2), ("report.html", None))
    )
    write(release, stated, files=tuple(replace(f, rows=3) if f.path == name else f for f in others))
    assert problems(release) == (f"file {name!r}: stated rows 3, found 2",)


def test_a_link_instead_of_a_file_is_refused_even_with_the_right_bytes(release: Path) -> None:
    target = release.parent / f"{release.name}-elsewhere.html"
    (release / "report.html").rename(target)
    (release / "report.html").symlink_to(target)
    assert problems(release) == ("file 'report.html': is not a regular file",)


def test_all_mismatches_are_listed_in_one_message(release: Path, stated: StatedCertificate) -> None:
    write(release, replace(stated, pld=0.1), charge=Charge(id="c", meter="basic", epsilon=0.1, delta=1e-8))
    (release / "a.csv").unlink()
    (release / "extra").write_text("x", encoding="utf-8")
    with pytest.raises(Uncertified) as caught:
        certify(release / "manifest.json")
    assert str(caught.value) == (
        f"manifest {release / 'manifest.json'} can't be certified:\n"
        f"  certificate.pld: stated 0.1, the mechanisms compose to {stated.pld}\n"
        "  charge.epsilon: 0.1 was charged for a guarantee of 1.0\n"
        "  file 'a.csv': is missing\n"
        "  file 'extra': is not listed in the manifest\n"
        "Don't rely on this release; ask its publisher."
    )
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "keys",
    [
        ["a" * 3_000_000, "b"],
        ["", "'", "\n", '"'],
    ],
    ids=["longer than a block", "hardly any text"],
)
def test_a_table_of_any_keys_is_certified(tmp_path: Path, stated: StatedCertificate, keys: list[str]) -> None:
    table = pa.table({"key\nof": keys, "count": [float(i) for i in range(len(keys))]})
    write_csv(table, tmp_path / "a.csv")
    write(tmp_path, stated, files=(entry(tmp_path, "a.csv", len(keys)),))
    certify(tmp_path / "manifest.json")


@pytest.mark.parametrize("key", ["\0", "a key with a \0 in it", '"\0\r\n,', "\0" * 40])
def test_a_long_table_with_a_nul_in_a_key_is_certified(tmp_path: Path, stated: StatedCertificate, key: str) -> None:
    """After 10,922 rows of three columns Arrow's parser looks at eight bytes at a time."""
    keys = [f"a key of its own {i}" for i in range(12_000)] + [key, "the last"]
    table = pa.table({"key": keys, "other": keys, "count": pa.nulls(len(keys), pa.float64())})
    write_csv(table, tmp_path / "a.csv")
    write(tmp_path, stated, files=(entry(tmp_path, "a.csv", len(keys)),))
    certify(tmp_path / "manifest.json")


def test_a_table_of_keys_alone_is_certified(tmp_path: Path, stated: StatedCertificate) -> None:
    write_csv(pa.table({"key": ["", "a", "b c"]}), tmp_path / "a.csv")
    write(tmp_path, stated, files=(entry(tmp_path, "a.csv", 3),))
    certify(tmp_path / "manifest.json")


@pytest.mark.parametrize("made", ["folder", "link"])
def test_a_folder_that_holds_nothing_of_the_release_is_named(release: Path, tmp_path_factory, made: str) -> None:
    (release / "more").mkdir() if made == "folder" else (release / "more").symlink_to(tmp_path_factory.mktemp("raw"))
    with pytest.raises(Uncertified) as refused:
        certify(release / "manifest.json")
    assert refused.value.problems == ("folder 'more': holds nothing that the manifest lists",)


def test_a_release_is_certified_by_its_folder(release: Path) -> None:
    assert certify(release) == certify(release / "manifest.json")
