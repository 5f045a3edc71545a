"""How much more memory a process needs for all of a table than for its first part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
GIVES_BACK = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0",
}
"""Allocators give back at once what was freed: else the peak is what they keep, which load and luck decide."""

BLOCKS, BLOCK_ROWS, ROW_BYTES = 64, 1 << 17, 16
ALL_BYTES = BLOCKS * BLOCK_ROWS * ROW_BYTES
SHARDS, PARTS = 64, 8
SHARD_BYTES = ALL_BYTES // SHARDS
SLACK_BYTES = 24 << 20
"""The first use of each library's code, and what allocators keep in spite of `GIVES_BACK`."""


def measured(script: str, *arguments: str) -> Any:
    """What `script` prints last, as JSON, in a process of its own."""
    command = [sys.executable, "-c", script, *arguments]
    environment = {**os.environ, **GIVES_BACK}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
