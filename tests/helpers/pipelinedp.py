"""PipelineDP itself, for comparison: what it gives without noise; and what a pipeline gave, through a file."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Exact:
    """Stands in for PyDP's mechanisms inside PipelineDP."""

    def __init__(self, *_, **__) -> None:
        self.std = self.diversity = 1.0

    def add_noise(self, value):
        return value


class KeepAll:
    def should_keep(self, units):
        return units > 0


@contextmanager
def without_noise(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PipelineDP adds nothing and keeps every partition."""
    from pipeline_dp import dp_computations, partition_selection

    with monkeypatch.context() as patch:
        patch.setattr(dp_computations.dp_mechanisms, "LaplaceMechanism", Exact)
        patch.setattr(dp_computations.dp_mechanisms, "GaussianMechanism", Exact)
        patch.setattr(partition_selection, "create_partition_selection_strategy", lambda *_: KeepAll())
        yield


def dump(found: Any, path: str | Path) -> None:
    """Writes a pipeline's result, from wherever it runs."""
    Path(path).write_bytes(pickle.dumps(found))


def read_back(path: str | Path) -> Any:
    """What `dump` wrote."""
    return pickle.loads(Path(path).read_bytes())  # noqa: S301
