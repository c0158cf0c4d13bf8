"""What the names of folders such as `day=3` say of the files in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from raflow.errors import SourceError

_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def partition_values(path: str) -> dict[str, str | None]:
    """Return what the `key=value` folders right above a file say."""
    values: dict[str, str | None] = {}
    for folder in reversed(path.split(os.sep if os.sep in path else "/")[:-1]):
        key, sign, value = folder.partition("=")
        if not (key and sign):
            break
        values[unquote(key)] = None if value == _NULL_PARTITION else unquote(value)
    return dict(reversed(values.items()))


def partition_scalars(path: str, shown: str, columns: pa.Schema) -> dict[str, pa.Scalar]:
    """Return what the folders right above a file say of the wanted columns, in their types.

    Args:
        path: Of the file.
        shown: The file for messages.
        columns: What is wanted.

    Raises:
        SourceError: A value is none of its column's type; names file and folder.
    """
    said = partition_values(path)
    return {name: _scalar(shown, name, said[name], columns.field(name).type) for name in said if name in columns.names}


def _scalar(shown: str, name: str, value: str | None, kind: pa.DataType) -> pa.Scalar:
    try:
        return pa.scalar(value, pa.string()).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        msg = f"{shown}: {value!r} of its folder {name}={value} is not {kind}; rename it or take {name!r} as string"
        raise SourceError(msg) from exc


def partition_schema(paths: Iterable[str]) -> pa.Schema:
    """Return the columns that folders' names add: int64 where all values are integers, else string."""
    seen: dict[str, set[str | None]] = {}
    for path in paths:
        for key, value in partition_values(path).items():
            seen.setdefault(key, set()).add(value)
    return pa.schema([(key, _partition_type(values - {None})) for key, values in seen.items()])


def _partition_type(values: Iterable[Any]) -> pa.DataType:
    values = list(values)
    if not values:
        return pa.null()
    # The zeros of the zip code 00501 belong to it; those of the month 01 and the hour 00 do not.
    return pa.int64() if all(re.fullmatch(r"0[0-9]?|-?[1-9][0-9]{0,17}", value) for value in values) else pa.string()
