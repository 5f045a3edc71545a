"""The shape of the benchmark's data: how many rows come in; a Parquet file of visits goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_A_GROUP = 1_000_000
MANY = 5_000_000

Shape = Literal["even", "half", "bot", "many"]
"""even: Pareto-distributed places. half: half of all rows in one place. bot: one user has 5 % of all rows. many: places
uniform over five million."""


def write_visits(path: Path, rows: int, *, text: bool, shape: Shape = "even", seed: int = 7) -> None:
    """Writes `rows` rows of (user, place, amount): rows/20 users, Pareto-distributed places, amounts in [0, 10).

    `text` makes ids and keys strings. Each row group holds a million rows, so any size fits in memory.
    """
    rng = np.random.default_rng(seed)
    writer = None
    for start in range(0, rows, ROWS_A_GROUP):
        count = min(ROWS_A_GROUP, rows - start)
        users = rng.integers(0, max(1, rows // 20), count)
        places = np.minimum(rng.pareto(1.0, count) * 10, 100_000).astype(np.int64)
        match shape:
            case "even":
                pass
            case "half":
                places[rng.random(count) < 0.5] = 0
            case "bot":
                users[rng.random(count) < 0.05] = 0
            case "many":
                places = rng.integers(0, MANY, count)
            case _:
                raise ValueError(f"unknown shape {shape!r}")
        columns = {"user": pa.array(users), "place": pa.array(places)}
        if text:
            columns = {name: pa.array([f"{name}-{v}" for v in column.to_pylist()]) for name, column in columns.items()}
        table = pa.table(columns | {"amount": pa.array(rng.uniform(0, 10, count))})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=ROWS_A_GROUP)
    if writer is not None:
        writer.close()
