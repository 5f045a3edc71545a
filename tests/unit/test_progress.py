"""Progress counts parts of the plan, to those who listen, and to nobody else."""

from __future__ import annotations

import pytest

from transforms import progress


def test_a_listener_hears_each_part_and_how_many_there_are():
    heard = []
    with progress.listening(lambda *told: heard.append(told)):
        steps = progress.Steps("reading", 2)
        steps.done()
        steps.done()
    progress.Steps("reading", 1).done()
    assert heard == [("reading", 1, 2), ("reading", 2, 2)]


def test_a_listener_is_let_go_after_an_error():
    heard = []
    with pytest.raises(KeyError), progress.listening(lambda *told: heard.append(told)):
        raise KeyError
    progress.Steps("reading", 1).done()
    assert heard == []
