"""Control totals agree for what was sent and received whole, and for nothing else."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.errors import RunFailed
from dpbeam.transforms.wire.arrow_coder import ArrowBatchCoder, sized
from dpbeam.transforms.wire.control import Outbox, Report, Shuffle, agree, receive

SHUFFLE = Shuffle(name="s", senders=frozenset({0, 1}), destinations=2)


def batch(rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"a": pa.array(range(rows), pa.int64())})


def traffic() -> tuple[list[Report], dict[int, list[pa.RecordBatch]]]:
    """Two senders of two blocks each; every block sends three rows to each of two destinations."""
    reports, delivered = [], {0: [], 1: []}
    for sender in (0, 1):
        for block in (0, 1):
            outbox = Outbox("s", sender, block, last=block == 1)
            for destination in (0, 1):
                for key, message in outbox.send(destination, batch(3)):
                    delivered[key].append(message)
            reports.append(outbox.report())
    return reports, delivered


def received(delivered: dict[int, list[pa.RecordBatch]]) -> list[Report]:
    return [receive("s", destination, batches)[1] for destination, batches in delivered.items()]


def test_whole_traffic_agrees() -> None:
    reports, delivered = traffic()
    assert agree(SHUFFLE, reports + received(delivered))


@pytest.mark.parametrize("destination", [0, 1])
def test_a_lost_message_does_not_agree(destination: int) -> None:
    reports, delivered = traffic()
    del delivered[destination][1]
    assert not agree(SHUFFLE, reports + received(delivered))


def test_a_doubled_message_does_not_agree() -> None:
    reports, delivered = traffic()
    delivered[0].append(delivered[0][0])
    assert not agree(SHUFFLE, reports + received(delivered))


def test_one_message_lost_and_another_of_the_same_rows_doubled_does_not_agree() -> None:
    reports, delivered = traffic()
    delivered[0][0] = delivered[0][1]
    assert not agree(SHUFFLE, reports + received(delivered))


def test_messages_swapped_between_destinations_do_not_agree() -> None:
    reports, delivered = traffic()
    delivered[0][0], delivered[1][0] = delivered[1][0], delivered[0][0]
    assert not agree(SHUFFLE, reports + received(delivered))


def test_any_lost_or_doubled_report_does_not_agree() -> None:
    reports, delivered = traffic()
    reports += received(delivered)
    for index in range(len(reports)):
        assert not agree(SHUFFLE, reports[:index] + reports[index + 1 :])
        assert not agree(SHUFFLE, [*reports, reports[index]])


def test_no_reports_at_all_do_not_agree() -> None:
    assert not agree(SHUFFLE, [])


def test_a_sender_that_vanished_with_its_messages_and_its_reports_does_not_agree() -> None:
    reports, _ = traffic()
    reports = [report for report in reports if report[2] == 0]
    rows = {key: [0, 0] for key in (0, 1)}
    for report in reports:
        for key, (count, tags) in report[5].items():
            rows[key] = [rows[key][0] + count, (rows[key][1] + tags) % 2**64]
    matching = [("s", "received", key, 0, True, {key: tuple(total)}) for key, total in rows.items()]
    assert not agree(SHUFFLE, reports + matching)


def test_a_message_without_its_tag_is_refused() -> None:
    with pytest.raises(RunFailed, match="without its tag"):
        receive("s", 0, [batch(1)])


@given(st.permutations(range(6)))
def test_messages_are_received_in_one_order_in_whatever_order_they_arrive(order: list[int]) -> None:
    sent = [message for block in range(6) for _, message in Outbox("s", 0, block, last=False).send(0, batch(block))]
    found, report = receive("s", 0, [sent[i] for i in order])
    again, same = receive("s", 0, sent)
    assert [one.num_rows for one in found] == [one.num_rows for one in again]
    assert report == same


@given(st.integers(0, 300), st.integers(1, 2000))
def test_cutting_a_batch_to_size_keeps_every_row_in_order(rows: int, max_bytes: int) -> None:
    pieces = sized(batch(rows), max_bytes)
    assert pa.Table.from_batches(pieces).to_pydict() == batch(rows).to_pydict()
    assert all(piece.nbytes <= max_bytes or piece.num_rows == 1 for piece in pieces if rows)


@given(st.lists(st.one_of(st.text(), st.none())), st.binary(max_size=20))
def test_the_coder_gives_a_batch_back_with_its_metadata(texts: list[str | None], note: bytes) -> None:
    sent = pa.RecordBatch.from_pydict({"a": pa.array(texts, pa.string())}).replace_schema_metadata({b"note": note})
    back = ArrowBatchCoder().decode(ArrowBatchCoder().encode(sent))
    assert back.equals(sent, check_metadata=True)


def test_the_coder_ships_only_the_rows_of_a_slice() -> None:
    large = batch(1_000_000)
    assert len(ArrowBatchCoder().encode(large.slice(500_000, 100))) < 2_000
