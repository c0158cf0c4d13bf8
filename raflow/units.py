"""Numbers and names as people read them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


def count(number: float, *, compact: bool = False) -> str:
    """Return `1,234,567`, or `1.23 M` if compact."""
    if not compact or number < 100_000:
        return f"{number:,.0f}"
    return _scaled(number, ("", " k", " M", " G", " T"))


def rate(per_s: float | None, *, compact: bool = False) -> str:
    """Return a number with three digits that matter, so that it does not flicker; `–` if unknown."""
    if per_s is None:
        return "–"
    digits = 0 if per_s < 1 else max(0, math.floor(math.log10(per_s)) - 2)
    return count(round(per_s, -digits), compact=compact)


def size(byte_count: float) -> str:
    """Return `1.23 MB`."""
    return _scaled(byte_count, (" B", " kB", " MB", " GB", " TB", " PB"))


def duration(seconds: float) -> str:
    """Return `0.42 s`, `12.3 s`, `3 min 05 s` or `2 h 03 min`; whole seconds stay whole."""
    if isinstance(seconds, int) and seconds < 60:
        return f"{seconds} s"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def plural(number: int, noun: str) -> str:
    """Return `1 split`, `2 splits`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shortened(text: str, width: int) -> str:
    """Return text of at most so many characters, with `…` for what is left out in the middle."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'zone'?` with the known name that is most like another one, or nothing if none is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _scaled(number: float, suffixes: tuple[str, ...]) -> str:
    step = 0
    while number >= 999.5 and step < len(suffixes) - 1:
        number, step = number / 1000, step + 1
    digits = 0 if step == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f}{suffixes[step]}"
