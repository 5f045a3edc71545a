"""Progress counts parts of the plan, to those who listen, and to nobody else."""

from __future__ import annotations

import copy

import pytest

from dpbeam.transforms.wire import progress


def test_a_listener_hears_each_part_and_how_many_there_are():
    heard = []
    with progress.listening(lambda *told: heard.append(told)):
        parts = progress.WorkProgress("reading", 2)
        parts.done(1)
        parts.done(0)
    progress.WorkProgress("reading", 1).done(0)
    assert heard == [("reading", 1, 2), ("reading", 2, 2)]


def test_a_listener_is_let_go_after_an_error():
    heard = []
    with pytest.raises(KeyError), progress.listening(lambda *told: heard.append(told)):
        raise KeyError
    progress.WorkProgress("reading", 1).done(0)
    assert heard == []


def test_a_part_that_is_done_again_and_by_a_copy_counts_once():
    heard = []
    with progress.listening(lambda *told: heard.append(told)):
        parts = progress.WorkProgress("reading", 2)
        copy.deepcopy(parts).done(1)
        parts.done(1)
        progress.WorkProgress("reading", 2).done(1)  # other work
        parts.done(0)
    assert heard == [("reading", 1, 2), ("reading", 1, 2), ("reading", 2, 2)]
