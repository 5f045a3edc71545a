"""manifest.json: the public statement of a release that an outsider can check, written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import Mechanism, from_json, others_of, to_json
from dpbeam.reporting.formats import parse, violations

VERSION = 5
"""The newest version. A manifest is written as the oldest that knows all that it says: 2 added engines, bounds that a
run chose and hierarchical keys, 3 what a policy says to readers and periods, 4 coverage and the share that a
chosen bound keeps, 5 charges in other meters than `basic`."""
MANIFEST_NAME = "manifest.json"
REPORT_NAME = "report.html"


Engine = Literal["dpbeam", "pipelinedp"]
"""What made the figures: dpbeam's own engine, or PipelineDP's."""


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """(ε, δ)-differential privacy for adding or removing one `unit` (a column's name, or `row`)."""

    epsilon: float
    delta: float
    unit: str
    neighbours: Literal["add_or_remove_one"] = "add_or_remove_one"


@dataclass(frozen=True, kw_only=True)
class StatedCertificate:
    """ε at the guarantee's δ by each composition method; None where a method gives no finite bound."""

    naive: float | None
    rdp: float | None
    pld: float | None


@dataclass(frozen=True, kw_only=True)
class Charge:
    """The ledger entry that paid: `epsilon` and `delta` are what was taken from the dataset's budget, the first in what
    its meter adds up: ε of `basic`, ρ of `zcdp`, μ² of `gdp`."""

    id: str
    meter: Literal["basic", "zcdp", "gdp"]
    epsilon: float
    delta: float

    @property
    def symbol(self) -> str:
        """What the meter adds up."""
        return _LOSSES[self.meter][0]

    def to_json(self) -> dict[str, Any]:
        """The charge as manifests have it, its loss under the meter's own name."""
        return {"id": self.id, "meter": self.meter, _LOSSES[self.meter][1]: self.epsilon, "delta": self.delta}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Charge:
        """Reads what `to_json` wrote."""
        symbol_and_name = _LOSSES[fields["meter"]]
        return cls(id=fields["id"], meter=fields["meter"], epsilon=fields[symbol_and_name[1]], delta=fields["delta"])


_LOSSES = {"basic": ("ε", "epsilon"), "zcdp": ("ρ", "rho"), "gdp": ("μ²", "mu_squared")}
"""What each meter adds up, and what the manifest calls it."""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of the release: its path from the manifest's folder, SHA-256 in hex, rows (None: not a table)."""

    path: str
    sha256: str
    rows: int | None


_BOUNDED = {
    "l0": "the partitions of units",
    "linf": "their rows in a partition",
    "l1": "the rows of units",
    "low": "values as they are",
    "high": "values as they are",
}
"""What a bound cuts, in words."""


@dataclass(frozen=True, kw_only=True)
class ChosenBound:
    """A bound that the run chose from a noisy histogram: `parameter` of a stage, or of one of its metrics.

    `fallback` says that no count of the histogram stood out from its noise. `kept` is the noisy share that
    stays within it, by the same histogram: of units' partitions by `l0`, of their rows in a partition by `linf`, of
    their rows by `l1`, of values by `low` and `high`. None where nothing stood out, or of an older dpbeam.
    """

    stage: str
    metric: str | None
    parameter: Literal["l0", "linf", "l1", "low", "high"]
    value: float
    fallback: bool
    kept: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The bound as manifests and Parquet files have it: without a share that isn't known."""
        return {name: value for name, value in _plain(self).items() if name != "kept" or value is not None}

    @property
    def keeps(self) -> str | None:
        """What it keeps, in words; None where that isn't known."""
        return None if self.kept is None else f"keeps about {100 * self.kept:.3g} % of {_BOUNDED[self.parameter]}"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Which share of rows passed the columns' rules and `where`, and which counts in the stage's results as far as its
    bounds and the partitions known beforehand go: noisy, each with a 95 % interval, averaged over privacy units.
    `privacy_units` is the noisy number of units that had a row.
    """

    stage: str
    rows_passed: float
    rows_passed_low: float
    rows_passed_high: float
    rows_kept: float
    rows_kept_low: float
    rows_kept_high: float
    privacy_units: float


@dataclass(frozen=True, kw_only=True)
class About:
    """What the policy says to readers of a release, each None where it says nothing: who answers for it, whom to ask,
    what it is for and where its data comes from.

    Raises:
        ValueError: it says nothing at all.
    """

    owner: str | None = None
    contact: str | None = None
    purpose: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if not self.stated:
            raise ValueError("about must say something, or be None")

    @property
    def stated(self) -> dict[str, str]:
        """What is said, by field."""
        return {name: text for name, text in _plain(self).items() if text is not None}


def by_stage(chosen: Sequence[ChosenBound]) -> dict[str, tuple[ChosenBound, ...]]:
    """The bounds of each stage that has any, by its name."""
    return {stage: tuple(b for b in chosen if b.stage == stage) for stage in dict.fromkeys(b.stage for b in chosen)}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a release is, what it guarantees and what it cost. `docs/formats.md` describes every field.

    It is written as the oldest version that knows what it says.

    Guarantee: `guarantee` holds for all files of `files` together, if `mechanisms` are what was run;
    `dpbeam.reporting.certify` recomputes the first from the second.

    Raises:
        ValueError: a field breaks the format (dpbeam/reporting/schemas/manifest.schema.json).
    """

    release_id: str
    release_name: str
    dataset: str
    created: str
    dpbeam_version: str
    policy_digest: str
    input_fingerprint: str
    guarantee: Guarantee
    certificate: StatedCertificate
    mechanisms: tuple[Mechanism, ...]
    charge: Charge
    files: tuple[FileEntry, ...]
    engine: Engine = "dpbeam"
    chosen_bounds: tuple[ChosenBound, ...] = ()
    about: About | None = None
    period: str | None = None
    coverage: tuple[Coverage, ...] = ()

    @property
    def version(self) -> int:
        if self.charge.meter != "basic":
            return 5
        if self.coverage or any(bound.kept is not None for bound in self.chosen_bounds):
            return 4
        if self.about is not None or self.period is not None:
            return 3
        old = self.engine == "dpbeam" and not self.chosen_bounds and not any(map(others_of, self.mechanisms))
        return 1 if old else 2

    def __post_init__(self) -> None:
        broken = _broken_rules(self.to_json())
        if broken:
            raise ValueError("; ".join(broken))

    def to_json(self) -> dict[str, Any]:
        """The manifest as a JSON object, in reading order."""
        plain: dict[str, Any] = {"version": self.version}
        for field in fields(self):
            value = getattr(self, field.name)
            match field.name:
                case "engine":
                    if value != "dpbeam":
                        plain[field.name] = value
                case "mechanisms":
                    plain[field.name] = [to_json(mechanism) for mechanism in value]
                case "chosen_bounds" | "about" | "period" | "coverage" if not value:
                    continue
                case "about":
                    plain[field.name] = value.stated
                case "chosen_bounds":
                    plain[field.name] = [bound.to_json() for bound in value]
                case "files" | "coverage":
                    plain[field.name] = [_plain(entry) for entry in value]
                case "charge":
                    plain[field.name] = value.to_json()
                case "guarantee" | "certificate":
                    plain[field.name] = _plain(value)
                case _:
                    plain[field.name] = value
        return plain

    def to_bytes(self) -> bytes:
        """The bytes of manifest.json: the same value gives the same bytes."""
        return (json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def read_manifest(path: str | Path) -> Manifest:
    """Reads and checks a manifest.

    Raises:
        UsageError: the file can't be read, is not strict JSON, is of another version, or breaks the format; the
            message lists every rule that it breaks.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"manifest {path} can't be read ({error.strerror}); name a release's manifest.json") from None
    except UnicodeDecodeError:
        raise UsageError(f"manifest {path} is not UTF-8 text; name a release's manifest.json") from None
    try:
        return parse_manifest(text)
    except ValueError as error:
        rule, *listed = str(error).split("\n")
        raise UsageError(f"manifest {path} {rule}", *listed) from None


def parse_manifest(text: str) -> Manifest:
    """`read_manifest` for a text at hand.

    Raises:
        ValueError: as `read_manifest`, the message without the path.
    """
    document = parse(text)
    if not isinstance(document, dict):
        raise ValueError("must be a JSON object")
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"must have a version, a whole number of at least 1, got {version!r}")
    if version > VERSION:
        raise ValueError(f"is of version {version}; this dpbeam reads up to version {VERSION}: use a newer dpbeam")
    broken = _broken_rules(document)
    if broken:
        raise ValueError(f"breaks the format of version {version}:\n" + "\n".join(f"  {rule}" for rule in broken))
    return _built(document)


def known_manifest(data: bytes) -> Manifest:
    """The manifest that a run of ours wrote, as its digest in the ledger says of these bytes: its rules aren't checked
    again, which takes longer than all else where many are listed."""
    return _built(json.loads(data))


def _built(document: Mapping[str, Any]) -> Manifest:
    values: dict[str, Any] = {key: value for key, value in document.items() if key != "version"}
    return Manifest(
        **values
        | {
            "guarantee": Guarantee(**values["guarantee"]),
            "certificate": StatedCertificate(**values["certificate"]),
            "mechanisms": tuple(from_json(mechanism) for mechanism in values["mechanisms"]),
            "charge": Charge.from_json(values["charge"]),
            "files": tuple(FileEntry(**entry) for entry in values["files"]),
            "chosen_bounds": tuple(ChosenBound(**entry) for entry in values.get("chosen_bounds", ())),
            "about": About(**values["about"]) if "about" in values else None,
            "coverage": tuple(Coverage(**entry) for entry in values.get("coverage", ())),
        }
    )


def _plain(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _broken_rules(document: Mapping[str, Any]) -> list[str]:
    """The schema's rules, then what a schema can't say: a real date, finite numbers, no path twice."""
    try:
        json.dumps(document, allow_nan=False)
    except ValueError:
        return ["the document: every number must be finite"]
    broken = violations("manifest", document)
    if broken:
        return broken
    try:
        datetime.fromisoformat(document["created"].replace("Z", "+00:00"))
    except ValueError:
        broken.append(f"created: {document['created']!r} is not a date and time")
    for i, mechanism in enumerate(document["mechanisms"]):
        try:
            from_json(mechanism)
        except ValueError as error:
            broken.append(f"mechanisms[{i}]: {error}")
    seen: set[str] = set()
    for i, entry in enumerate(document["files"]):
        if entry["path"] in seen or entry["path"] == MANIFEST_NAME:
            broken.append(f"files[{i}].path: {entry['path']!r} is listed twice or is the manifest itself")
        seen.add(entry["path"])
    return broken
