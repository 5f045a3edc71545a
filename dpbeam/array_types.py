"""Names for the NumPy arrays that kernels take and give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U16 = npt.NDArray[np.uint16]
U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
"""Which rows are meant, one truth value a row."""
Numbers = I64 | F64
"""A column's values: whole numbers, or floating-point ones."""
