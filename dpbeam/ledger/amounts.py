"""Exact amounts of a loss and δ: whole numbers of small units, from what people write, rounded against the spender."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction

from dpbeam.errors import UsageError
from dpbeam.ledger.meters import BASIC, METERS, Meter

EPSILON_DIGITS = 12
DELTA_DIGITS = 18
MAX_UNITS = 2**63 - 1
_FORMAT = Context(prec=40)

Number = float | int | str | Decimal


@dataclass(frozen=True, kw_only=True, order=False, repr=False)
class Amount:
    """An amount of a meter: `epsilon` in units of 1e-12, `delta` in units of 1e-18, each an int64 ≥ 0.

    `epsilon` is what the meter adds up beside δ: ε of `basic`, ρ of `zcdp`, μ² of `gdp`. To add, subtract or compare
    amounts of two meters is a ValueError.

    Guarantee: adding and subtracting are exact, so ten charges of 0.1 fill a cap of 1 and an eleventh doesn't fit.
    """

    epsilon: int
    delta: int
    meter: Meter = BASIC

    def __post_init__(self) -> None:
        for name, units in (("epsilon", self.epsilon), ("delta", self.delta)):
            if type(units) is not int or not 0 <= units <= MAX_UNITS:
                raise ValueError(f"{name} must be a whole number of units from 0 to {MAX_UNITS}, got {units!r}")
        if self.meter not in METERS.values():
            raise ValueError(f"meter must be one of {', '.join(METERS)}, got {self.meter!r}")

    @classmethod
    def charge(cls, epsilon: Number, delta: Number, meter: Meter = BASIC) -> Amount:
        """What a run spends, rounded up to whole units: ε, ρ or μ², as the meter has it, and δ, which may be 0 but in
        `basic`.

        Raises:
            UsageError: a value that is no number, not finite, not above 0, or too large; a delta not below 1.
        """
        return cls._of(epsilon, delta, meter, up=True)

    @classmethod
    def cap(cls, epsilon: Number, delta: Number, meter: Meter = BASIC) -> Amount:
        """What a dataset may spend, rounded down to whole units. Raises as `charge` does."""
        return cls._of(epsilon, delta, meter, up=False)

    @classmethod
    def zero(cls, meter: Meter) -> Amount:
        """Nothing, of this meter."""
        return cls(epsilon=0, delta=0, meter=meter)

    @classmethod
    def _of(cls, epsilon: Number, delta: Number, meter: Meter, *, up: bool) -> Amount:
        free = up and meter != BASIC and not isinstance(delta, str | bool) and delta == 0
        amount = cls(
            epsilon=_units(meter.field, epsilon, EPSILON_DIGITS, up=up),
            delta=0 if free else _units("delta", delta, DELTA_DIGITS, up=up),
            meter=meter,
        )
        if not amount.delta < 10**DELTA_DIGITS:
            raise UsageError(f"delta must be below 1, got {delta!r}; state a small probability such as 1e-8")
        return amount

    def __add__(self, other: Amount) -> Amount:
        self._same_meter(other)
        return Amount(epsilon=self.epsilon + other.epsilon, delta=self.delta + other.delta, meter=self.meter)

    def __sub__(self, other: Amount) -> Amount:
        """The difference; raises ValueError where it would be negative in either part."""
        self._same_meter(other)
        return Amount(epsilon=self.epsilon - other.epsilon, delta=self.delta - other.delta, meter=self.meter)

    def fits(self, room: Amount) -> bool:
        """Whether both parts are at most those of `room`."""
        self._same_meter(room)
        return self.epsilon <= room.epsilon and self.delta <= room.delta

    def of(self, meter: Meter) -> Amount:
        """So many units of another meter: for what keeps units and meter in two places."""
        return replace(self, meter=meter)

    def _same_meter(self, other: Amount) -> None:
        if self.meter != other.meter:
            raise ValueError(f"amounts must be of one meter, got {self.meter} and {other.meter}")

    def __repr__(self) -> str:
        return f"<dpbeam.Amount {self}>"

    def __str__(self) -> str:
        delta = Decimal(self.delta).scaleb(-DELTA_DIGITS, _FORMAT).normalize(_FORMAT)
        epsilon = Decimal(self.epsilon).scaleb(-EPSILON_DIGITS, _FORMAT).normalize(_FORMAT)
        return f"{self.meter.symbol} {epsilon:f}, δ {str(delta).lower()}"

    def to_json(self) -> dict[str, float | int]:
        """The nearest floats, for reading, and the exact integer units, for reckoning."""
        return {
            self.meter.field: self.epsilon / 10**EPSILON_DIGITS,
            "delta": self.delta / 10**DELTA_DIGITS,
            f"{self.meter.field}_units": self.epsilon,
            "delta_units": self.delta,
        }


ZERO = Amount(epsilon=0, delta=0)


def _units(name: str, value: Number, digits: int, *, up: bool) -> int:
    """`value` × 10^digits as a whole number, rounded up or down, without passing through binary arithmetic."""
    exact = _decimal(name, value)
    if not exact.is_finite():
        raise UsageError(f"{name} must be a finite number, got {value!r}; state the number you mean")
    if not exact > 0:
        raise UsageError(f"{name} must be above 0, got {value!r}; state a small positive number instead")
    # The exponent decides first: 10**(10**9) must never be computed.
    if exact.adjusted() + digits > 19:
        units = MAX_UNITS + 1
    elif exact.adjusted() + digits < -1:
        units = 1 if up else 0
    else:
        scaled = Fraction(exact) * 10**digits
        units = -(-scaled.numerator // scaled.denominator) if up else scaled.numerator // scaled.denominator
    if units > MAX_UNITS:
        raise UsageError(
            f"{name} must be at most {MAX_UNITS // 10**digits}, got {value!r}; a loss so large protects nobody"
        )
    if units == 0:
        raise UsageError(f"{name} must be at least 1e-{digits}, got {value!r}; state a larger number")
    return units


def _decimal(name: str, value: Number) -> Decimal:
    """The number as it is written: a float counts as its shortest decimal form, so that 0.1 is one tenth."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, float | int) and not isinstance(value, bool):
        return Decimal(repr(float(value)) if isinstance(value, float) else int(value))
    if isinstance(value, str) and value.isascii() and "_" not in value and value == value.strip():
        try:
            return Decimal(value)
        except InvalidOperation:
            pass
    raise UsageError(f"{name} must be a number, got {value!r}; write it as in 0.5 or 1e-8")
