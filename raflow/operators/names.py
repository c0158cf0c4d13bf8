"""Whether the columns that an operator names are there."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from raflow.errors import SchemaError
from raflow.units import did_you_mean


class UnknownColumn(SchemaError):
    """An operator names a column that is not there."""


def check_columns(names: Iterable[str], schema: pa.Schema, what: str) -> None:
    """Check that a schema has these columns, each once.

    Args:
        names: The columns that are asked for.
        schema: Where they should be.
        what: Who asks, for the message: `group by zone`.

    Raises:
        UnknownColumn: A column is not there; names it and the columns there are.
        SchemaError: A column is there twice.
    """
    for name in names:
        found = schema.names.count(name)
        if found == 1:
            continue
        if found:
            msg = f"there are {found} columns {name!r} in the input of {what}; rename all but one"
            raise SchemaError(msg)
        there = f"there are: {', '.join(schema.names)}" if schema.names else "the input has no columns"
        msg = f"there is no column {name!r} for {what}; {there}{did_you_mean(name, schema.names)}"
        raise UnknownColumn(msg)
