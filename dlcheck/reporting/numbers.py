"""Numbers as people write them."""

from __future__ import annotations

import math

_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def typeset(value: object, digits: int = 3) -> str:
    """`2.22·10⁻¹⁶`, `1,024`, `0.31`, `∞`; text stays what it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    size = abs(value)
    if size and not 1e-3 <= size < 1e6:
        return _scientific(float(value), digits)
    if size == int(size):
        return f"{int(value):,}".replace("-", "−")
    text = f"{value:.{digits}g}"
    plain = f"{float(text):,.0f}" if size >= 1000 else text
    return plain.replace("-", "−")


def _scientific(value: float, digits: int) -> str:
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    power = power_of_ten(int(exponent))
    if mantissa in ("1", "-1"):
        return power if mantissa == "1" else f"−{power}"
    return f"{mantissa.replace('-', '−')}·{power}"


def power_of_ten(exponent: int) -> str:
    return "10" + str(exponent).translate(_RAISED)


def closeness(tightness: float) -> str:
    """Error over bound in four characters: `0`, `<.01`, `.31`, `×1.6`, `×40`, `×10⁶`, `∞`."""
    if tightness == 0:
        return "0"
    if tightness < 0.01:
        return "<.01"
    if tightness < 0.995:
        return f"{tightness:.2f}".lstrip("0")
    if tightness <= 1:
        return "1.0"
    if math.isinf(tightness):
        return "∞"
    if tightness < 10:
        return f"×{max(tightness, 1.1):.1f}"
    if tightness < 9999.5:
        return f"×{tightness:.0f}"
    return f"×{power_of_ten(math.floor(math.log10(tightness)))}"


def duration(seconds: float) -> str:
    """`12 ms`, `3.4 s`, `2 min 05 s`."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"


def clocked(seconds: float) -> str:
    """A measured time in three digits: `287 µs`, `1.42 ms`, `3.4 s`."""
    for unit, factor in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        if 0 < seconds < 999.5 / factor:
            return f"{seconds * factor:.3g} {unit}"
    return duration(seconds)


def counted(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def size_of(count: float) -> str:
    """Bytes in the unit that suits them: 39.3 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
