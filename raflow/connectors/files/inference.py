"""Column types of text: declared by the user, or agreed upon from samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import pyarrow as pa

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
        all_is_text: Whether a column of mixed types can be read as strings; else only dates can.

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
        return merge([pa.schema([found]), pa.schema([known])], what=where).field(0)
    except SchemaError:
        if not (all_is_text or (_is_text(known.type) and _is_text(found.type))):
            raise
        return known.with_type(pa.string())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_timestamp(kind))


def is_untyped(kind: pa.DataType) -> bool:
    """Return whether the type, or one inside of it, has not been seen yet."""
    if pa.types.is_struct(kind):
        return any(is_untyped(field.type) for field in kind)
    if pa.types.is_list(kind):
        return is_untyped(kind.value_type)
    return bool(pa.types.is_null(kind))
