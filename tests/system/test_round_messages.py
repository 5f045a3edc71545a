"""The steps of a round put out the same messages, whatever the order of those that came in.

So a bundle may be repeated: messages of one execution and of another together are no other than those of one alone.
"""

from __future__ import annotations

import random
from functools import partial

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from dpbeam.engine.aggregation import merge_buffer
from dpbeam.engine.rounds import weighing, weight_tables
from dpbeam.transforms.steps import weigh
from dpbeam.transforms.steps.read import label
from dpbeam.transforms.wire import arrow_coder, control
from dpbeam.transforms.wire.containment import StepError
from tests.helpers import weighing as helpers

SHARDS, PARTS, SPLITS = 2, 2, 6
MESSAGE_BYTES = 2000
SCHEMA = pa.schema([("u", pa.int64()), ("p", pa.int64())])
APART = 1 << 40
"""How far apart keys lie: those close together are grouped in their own order, whatever comes first."""


@pytest.fixture(autouse=True)
def small_messages(monkeypatch) -> None:
    """So that most of what is sent needs several messages, and is merged as it comes."""
    monkeypatch.setattr(control, "sized", partial(arrow_coder.sized, max_bytes=MESSAGE_BYTES))
    monkeypatch.setattr(weigh, "MAX_MESSAGE_BYTES", MESSAGE_BYTES)
    monkeypatch.setattr(weigh, "_PAIRS_PENDING_BYTES", MESSAGE_BYTES)
    monkeypatch.setattr(merge_buffer, "PENDING_BYTES", MESSAGE_BYTES)


def mad2r(number: int) -> weigh.WeighPartitions:
    events = [
        helpers.event("mad2r", l0=3, pre_threshold=3, saturation=20.0, sigma=1.0, threshold=9.0, least_bias=bias)
        for bias in (1.0, 0.5)
    ]
    known = helpers.told({APART * p: 512 + 7 * p for p in range(0, 60, 2)}) if number == 2 else None
    return weigh.WeighPartitions(
        spec=helpers.spec(*events, number=number), shards=SHARDS, result_shards=PARTS, salt=helpers.SALT, known=known,
        splits=SPLITS, schema=SCHEMA,
    )  # fmt: skip


def blocks():
    rng = np.random.default_rng(4)
    for split in range(SPLITS):
        columns = [rng.integers(0, 300, 900), APART * np.minimum(rng.pareto(0.7, 900) * 3, 70).astype(np.int64)]
        yield label(pa.record_batch(columns, schema=SCHEMA), split, 0, last=True)


class Outputs:
    """Messages by kind ("main", "pairs") and destination, and reports."""

    def __init__(self) -> None:
        self.sent, self.reports = {}, []

    def of(self, outputs) -> Outputs:
        for output in outputs:
            tag = output.tag if isinstance(output, beam.pvalue.TaggedOutput) else "main"
            value = output.value if tag != "main" else output
            if tag == "reports":
                self.reports.append(value)
            else:
                self.sent.setdefault((tag, value[0]), []).append(value[1])
        return self

    def told(self):
        """All that is put out: of each message its tag and its rows, which may be in any order, and the reports."""
        sent = {to: sorted(map(message, messages)) for to, messages in self.sent.items()}
        return sent, sorted(repr((*report[:-1], sorted(report[-1].items()))) for report in self.reports)


def message(batch: pa.RecordBatch):
    tag = (batch.schema.metadata or {}).get(b"dpbeam.tag", b"")
    return tag, batch.schema.names, sorted(map(repr, batch.to_pylist()))


def flow(whole: weigh.WeighPartitions, order: random.Random):
    """What each step puts out for each of its keys, all messages shuffled."""
    found, sampled = [], Outputs()
    shared, returns, partitions = Outputs(), {}, {}

    def shuffled(messages):
        return order.sample(messages, len(messages))

    for block in blocks():
        sampled.of(weigh._Sample(whole._round).process(block))
    for shard in range(SHARDS):
        made = Outputs().of(weigh._Share(whole._round).process((shard, shuffled(sampled.sent["main", shard]))))
        found.append(made.told())
        returns[shard] = made.sent["pairs", shard]
        for part in range(PARTS):
            shared.sent.setdefault(part, []).extend(made.sent["main", part])
    for part in range(PARTS):
        made = Outputs().of(weigh._Return(whole._round).process((part, shuffled(shared.sent[part]))))
        found.append(made.told())
        for shard in range(SHARDS):
            returns[shard] += made.sent.get(("main", shard), [])
    for shard in range(SHARDS):
        made = Outputs().of(weigh._SendOn(whole._round).process((shard, shuffled(returns[shard]))))
        found.append(made.told())
        for part in range(PARTS):
            partitions.setdefault(part, []).extend(made.sent["main", part])
    for part in range(PARTS):
        found.append(Outputs().of(weigh._Weigh(whole._round).process((part, shuffled(partitions[part])))).told())
    return found


def weights_of(found):
    return sorted(row for sent, _ in found[-PARTS:] for ((_, _, rows),) in sent.values() for row in rows)


@pytest.mark.parametrize("number", [1, 2])
def test_a_repeated_bundle_sends_the_same_messages(number) -> None:
    whole = mad2r(number)
    first = flow(whole, random.Random(0))
    assert max(len(messages) for sent, _ in first for messages in sent.values()) > 2
    for seed in (1, 2, 3):
        assert flow(whole, random.Random(seed)) == first
    joined = pa.Table.from_batches([block.replace_schema_metadata(None) for block in blocks()])
    known = None if number == 1 else whole.known
    wanted = helpers.weigh_whole(joined.combine_chunks().to_batches()[0], whole.spec, helpers.SALT, known)
    assert weights_of(first) == sorted(map(repr, wanted.to_pylist()))
    assert any(weighing.PART in names for sent, _ in first for messages in sent.values() for _, names, _ in messages)


def test_without_an_order_of_their_own_pieces_would_depend_on_what_came_first(monkeypatch) -> None:
    monkeypatch.setattr(weigh, "_ordered", lambda rows, columns, salt: rows)
    whole = mad2r(2)
    assert flow(whole, random.Random(0)) != flow(whole, random.Random(1))


def test_messages_that_change_when_they_are_read_again_fail_the_step() -> None:
    class Fading:
        def __init__(self, messages) -> None:
            self._messages = messages

        def __iter__(self):
            yield from self._messages
            self._messages = self._messages[1:]

    round = mad2r(1)._round
    sums = weight_tables.rows([pa.array([1, 2])], [np.array([50 << 20, 9])], weight_tables.sums_schema(round.spec))
    asked = sums.append_column("__from", pa.array([0, 0]))
    messages = [message for sender in (0, 1) for _, message in control.Outbox("s", sender, 0, last=True).send(0, asked)]
    assert len(Outputs().of(weigh._Return(round).process((0, messages))).sent["main", 0]) == 2
    with pytest.raises(StepError, match=r"didn't deliver the same messages when they were read again"):
        list(weigh._Return(round).process((0, Fading(messages))))
