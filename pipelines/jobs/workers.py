"""Whether one worker goes through all the input by itself, and in how much memory.

Beam's local runner has one worker, and keeps all that goes through a shuffle in that worker's memory: there, sorting
rows into shards in memory, in several passes where they are too many, is both faster and bounded. With more workers
rows must be shuffled.
"""

from __future__ import annotations

import os

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from dpbeam.transforms.steps.one_worker import OneWorker

ONE_WORKER_RUNNERS = {"FnApiRunner"}
MAX_ROOM_BYTES = 4 << 30
MAX_THREADS = 16


def one_worker(options: PipelineOptions, shards: int) -> OneWorker | None:
    """How one worker does the job, or None if rows are to be shuffled among several."""
    direct = options.view_as(DirectOptions)
    alone = direct.direct_num_workers == 1 and direct.direct_running_mode in (None, "in_memory")
    if options.view_as(StandardOptions).runner not in ONE_WORKER_RUNNERS or not alone:
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(MAX_THREADS, cores)
    return OneWorker(shards=shards, room_bytes=min(MAX_ROOM_BYTES, memory // 4), threads=threads)


def workers(options: PipelineOptions) -> int:
    """How many workers the options ask for, as far as they say; 1 if they don't."""
    asked = options.get_all_options()
    names = ("direct_num_workers", "num_workers", "max_num_workers", "parallelism", "sdk_worker_parallelism")
    return max(1, *(int(asked.get(name) or 1) for name in names))
