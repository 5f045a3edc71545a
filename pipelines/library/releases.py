"""A published release, opened in Python: verified first, then its tables, intervals, statements and report.

Guarantee: what is opened was found whole by `dpbeam.reporting.certify`: every file as the manifest lists it, the stated
guarantee recomputed from the mechanisms. A table is parsed from bytes whose SHA-256 the manifest states, so a file that
is changed after the opening isn't read.
"""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from dpbeam.errors import UsageError
from dpbeam.reporting.certify import Uncertified, certify
from dpbeam.reporting.digests import digest
from dpbeam.reporting.manifest import (
    MANIFEST_NAME,
    REPORT_NAME,
    Coverage,
    FileEntry,
    Guarantee,
    Manifest,
    StatedCertificate,
)

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True, repr=False)
class Release:
    """A verified release. `cached`: it had been made before it was asked for, and cost nothing now."""

    folder: Path
    manifest: Manifest
    certificate: StatedCertificate
    cached: bool = False

    @property
    def guarantee(self) -> Guarantee:
        """The (ε, δ), and for whom it holds."""
        return self.manifest.guarantee

    @property
    def period(self) -> str | None:
        """What the release is about, such as 2026-W48, if its run stated it."""
        return self.manifest.period

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of its tables, in order of name."""
        return tuple(sorted(self._tables()))

    @property
    def coverage(self) -> dict[str, Coverage]:
        """What became of the rows of each stage: the noisy shares that passed the rules and that count in the results,
        with their intervals. Empty where the policy bought none."""
        return {each.stage: each for each in self.manifest.coverage}

    @overload
    def table(self, stage: str | None = None) -> pa.Table: ...
    @overload
    def table(self, stage: str | None = None, *, kind: Literal["arrow"]) -> pa.Table: ...
    @overload
    def table(self, stage: str | None = None, *, kind: Literal["polars"]) -> pl.DataFrame: ...
    @overload
    def table(self, stage: str | None = None, *, kind: Literal["pandas"]) -> Any: ...

    def table(self, stage: str | None = None, *, kind: Literal["arrow", "polars", "pandas"] = "arrow") -> Any:
        """One table: its keys, and for each metric m the columns `m`, `m_low` and `m_high`, the ends of its 95 %
        interval; sorted by key. `stage` may be left out where there is one table. Arrow's schema says of each column
        which noise it has (docs/formats.md).

        Raises:
            UsageError: no such table, or pandas isn't installed.
            Uncertified: its file has changed since the release was opened.
        """
        found = self._tables()
        if stage is None and len(found) == 1:
            (stage,) = found
        if stage is None or stage not in found:
            raise UsageError(f"stage must be one of {', '.join(self.stages)}, got {stage!r}")
        if kind not in ("arrow", "polars", "pandas"):
            raise UsageError(f"kind must be arrow, polars or pandas, got {kind!r}")
        import pyarrow as pa
        import pyarrow.parquet as pq

        # No thread of Arrow's may hold our bytes as Python ends: it would abort the program.
        table = pq.ParquetFile(pa.BufferReader(self._bytes(found[stage])), pre_buffer=False).read(use_threads=False)
        if kind == "arrow":
            return table
        if kind == "polars":
            import polars as pl

            return pl.from_arrow(table)
        try:
            return table.to_pandas()
        except ModuleNotFoundError:
            raise UsageError("pandas isn't installed here; `pip install pandas`, or ask for arrow or polars") from None

    def report(self) -> str:
        """The report, one HTML page."""
        (entry,) = (entry for entry in self.manifest.files if entry.path == REPORT_NAME)
        return self._bytes(entry).decode("utf-8")

    def __repr__(self) -> str:
        return f"<dpbeam.Release {self.manifest.release_id} of {self.manifest.dataset} in {self.folder}>"

    def _repr_html_(self) -> str:
        page = html.escape(self.report(), quote=True)
        return f'<iframe srcdoc="{page}" sandbox width="100%" height="600" title="report"></iframe>'

    def _tables(self) -> dict[str, FileEntry]:
        return {
            entry.path.removesuffix(".parquet"): entry
            for entry in self.manifest.files
            if entry.rows is not None and entry.path.endswith(".parquet")
        }

    def _bytes(self, entry: FileEntry) -> bytes:
        content = self.folder.joinpath(*entry.path.split("/")).read_bytes()
        if digest(content) != entry.sha256:
            raise Uncertified(self.folder, (f"file {entry.path!r}: has changed since the release was opened",))
        return content


def read_release(path: str | Path) -> Release:
    """Opens a release: its folder, or its manifest.

    Raises:
        UsageError: there is none, or it can't be read.
        Uncertified: anything in it isn't as its manifest says, or the guarantee doesn't follow from its mechanisms.
    """
    manifest = Path(path) / MANIFEST_NAME if os.path.isdir(path) else Path(path)
    certified = certify(manifest)
    return Release(folder=manifest.parent, manifest=certified.manifest, certificate=certified.certificate)
