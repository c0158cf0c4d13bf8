"""Which row groups of a Parquet file may hold records for which a condition is true, by its statistics.

Arrow decides, but its statistics say nothing of NaN: it would leave out a group of `~(fare <= 2)` whose
numbers are all small, although NaN is not small. So it is asked again for each way in which the float columns
could be NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import chain, combinations
from operator import and_

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_MOST_FLOATS = 3
_NAN = float("nan")


def matching(
    footer: pq.FileMetaData, condition: pc.Expression, columns: pa.Schema, said: Mapping[str, str | None]
) -> set[int]:
    """Return the numbers of the row groups to read; more than are needed, never less.

    Args:
        footer: Of the file.
        condition: On the columns as they are delivered.
        columns: Those that the condition needs, in the types in which they are delivered.
        said: What the file's folders say of columns, as text.
    """
    every = set(range(footer.num_row_groups))
    stored = footer.schema.to_arrow_schema()
    if not all(field.name in said or _is_stored(field, stored) for field in columns):
        return every
    floats = [field.name for field in columns if pa.types.is_floating(field.type)]
    # Arrow takes -0.0 and 0.0 for different values of a set, though statistics do not tell them apart; and it draws
    # wrong conclusions from what is compared with NaN.
    said_of_it = str(condition)
    if len(floats) > _MOST_FLOATS or (floats and "is_in(" in said_of_it) or "nan" in said_of_it:
        return every
    ways = chain.from_iterable(combinations(floats, number) for number in range(len(floats) + 1))
    found: set[int] = set()
    try:
        known = [_is(field, said[field.name]) for field in columns if field.name in said]
        for nans in ways:
            found |= _asked(footer, condition, columns, [*known, *(pc.field(name) == _NAN for name in nans)])
    except pa.ArrowException:  # what is wrong with the condition or a folder's name shows when it is read
        return every
    return found


def _is_stored(field: pa.Field, stored: pa.Schema) -> bool:
    """Return whether a column is in the file once, as it is delivered: only then its statistics are of use."""
    if stored.names.count(field.name) != 1 or pa.types.is_nested(field.type):
        return False
    return bool(stored.field(field.name).type == field.type)


def _is(field: pa.Field, value: str | None) -> pc.Expression:
    if value is None:
        return pc.field(field.name).is_null()
    return pc.field(field.name) == pa.scalar(value, pa.string()).cast(field.type)


def _asked(
    footer: pq.FileMetaData, condition: pc.Expression, columns: pa.Schema, known: Sequence[pc.Expression]
) -> set[int]:
    """Ask Arrow, with a file that has a footer only: the real one need not be opened again."""
    import pyarrow.dataset as ds  # it imports pandas

    file = pa.BufferOutputStream()
    footer.write_metadata_file(file)
    given = reduce(and_, known) if known else None
    fragment = ds.ParquetFileFormat().make_fragment(pa.BufferReader(file.getvalue()), partition_expression=given)
    return {group.id for group in fragment.subset(filter=condition, schema=columns).row_groups}
