"""Numbers as text for people, with no more digits than the noise lets stand."""

from __future__ import annotations

import math

_PLAIN = 1e12  # from here on numbers are shown with an exponent


def humane(value: float, std: float) -> str:
    """`value` rounded to the second digit of its noise's standard deviation: 1234.5678 at std 13.7 is "1,235".

    Without a usable `std` (0, NaN, infinite, beyond reason) four significant digits are shown, and "–" for what is
    no finite number.
    """
    if not math.isfinite(value):
        return "–"
    if not (0 < std < math.inf and abs(value) < _PLAIN and 1 / _PLAIN < std < _PLAIN):
        return significant(value, 4)
    places = 1 - math.floor(math.log10(std))
    return _fixed(round(value, places), max(0, places))


def significant(value: float | None, digits: int = 3) -> str:
    """`value` to so many significant digits: 0.0123, 1,230, 1.23e-8; "–" for None or what is not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude < 12:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return _minus(f"{_trim(mantissa)}e{int(exponent)}")
    places = digits - 1 - magnitude
    text = _fixed(round(value, places), max(0, places))
    return _trim(text)


def exact(value: float) -> str:
    """`value` with all digits that a policy would state: 1, 0.25, 1e-8."""
    mantissa, _, exponent = f"{value:.12g}".partition("e")
    return _minus(f"{mantissa}e{int(exponent)}" if exponent else mantissa)


def about(value: float) -> str:
    """`value` to two significant digits, for a sentence; 3 from 100 on."""
    return significant(value, 2 if abs(value) < 100 else 3)


def one_in(probability: float) -> str:
    """A small probability in words: 1e-6 is "one in 1 million"."""
    count = float(f"{1 / probability:.3g}")
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"one in {count / size:,.12g} {word}"
    return f"one in {count:,.12g}"


def _fixed(value: float, places: int) -> str:
    text = f"{value:,.{places}f}"
    return _minus("0" + text[2:] if text.strip("-0.,") == "" and text.startswith("-") else text)


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _minus(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text
