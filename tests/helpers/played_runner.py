"""What a runner's shuffles do, by files, for processes whose memory is measured: nothing is held but by the steps.

Every message is written where it is sent, as its coder encodes it, and read where it is received, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import pyarrow as pa

from dpbeam.transforms.wire.arrow_coder import ArrowBatchCoder

CODER = ArrowBatchCoder()


def peak_bytes() -> int:
    """The most that this process has held; not `ru_maxrss`, which begins with what the parent held when it forked."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10


class Messages:
    """A collection of batches by destination, which may be iterated as often as one likes, as Beam's may."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with self._path.open("rb") as file:
            while size := file.read(8):
                yield CODER.decode(file.read(int.from_bytes(size, "little")))


class Files:
    """A shuffle in a folder, and the reports of those who send into it or receive from it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder, self.reports = Path(folder), []
        self.folder.mkdir(exist_ok=True)

    def send(self, outputs: Iterable[object]) -> None:
        """Sends messages on and keeps reports; what is tagged otherwise is sent too."""
        for output in outputs:
            value = output.value if isinstance(output, beam.pvalue.TaggedOutput) else output
            if isinstance(output, beam.pvalue.TaggedOutput) and output.tag == "reports":
                self.reports.append(value)
                continue
            key, message = value
            data = CODER.encode(message)
            with (self.folder / str(key)).open("ab") as file:
                file.write(len(data).to_bytes(8, "little") + data)

    def arrived(self, key: int) -> Messages:
        return Messages(self.folder / str(key))
