"""Control totals: a marker file is written only if every step received from a shuffle what others sent into it.

A runner mode was caught losing messages and ending in success. So each message through a shuffle carries a tag made
of its place (sender, block, destination); senders and receivers report rows and tags for each destination, and the
two must agree, for exactly the senders and destinations that the plan names, before a marker is written. The launcher
publishes only with every marker there. The figures never leave the job, and the error names none.

Guarantee: a lost, doubled or misdirected message, a lost block, split or shard, or a lost report makes the run fail,
but for a collision of sums of 64-bit hashes.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa

from dpbeam.errors import RunFailed
from dpbeam.transforms.wire import staging
from dpbeam.transforms.wire.arrow_coder import sized
from dpbeam.transforms.wire.containment import ContainedDoFn

SENT, RECEIVED = "sent", "received"
_TAG = b"dpbeam.tag"
_MASK = (1 << 64) - 1

Report = tuple[str, str, int, int, bool, dict[int, tuple[int, int]]]
"""(shuffle, "sent", sender, block, is the sender's last block, {destination: (rows, tags)}) or
(shuffle, "received", destination, 0, True, {destination: (rows, tags)})."""


class Outbox:
    """Tags the batches that one block of one sender puts into a shuffle, and adds them up."""

    def __init__(self, shuffle: str, sender: int, block: int, *, last: bool) -> None:
        self._place = (shuffle, sender, block, last)
        self._totals: dict[int, tuple[int, int]] = {}

    def send(
        self, destination: int, batch: pa.RecordBatch, answering: bytes = b""
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The messages that carry `batch`, keyed by destination: one, or several where it is too large for one.

        A destination gets one batch of a block; or several, each `answering` a message of another tag.
        """
        shuffle, sender, block, _ = self._place
        for piece, part in enumerate(sized(batch)):
            name = f"{shuffle}/{sender}/{block}/{destination}/{piece}".encode()
            digest = hashlib.blake2b(name, digest_size=8, key=answering)
            rows, tags = self._totals.get(destination, (0, 0))
            tag = int.from_bytes(digest.digest(), "little")
            self._totals[destination] = (rows + part.num_rows, (tags + tag) & _MASK)
            yield destination, part.replace_schema_metadata({_TAG: digest.digest()})

    def report(self) -> Report:
        shuffle, sender, block, last = self._place
        return (shuffle, SENT, sender, block, last, self._totals)


class Inbox:
    """Opens the messages that arrive at one destination, one after the other, and adds them up."""

    def __init__(self, shuffle: str, destination: int) -> None:
        self._shuffle, self._destination = shuffle, destination
        self._rows = self._tags = 0

    def open(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[bytes, pa.RecordBatch]]:
        """Each message's tag, and its batch without it, in the order in which they arrived."""
        for batch in batches:
            tag = (batch.schema.metadata or {}).get(_TAG, b"")
            if len(tag) != 8:
                raise RunFailed(f"shuffle {self._shuffle} delivered a message without its tag; nothing was published")
            self._rows += batch.num_rows
            self._tags += struct.unpack("<Q", tag)[0]
            yield tag, batch.replace_schema_metadata(None)

    def report(self) -> Report:
        """What to report when all messages were opened."""
        totals = {self._destination: (self._rows, self._tags & _MASK)}
        return (self._shuffle, RECEIVED, self._destination, 0, True, totals)


def receive(shuffle: str, destination: int, batches: Iterable[pa.RecordBatch]) -> tuple[list[pa.RecordBatch], Report]:
    """The batches that arrived at a destination, stripped of their tags, and what to report of them.

    Guarantee: the same messages give the same batches in the same order, in whatever order they arrived. So a bundle
    that is executed again samples the same rows of each unit; if it sampled others, and the results of both executions
    went on to different partitions, a unit might count with more rows than its bounds allow.
    """
    inbox = Inbox(shuffle, destination)
    tagged_batches = sorted(inbox.open(batches), key=lambda tagged: tagged[0])
    return [batch for _, batch in tagged_batches], inbox.report()


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """A shuffle as the plan knows it: its name, the senders that must report, and its number of destinations.

    `senders` is None where nobody knows beforehand how many there are: of the rows of somebody's own pipeline, each
    batch is a sender. Then a sender that is lost with all its messages and its report isn't missed.
    """

    name: str
    senders: frozenset[int] | None
    destinations: int


def agree(shuffle: Shuffle, reports: Iterable[Report]) -> bool:
    """Whether the reports of one shuffle are complete, each there once, and their totals equal."""
    blocks: dict[int, list[tuple[int, bool]]] = defaultdict(list)
    sent: dict[int, tuple[int, int]] = {}
    received: dict[int, tuple[int, int]] = {}
    for _, direction, who, block, last, totals in reports:
        if direction == SENT:
            blocks[who].append((block, last))
            for destination, (rows, tags) in totals.items():
                before = sent.get(destination, (0, 0))
                sent[destination] = (before[0] + rows, (before[1] + tags) & _MASK)
        elif who in received:
            return False
        else:
            received[who] = totals[who]
    complete = all(
        sorted(numbers) == [(i, i == len(numbers) - 1) for i in range(len(numbers))] for numbers in blocks.values()
    )
    return (
        complete
        and (shuffle.senders is None or blocks.keys() == shuffle.senders)
        and received.keys() == set(range(shuffle.destinations))
        and sent == received
    )


class _Key(ContainedDoFn):
    step = "KeyByShuffle"

    def work(self, element: Report) -> Iterator[tuple[str, Report]]:
        yield element[0], element


class _Check(ContainedDoFn):
    step = "ControlTotals"

    def __init__(self, shuffles: dict[str, Shuffle], area: staging.Area) -> None:
        self._shuffles = shuffles
        self._area = area

    def work(self, element: tuple[str, Iterable[Report]]) -> Iterator[str]:
        name, reports = element
        if not agree(self._shuffles[name], reports):
            raise RunFailed(
                f"control totals of shuffle {name} don't agree: the runner lost or doubled data, so nothing was "
                "published. Run again; if it fails again, use another runner or running mode."
            )
        self._area.write_marker(name)
        yield name


@dataclass(eq=False)
class CheckControlTotals(beam.PTransform[beam.PCollection[Report], beam.PCollection[str]]):
    """Compares the reports of all shuffles: names each whose totals agree, and writes its marker to staging.

    Raises:
        RunFailed: (inside the job) the totals of a shuffle don't agree.
    """

    shuffles: tuple[Shuffle, ...]
    area: staging.Area

    def expand(self, reports: beam.PCollection[Report]) -> beam.PCollection[str]:
        agreed: beam.PCollection[str] = (
            reports
            | "KeyByShuffle" >> beam.ParDo(_Key()).with_output_types(tuple[str, Any])
            | "Gather" >> beam.GroupByKey()
            | "Compare" >> beam.ParDo(_Check({s.name: s for s in self.shuffles}, self.area))
        )
        return agreed
