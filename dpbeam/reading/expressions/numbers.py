"""Arithmetic of int64 and float64 columns: exact, or null where a result lies beyond its type or isn't defined.

Each operation on float64 is one of IEEE 754's, rounded once: NumPy computes it array by array, so no two are fused into
one with fewer roundings. Operands are finite, and so is every result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64, I64, Mask

_INT64_MIN = np.int64(-(2**63))
_BEYOND = 2.0**63
"""The least float64 above every int64."""


def ints(values: pa.Array) -> I64:
    """The numbers, 0 where there is none."""
    found: I64 = values.fill_null(0).to_numpy(zero_copy_only=False)
    return found


def floats(values: pa.Array) -> F64:
    """The numbers, 0 where there is none."""
    found: F64 = values.fill_null(0.0).to_numpy(zero_copy_only=False)
    return found


def finite(numbers: F64) -> pa.Array:
    """The numbers, null where they aren't finite."""
    return pa.array(numbers, mask=~np.isfinite(numbers))


def whole(numbers: F64) -> pa.Array:
    """Whole numbers as int64, null beyond it."""
    inside = (numbers >= -_BEYOND) & (numbers < _BEYOND)
    return pa.array(np.where(inside, numbers, 0.0).astype(np.int64), mask=~inside)


def _by_type(
    on_ints: Callable[[I64, I64], tuple[I64, Mask]], on_floats: Callable[[F64, F64], F64]
) -> Callable[[pa.Array, pa.Array], pa.Array]:
    def kernel(left: pa.Array, right: pa.Array) -> pa.Array:
        with np.errstate(all="ignore"):
            if pa.types.is_floating(left.type):
                return finite(on_floats(floats(left), floats(right)))
            numbers, wrong = on_ints(ints(left), ints(right))
            return pa.array(numbers, mask=wrong)

    return kernel


def _add(left: I64, right: I64) -> tuple[I64, Mask]:
    total = left + right
    return total, ((left ^ total) & (right ^ total)) < 0


def _subtract(left: I64, right: I64) -> tuple[I64, Mask]:
    rest = left - right
    return rest, ((left ^ right) & (left ^ rest)) < 0


def _multiply(left: I64, right: I64) -> tuple[I64, Mask]:
    """Dividing the wrapped product gives the factor back exactly where nothing was lost. (-1 times the least int64 is
    the one case in which the division wraps too.)"""
    product = left * right
    divisor = np.where(left == 0, 1, left)
    wrong = (left != 0) & (product // np.where(divisor == -1, 1, divisor) != np.where(divisor == -1, -right, right))
    return product, wrong | ((left == -1) & (right == _INT64_MIN))


def _divide(left: pa.Array, right: pa.Array) -> pa.Array:
    with np.errstate(all="ignore"):
        return finite(floats(left) / floats(right))


def _divided(left: pa.Array, right: pa.Array) -> tuple[I64, I64, Mask]:
    """Dividends, divisors that can be divided by, and where there was none of these."""
    dividends, divisors = ints(left), ints(right)
    wrong = divisors == 0
    return dividends, np.where(wrong, 1, divisors), wrong


def _floor_divide(left: pa.Array, right: pa.Array) -> pa.Array:
    dividends, divisors, wrong = _divided(left, right)
    wrong |= (dividends == _INT64_MIN) & (divisors == -1)
    return pa.array(dividends // np.where(wrong, 1, divisors), mask=wrong)


def _modulo(left: pa.Array, right: pa.Array) -> pa.Array:
    dividends, divisors, wrong = _divided(left, right)
    # By −1 the rest is 0, as by 1; some processors fault where the quotient is beyond int64.
    return pa.array(dividends % np.where(divisors == -1, 1, divisors), mask=wrong)


def _negate(values: pa.Array) -> pa.Array:
    if pa.types.is_floating(values.type):
        return pa.array(-floats(values))
    numbers = ints(values)
    return pa.array(np.negative(numbers), mask=numbers == _INT64_MIN)


def _abs(values: pa.Array) -> pa.Array:
    if pa.types.is_floating(values.type):
        return pa.array(np.abs(floats(values)))
    numbers = ints(values)
    return pa.array(np.abs(numbers), mask=numbers == _INT64_MIN)


KERNELS: Mapping[str, Callable[..., pa.Array]] = {
    "add": _by_type(_add, np.add),
    "subtract": _by_type(_subtract, np.subtract),
    "multiply": _by_type(_multiply, np.multiply),
    "divide": _divide,
    "floor_divide": _floor_divide,
    "modulo": _modulo,
    "negate": _negate,
    "abs": _abs,
    "floor": lambda values: whole(np.floor(floats(values))),
    "ceil": lambda values: whole(np.ceil(floats(values))),
    "round": lambda values: whole(np.rint(floats(values))),
}
