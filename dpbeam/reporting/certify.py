"""An outsider's check of a release: the certificate recomputed from its manifest, and every file compared with it."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from dpbeam.errors import DpbeamError, UsageError
from dpbeam.mechanisms.targets import ROWS, coverage_stage
from dpbeam.reporting.digests import file_digest
from dpbeam.reporting.manifest import MANIFEST_NAME, REPORT_NAME, FileEntry, Manifest, StatedCertificate, read_manifest

METHODS = ("naive", "rdp", "pld")
RELATIVE_TOLERANCE = 1e-6  # the composition's own rounding over platforms; far below what a reader would round to
CHARGE_TOLERANCE = 1e-9  # the charge is kept in integer units, printed as a double
_CHUNK_BYTES = 1 << 20


class Uncertified(DpbeamError):
    """The manifest does not stand up to its own facts or files. `problems` lists every mismatch."""

    exit_code = 4

    def __init__(self, path: str | Path, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__(
            f"manifest {path} can't be certified:",
            *(f"  {problem}" for problem in problems),
            "Don't rely on this release; ask its publisher.",
        )


@dataclass(frozen=True, kw_only=True)
class CertifyResult:
    """What stood up: the manifest, and ε by each method as recomputed from its mechanisms."""

    manifest: Manifest
    certificate: StatedCertificate

    @property
    def epsilon(self) -> float:
        """The smallest ε that a method proves at the guarantee's δ."""
        values = (getattr(self.certificate, method) for method in METHODS)
        return min((value for value in values if value is not None), default=math.inf)


def certify(path: str | Path) -> CertifyResult:
    """Checks a release, `path` being its folder or manifest, alone: needs neither the policy, the ledger nor the data.

    The mechanisms are composed anew, and must give the stated certificate and stay within the stated guarantee;
    the charge must cover the guarantee; every listed file must be there with its digest and rows, and no other.

    Guarantee: what is checked is that the listed mechanisms satisfy the stated (ε, δ) and that the files are those
    that were published. That these mechanisms are what was run, and that the tables hold what they gave and nothing
    else, rests on the publisher's word: nobody can tell an exact sum from a noisy one by looking at it.

    Raises:
        UsageError: the manifest can't be read or breaks its format, or its folder can't be listed.
        Uncertified: anything doesn't match; lists all of it.
    """
    path = Path(path) / MANIFEST_NAME if os.path.isdir(path) else Path(path)
    manifest = read_manifest(path)
    recomputed, problems = _recertify_events(manifest)
    problems += _check_charge(manifest)
    problems += _check_tables(manifest)
    problems += _check_coverage(manifest)
    problems += _check_files(path, manifest.files)
    if problems or recomputed is None:
        raise Uncertified(path, tuple(problems))
    return CertifyResult(manifest=manifest, certificate=recomputed)


def _recertify_events(manifest: Manifest) -> tuple[StatedCertificate | None, list[str]]:
    from dpbeam.accounting.certify import certify_events  # lazily: it loads SciPy and dp-accounting

    guarantee = manifest.guarantee
    try:
        composed = certify_events(manifest.mechanisms, epsilon=guarantee.epsilon, delta=guarantee.delta)
    except DpbeamError as error:
        return None, [f"mechanisms: they don't meet the guarantee ({error})"]
    values = {method: float(getattr(composed, method)) for method in METHODS}
    recomputed = StatedCertificate(**{method: v if math.isfinite(v) else None for method, v in values.items()})
    problems = []
    for method in METHODS:
        stated, computed = getattr(manifest.certificate, method), getattr(recomputed, method)
        if not _same(stated, computed):
            problems.append(f"certificate.{method}: stated {stated}, the mechanisms compose to {computed}")
    if not min(values.values()) <= guarantee.epsilon * (1 + RELATIVE_TOLERANCE):
        problems.append(
            f"guarantee.epsilon: stated {guarantee.epsilon}, the mechanisms compose to {min(values.values())}"
        )
    return recomputed, problems


def _same(stated: float | None, computed: float | None) -> bool:
    if stated is None or computed is None:
        return stated is computed
    return math.isclose(stated, computed, rel_tol=RELATIVE_TOLERANCE)


