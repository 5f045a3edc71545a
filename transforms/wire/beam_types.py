"""Names for the collections that go from step to step.

Beam types what a transform takes and gives, and nothing of `|` and `>>`: what a chain of them gives is stated by a
variable's type.
"""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

Batches = beam.PCollection[pa.RecordBatch]
Sharded = beam.PCollection[tuple[int, pa.RecordBatch]]
"""Batches by the number of the shard that they belong to."""
Reports = tuple[beam.PCollection[object], ...]
"""Of shuffles, what each step sent and received (`dpbeam.transforms.wire.control`)."""
