"""What was released, as a source of a pipeline: the same rows in every execution, for they are those of a file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq

from dpbeam.errors import RunFailed, UsageError
from dpbeam.pipelines.library.releases import read_release
from dpbeam.reporting.digests import digest
from dpbeam.transforms.wire.containment import ContainedDoFn


class _ReadTable(ContainedDoFn):
    step = "ReadRelease"

    def __init__(self, sha256: str) -> None:
        self._sha256 = sha256

    def work(self, element: str) -> Iterator[dict[str, Any]]:
        data = Path(element).read_bytes()
        if digest(data) != self._sha256:
            raise RunFailed(f"{element} isn't the file that the release's manifest lists: somebody changed it")
        # No thread of Arrow's may hold our bytes as Python ends: it would abort the program.
        yield from pq.ParquetFile(io.BytesIO(data), pre_buffer=False).read(use_threads=False).to_pylist()


class ReadRelease(beam.PTransform[beam.pvalue.PBegin, beam.PCollection[dict[str, Any]]]):
    """The released rows of a stage, as dicts; it costs nothing, however often it is done.

    Args:
        folder: a published release: `<output>/<dataset>/<release id>`, or `published.folder`.
        stage: which of its stages; None if it has one.

    Raises:
        UsageError: there is no such release or stage.
        Uncertified: the release isn't as its manifest says (see `dpbeam.read_release`).
        RunFailed: (inside the job) its file was changed since.
    """

    def __init__(self, folder: str | os.PathLike[str], stage: str | None = None) -> None:
        super().__init__()
        self._folder = Path(folder).absolute()
        manifest = read_release(self._folder).manifest
        tables = {Path(file.path).stem: file for file in manifest.files if file.path.endswith(".parquet")}
        if stage is None and len(tables) == 1:
            (stage,) = tables
        if stage not in tables:
            asked = "stage must be named" if stage is None else f"there is no stage {stage}"
            raise UsageError(f"{asked}: the release has {', '.join(tables)}")
        self._file = tables[stage]

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[dict[str, Any]]:
        rows: beam.PCollection[dict[str, Any]] = (
            pbegin
            | "Path" >> beam.Create([str(self._folder / self._file.path)], reshuffle=False)
            | "Read" >> beam.ParDo(_ReadTable(self._file.sha256)).with_output_types(dict[str, Any])
            | "Spread" >> beam.Reshuffle().with_output_types(dict[str, Any])
        )
        return rows