def _check_charge(manifest: Manifest) -> list[str]:
    """The charge covers the guarantee, or in another meter what the mechanisms cost in it."""
    charge, problems = manifest.charge, []
    if charge.meter != "basic":
        from dpbeam.accounting.metering import metered_cost

        try:
            cost = metered_cost(manifest.mechanisms, charge.meter)
        except DpbeamError as error:
            return [f"charge: the mechanisms have no cost in its meter ({error})"]
        return [
            f"charge: {charge.symbol if name == 'epsilon' else 'δ'} {paid} was charged for mechanisms that cost {due}"
            for name, paid, due in (("epsilon", charge.epsilon, cost.loss), ("delta", charge.delta, cost.delta))
            if not paid >= due * (1 - RELATIVE_TOLERANCE)
        ]
    for name in ("epsilon", "delta"):
        paid, due = getattr(charge, name), getattr(manifest.guarantee, name)
        if not paid >= due * (1 - CHARGE_TOLERANCE):
            problems.append(f"charge.{name}: {paid} was charged for a guarantee of {due}")
    return problems


def _check_tables(manifest: Manifest) -> list[str]:
    """A table is named after its stage; one that no mechanism pays for has no guarantee at all. What is no table can be
    the report alone, whatever it holds."""
    paid = {f"{m.stage}{suffix}" for m in manifest.mechanisms for suffix in (".parquet", ".csv")}
    return [
        f"file {entry.path!r}: is a table, but no mechanism is of its stage"
        for entry in manifest.files
        if entry.rows is not None and entry.path not in paid
    ] + [
        f"file {entry.path!r}: is neither a table nor {REPORT_NAME}, the only other file of a release"
        for entry in manifest.files
        if entry.rows is None and entry.path != REPORT_NAME
    ]


def _check_coverage(manifest: Manifest) -> list[str]:
    """What became of a stage's rows is told by a mechanism of its own, or it has no guarantee at all."""
    paid = {m.stage for m in manifest.mechanisms if m.metric == ROWS}
    return [
        f"coverage of stage {each.stage!r}: no mechanism is of it"
        for each in manifest.coverage
        if coverage_stage(each.stage) not in paid
    ]


def _check_files(manifest_path: Path, entries: tuple[FileEntry, ...]) -> list[str]:
    folder = manifest_path.parent
    problems = [problem for entry in entries for problem in _check_file(folder, entry)]
    listed = {entry.path for entry in entries} | {manifest_path.name}
    for root, folders, names in sorted(os.walk(folder, onerror=_raised)):
        for name in sorted(folders):
            inner = Path(root) / name  # of one with files, each is named below
            if inner.is_symlink() or not any(inner.iterdir()):
                relative = inner.relative_to(folder).as_posix()
                problems.append(f"folder {relative!r}: holds nothing that the manifest lists")
        for name in sorted(names):
            relative = (Path(root) / name).relative_to(folder).as_posix()
            if relative not in listed:
                problems.append(f"file {relative!r}: is not listed in the manifest")
    return problems


def _raised(error: OSError) -> None:
    raise UsageError(f"the release's folder can't be listed ({error.strerror})") from None


def _check_file(folder: Path, entry: FileEntry) -> list[str]:
    path = folder.joinpath(*entry.path.split("/"))
    name = f"file {entry.path!r}"
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return [f"{name}: is not a regular file"]
        if not path.resolve().is_relative_to(folder.resolve()):
            return [f"{name}: leads out of the release's folder"]
        digest = file_digest(path)
    except FileNotFoundError:
        return [f"{name}: is missing"]
    except OSError as error:
        return [f"{name}: can't be read ({error.strerror})"]
    if digest != entry.sha256:
        return [f"{name}: stated sha256 {entry.sha256}, found {digest}"]
    rows = _rows(path)
    if rows != entry.rows:
        return [f"{name}: stated rows {_spell(entry.rows)}, found {_spell(rows)}"]
    return []


def _rows(path: Path) -> int | None:
    """The rows of a table, by the file's extension; None for what is no table or can't be read as one."""
    try:
        match path.suffix:
            case ".parquet":
                return int(pa.parquet.read_metadata(path).num_rows)
            case ".csv":
                return _csv_rows(path)
    except (pa.ArrowException, OSError):
        return None
    return None


def _csv_rows(path: Path) -> int:
    """The rows below the header. One block, since a key may be longer than any; and only the first field is kept.

    What a key says doesn't matter here: a NUL is read as another character, for the parser loses rows after one
    (apache/arrow #50481).
    """
    content = path.read_bytes()
    table = pa.csv.read_csv(
        pa.BufferReader(content.replace(b"\0", b"0")),
        read_options=pa.csv.ReadOptions(
            use_threads=False,  # a thread of Arrow's that lets go of our bytes as Python ends would abort it
            autogenerate_column_names=True,
            block_size=min(max(_CHUNK_BYTES, len(content) + 1), 2**31 - 1),
        ),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(include_columns=["f0"], column_types={"f0": pa.binary()}),
    )
    return int(table.num_rows) - 1


def _spell(rows: int | None) -> str:
    return "none" if rows is None else str(rows)
