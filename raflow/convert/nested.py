"""What is inside of nested types."""

from __future__ import annotations

import pyarrow as pa

_t = pa.types


def children(kind: pa.DataType) -> list[pa.Field]:
    """Return the fields of a struct."""
    return [kind.field(index) for index in range(kind.num_fields)]


def holds_map(kind: pa.DataType) -> bool:
    """Return whether it is a map or has one inside."""
    return bool(_t.is_map(kind)) or any(holds_map(field.type) for field in children(kind))


def is_untyped(kind: pa.DataType) -> bool:
    """Return whether it is null, which stands for any type, or has one inside."""
    return bool(_t.is_null(kind)) or any(is_untyped(field.type) for field in children(kind))


def left_open(kind: pa.DataType) -> pa.DataType:
    """Return a record type's declared type with null for what values decide: zones, and maps to anything."""
    if _t.is_timestamp(kind) or (_t.is_map(kind) and is_untyped(kind.item_type)):
        return pa.null()
    if _t.is_struct(kind):
        return pa.struct([field.with_type(left_open(field.type)) for field in children(kind)])
    if _t.is_list(kind):
        return pa.list_(left_open(kind.value_type))
    return pa.map_(kind.key_type, left_open(kind.item_type)) if _t.is_map(kind) else kind
