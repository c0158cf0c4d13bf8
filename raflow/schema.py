"""The one schema of a run: how types widen, and how batches are brought to it.

Nulls widen to any type and integers to floats (and types to their larger kin); anything else that does
not fit is an error. The driver agrees on the schema; replicas tell it what they met by `SchemaWidened`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from raflow.errors import SchemaError

_FIXED = {b"raflow": b"fixed"}
_NO_VALUES = (pa.lib.Type_INTERVAL_MONTHS, pa.lib.Type_INTERVAL_DAY_TIME)


class SchemaWidened(Exception):
    """A value needs a wider type than the run's schema has so far.

    Attributes:
        schema: The wider schema; the driver merges it into the run's and has the unit done again.
    """

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        self.schema = schema


def fix(field: pa.Field) -> pa.Field:
    """Return the field marked as decided by a record type: it never widens, but for the digits of decimals."""
    return field.with_metadata(_FIXED)


def is_fixed(field: pa.Field) -> bool:
    """Return whether a record type has decided the field's type."""
    return bool(field.metadata and field.metadata.get(b"raflow") == b"fixed")


def without_values(schema: pa.Schema) -> str:
    """Return the columns of which pyarrow can show types but no values, e.g. "'age' (month_interval)"; "" if none."""
    return ", ".join(f"{field.name!r} ({field.type})" for field in schema if _holds(field.type, _has_no_values))


def without_records(schema: pa.Schema) -> str:
    """Return the same, and those of which no records can be made: of unions, and runs that `expanded` leaves."""
    found = [field for field in schema if _holds(expanded_type(field.type), _has_no_records)]
    return ", ".join(f"{field.name!r} ({field.type})" for field in found)


def _holds(kind: pa.DataType, is_such: Callable[[pa.DataType], bool]) -> bool:
    """Return whether a type is such a one, or has one in it."""
    if isinstance(kind, pa.BaseExtensionType):
        return _holds(kind.storage_type, is_such)
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    inner += [kind.value_type] if pa.types.is_dictionary(kind) else []
    return is_such(kind) or any(_holds(one, is_such) for one in inner)


def _has_no_values(kind: pa.DataType) -> bool:
    return kind.id in _NO_VALUES


def _has_no_records(kind: pa.DataType) -> bool:
    return _has_no_values(kind) or bool(pa.types.is_union(kind) or pa.types.is_run_end_encoded(kind))


def expanded_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column has once it is `expanded`."""
    if not pa.types.is_run_end_encoded(kind):
        return kind
    value = kind.value_type
    # pyarrow decodes no others.
    is_kept = pa.types.is_dictionary(value) or isinstance(value, pa.BaseExtensionType) or str(value).endswith("_view")
    return kind if is_kept else value


def expanded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with values in place of runs, in columns that are run-end-encoded."""
    for index, field in enumerate(batch.schema):
        if expanded_type(field.type) != field.type:
            batch = batch.set_column(index, field.name, pc.run_end_decode(batch.column(index)))
    return batch


def decoded(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values: that of its categories if it has some."""
    return decoded(kind.value_type) if pa.types.is_dictionary(kind) else kind


def is_number(kind: pa.DataType) -> bool:
    """Return whether values are integers, floats or decimals."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def same_but_digits(one: pa.DataType, other: pa.DataType) -> bool:
    """Return whether two types are the same but for the digits of decimals, which no annotation can say."""
    kinds = [re.sub(r"decimal\d+\(\d+, -?\d+\)", "decimal", str(kind)) for kind in (one, other)]
    return kinds[0] == kinds[1]


def merge(schemas: Iterable[pa.Schema], *, what: str = "the run's schema") -> pa.Schema:
    """Return the narrowest schema that holds all of them; columns keep the order of first sight.

    Raises:
        SchemaError: A field has types that do not widen to each other; names it and both types.
    """
    merged: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in schema:
            known = merged.get(field.name)
            merged[field.name] = field if known is None else _merge_field(known, field, what)
    return pa.schema(list(merged.values()))


def _merge_field(known: pa.Field, found: pa.Field, what: str) -> pa.Field:
    if known.type == found.type:
        return known
    try:
        left, right = (pa.schema([pa.field(known.name, field.type)]) for field in (known, found))
        wide = pa.unify_schemas([left, right], promote_options="permissive").field(0)
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        msg = f"field {known.name!r} is {found.type} here but {known.type} in {what}"
        raise SchemaError(msg) from None
    return known.with_type(wide.type).with_nullable(True)


def holds(wide: pa.Schema, narrow: pa.Schema) -> bool:
    """Return whether every batch of the narrow schema fits the wide one as it is or by widening."""
    return bool(merge([wide, narrow]).equals(wide))


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch in the given schema: columns in its order, absent ones null, types widened."""
    if batch.schema.equals(schema):
        return batch
    columns = [_column(batch, field) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def completed(batch: pa.RecordBatch, declared: pa.Schema) -> pa.RecordBatch:
    """Return a batch of records with all declared columns, in their order: absent ones null, its own as they are."""
    fields = {field.name: field.remove_metadata() for field in declared} | {field.name: field for field in batch.schema}
    return conform(batch, pa.schema(list(fields.values())))


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    index = batch.schema.get_field_index(field.name)
    if index < 0:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(index)
    if column.type == field.type:
        return column
    # Integers widen to floats by decision, also beyond 2**53 where Arrow's safe cast refuses.
    safe = not (pa.types.is_integer(column.type) and pa.types.is_floating(field.type))
    return column.cast(field.type, safe=safe)


def together(tables: Sequence[pa.RecordBatch | pa.Table], schema: pa.Schema | None = None) -> pa.Table:
    """Return the records of all, one after the other, in the narrowest schema that holds them all.

    Args:
        tables: Batches or tables.
        schema: Known to be in it, also where there are no records.

    Raises:
        SchemaError: A field has types that do not widen to each other.
    """
    wide = merge([*([] if schema is None else [schema]), *dict.fromkeys(table.schema for table in tables)])
    batches: list[pa.RecordBatch] = []
    for table in tables:
        batches += table.to_batches() if isinstance(table, pa.Table) else [table]
    return pa.Table.from_batches([conform(batch, wide) for batch in batches], schema=wide)
