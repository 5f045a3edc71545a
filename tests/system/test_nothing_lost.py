"""A runner that loses or doubles what goes through a shuffle makes the run fail before anything is published; and so
does a worker that loses what it sorts by itself."""

from __future__ import annotations

import threading

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.worker import data_plane

from dpbeam.engine.bounding import shard_buffer
from dpbeam.pipelines.jobs import workers
from dpbeam.transforms.steps import accumulate, bound, one_worker
from dpbeam.transforms.steps import read as reading
from dpbeam.transforms.wire.staging import Area


def visits(people: int = 400) -> list[str]:
    return [f"p{i},{place},{i % 7}" for i in range(people) for place in ("inn", "zoo")]


def corrupt(change, where, monkeypatch, *, only: int = 0) -> None:
    """Makes one destination of the shuffle that `where` receives get `change(messages)` in place of its messages."""
    original = where.work
    monkeypatch.setattr(
        where,
        "work",
        lambda self, element: original(self, (element[0], change(list(element[1]))) if element[0] == only else element),
    )


@pytest.mark.parametrize("where", [bound._BoundShard, accumulate._Merge], ids=["users", "partitions"])
@pytest.mark.parametrize(
    "change",
    [lambda found: found[1:], lambda found: [*found, found[0]], lambda found: [found[0], *found[:-1]]],
    ids=["dropped", "doubled", "replaced"],
)
def test_a_wrong_delivery_fails_the_run(workspace, capsys, monkeypatch, shuffled, where, change) -> None:
    workspace.create_budget()
    corrupt(change, where, monkeypatch)
    assert workspace.run() == 4
    assert "the runner lost or doubled data" in capsys.readouterr().err
    assert workspace.manifests() == []
    assert workspace.left_behind() == []


def test_a_destination_that_never_runs_fails_the_run(workspace, capsys, monkeypatch, shuffled) -> None:
    workspace.create_budget()
    original = bound._BoundShard.work
    monkeypatch.setattr(
        bound._BoundShard, "work", lambda self, element: original(self, element) if element[0] else iter(())
    )
    assert workspace.run() == 4
    assert workspace.manifests() == []


@pytest.mark.parametrize("change", ["lost", "doubled", "swapped"])
def test_a_block_that_goes_astray_in_one_worker_fails_the_run(workspace, capsys, monkeypatch, change) -> None:
    monkeypatch.setattr(one_worker, "BLOCK_ROWS", 500)  # of 1,200
    workspace.create_budget()
    original = shard_buffer.ShardBuffer.settle

    def settle(self):
        sizes = original(self)
        if change == "lost":
            self._blocks.pop()
        else:
            self._blocks[0 : 0 if change == "doubled" else 1] = [self._blocks[1]]
        return sizes

    monkeypatch.setattr(shard_buffer.ShardBuffer, "settle", settle)
    assert workspace.run() == 4
    assert "the runner lost or doubled data" in capsys.readouterr().err
    assert workspace.manifests() == []
    assert workspace.left_behind() == []


def test_a_split_that_one_worker_leaves_out_fails_the_run(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    original = one_worker._each
    monkeypatch.setattr(
        one_worker, "_each", lambda threads, what, *work: {} if what == "reading" else original(threads, what, *work)
    )
    assert workspace.run() == 4
    assert workspace.manifests() == []


def test_a_source_that_changes_between_two_passes_fails_the_run(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    monkeypatch.setattr(workers, "MAX_ROOM_BYTES", 2000)
    passes = []

    def read(self, sink, threads, number, read=one_worker._Aggregate._read):
        passes.append(number)
        if len(passes) == 2:
            workspace.csv(*visits(399))
        return read(self, sink, threads, number)

    monkeypatch.setattr(one_worker._Aggregate, "_read", read)
    assert workspace.run() == 4
    assert "data.csv has changed since it was checked" in capsys.readouterr().err
    assert workspace.manifests() == []

    # Where size, time and inode don't show it, what the passes read does.
    passes.clear()
    monkeypatch.setattr(reading, "is_the_one", lambda file, stamp: True)
    workspace.csv(*visits(400))
    assert workspace.run() == 4
    assert "the source changed while it was read" in capsys.readouterr().err
    assert workspace.manifests() == []


def test_without_a_marker_nothing_is_published(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    monkeypatch.setattr(Area, "write_marker", lambda self, name: None)
    assert workspace.run() == 4
    assert "were not confirmed" in capsys.readouterr().err
    assert workspace.manifests() == []


def test_a_real_loss_of_the_refused_mode_is_caught(workspace, capsys, monkeypatch) -> None:
    """The refused mode is let through here. Its timed flush clears a buffer outside the lock that writers take; the
    test only sees to it that the two threads meet there once, so that Beam's own code loses an element."""
    lost = make_the_flusher_meet_a_writer(monkeypatch)
    workspace.create_budget()
    flags = ["--runner=FnApiRunner", "--direct_running_mode=multi_threading", "--direct_num_workers=2"]
    monkeypatch.setattr("dpbeam.pipelines.jobs.options.beam_options", lambda *_: PipelineOptions(flags))
    code = workspace.run()
    assert lost.is_set(), "no element was lost, so nothing was tested"
    assert code == 4
    assert "the runner lost or doubled data" in capsys.readouterr().err
    assert workspace.manifests() == []
    assert workspace.left_behind() == []


def make_the_flusher_meet_a_writer(monkeypatch) -> threading.Event:
    """Each buffer's first timed flush waits, between sending and clearing, until an element was written to the buffer;
    once one was lost so, no timed flush does anything more. The event says that one was."""
    buffer, lost = data_plane.TimeBasedBufferingClosableOutputStream, threading.Event()
    begin, flush, end = buffer.__init__, buffer.flush, buffer.close

    def begin_held(self, close_callback=None, flush_callback=None, **options) -> None:
        self.held, self.go_on, self.cleared = threading.Event(), threading.Event(), threading.Event()

        def send(data: bytes) -> None:
            flush_callback(data)
            if isinstance(threading.current_thread(), data_plane.PeriodicThread):
                self.held.set()
                self.go_on.wait()

        begin(self, close_callback, send, **options)
        if not lost.is_set():
            self.held.wait()

    def flush_once(self) -> None:
        if not isinstance(threading.current_thread(), data_plane.PeriodicThread):
            flush(self)
        elif not (lost.is_set() or self.cleared.is_set()):
            flush(self)
            self.cleared.set()
        else:
            self.cleared.set()
            self.held.set()

    def let_go(self) -> None:
        """The writer has written an element, or closes."""
        if not self.cleared.is_set() and self.held.is_set():
            if self.size():
                lost.set()
            self.go_on.set()
            self.cleared.wait()
        self.go_on.set()

    def close(self) -> None:
        let_go(self)
        end(self)

    monkeypatch.setattr(buffer, "__init__", begin_held)
    monkeypatch.setattr(buffer, "flush", flush_once)
    monkeypatch.setattr(buffer, "maybe_flush", let_go)
    monkeypatch.setattr(buffer, "close", close)
    monkeypatch.setattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS", 1)
    return lost
