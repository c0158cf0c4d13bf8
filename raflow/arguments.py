"""What users give to the methods of a stream, checked when it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raflow.errors import InvalidOption


def whole(value: int, what: str) -> int:
    """Return a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{what} is {value!r}; it must be a whole number"
        raise InvalidOption(msg)
    return value


def names_of(method: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return names of columns."""
    for name in names:
        if not isinstance(name, str):
            msg = f"{method}: {name!r} is no name of a column; give texts"
            raise InvalidOption(msg)
    return tuple(names)


def expression(name: str, value: Any) -> pc.Expression:
    """Return what a new column is made of."""
    try:
        return value if isinstance(value, pc.Expression) else pc.scalar(value)
    except pa.ArrowException as error:
        hint = "give an expression, e.g. pc.field('fare') * 2, or a value that Arrow has a type for"
        msg = f"with_columns: {name} cannot be {value!r:.60}; {hint}"
        raise InvalidOption(msg) from error


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return one name or several as several."""
    return (names,) if isinstance(names, str) else tuple(names)


def is_several(by: Any) -> bool:
    """Whether a tuple is several columns rather than one with its order."""
    return isinstance(by, tuple) and not (len(by) == 2 and by[1] in ("ascending", "descending"))
