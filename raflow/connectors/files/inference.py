"""Column types of text: declared by the user, or agreed upon from samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import pyarrow as pa

from raflow.convert.json_values import readable
from raflow.errors import InvalidOption, SchemaError
from raflow.schema import fix, merge

Declared: TypeAlias = "Mapping[str, str | pa.DataType] | pa.Schema"
"""Types by column, as Arrow writes them (`int64`, `string`, `timestamp[us]`) or as Arrow types."""


def declared(types: Declared | None) -> pa.Schema:
    """Return the types that the user has decided; they never widen.

    Raises:
        InvalidOption: A name is no Arrow type.
    """
    if isinstance(types, pa.Schema):
        return pa.schema([fix(field) for field in types])
    return pa.schema([fix(pa.field(name, _type(name, given))) for name, given in (types or {}).items()])


def _type(name: str, given: str | pa.DataType) -> pa.DataType:
    if isinstance(given, pa.DataType):
        return given
    try:
        return pa.type_for_alias(given)
    except ValueError as exc:
        msg = f"schema: column {name!r} is {given!r}, no Arrow type; write e.g. 'int64' or pass a pyarrow type"
        raise InvalidOption(msg) from exc


def with_declared(found: pa.Schema, decided: pa.Schema) -> pa.Schema:
    """Return the schema in which the user's types replace what was found."""
    fields = {field.name: field for field in found} | {field.name: field for field in decided}
    return pa.schema(list(fields.values()))


def agree(samples: Iterable[tuple[str, pa.Schema]], *, all_is_text: bool) -> pa.Schema:
    """Return the one schema of all samples.

    Args:
        samples: Where each was seen, and what was seen there.
        all_is_text: Whether a column of mixed types can be read as strings; else only timestamps can.

    Raises:
        SchemaError: Types do not fit; names the field and where it was seen.
    """
    agreed: dict[str, pa.Field] = {}
    for where, schema in samples:
        for field in schema:
            known = agreed.get(field.name, field)
            agreed[field.name] = _agree_field(known, field, where, all_is_text)
    return pa.schema(list(agreed.values()))


def _agree_field(known: pa.Field, found: pa.Field, where: str, all_is_text: bool) -> pa.Field:
    try:
        return _merged(known, found, where)
    except SchemaError:
        if all_is_text:
            return known.with_type(pa.string())
        return _merged(_as_text(known), _as_text(found), where)


def _as_text(field: pa.Field) -> pa.Field:
    return field.with_type(readable(field.type))


def _merged(known: pa.Field, found: pa.Field, where: str) -> pa.Field:
    return merge([pa.schema([found]), pa.schema([known])], what=where).field(0)
