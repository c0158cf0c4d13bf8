"""Groups the rows of a table by keys of any type, with Arrow's kernels.

Theory. Arrow groups by plain types only, and by bits: -0.0 is not 0.0 there, and NaNs with different bits
differ. So each key is brought to a `form` first: equal keys have equal forms of a plain type. Floats have one
zero and one NaN. Nested values are numbered from the inside: a struct is a group by its children, and a
list is the bytes of the numbers of its items. Null is a value of its own everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ask:
    """What is to be known of the rows of each group: the result of an Arrow kernel on a column."""

    values: pa.ChunkedArray
    kernel: str
    options: Any = None


@dataclass(frozen=True)
class Rows:
    """The rows of each group: those of the first group, then those of the second, each in their order."""

    order: Numbers
    """Row numbers."""
    lengths: Numbers
    """Rows per group."""

    @property
    def groups(self) -> Numbers:
        """The group of each row in `order`."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def group(table: pa.Table, keys: Sequence[str], asks: Sequence[Ask]) -> tuple[pa.Table, list[pa.Array]]:
    """Return the keys of each group, and what was asked, a value per group; the groups have no order.

    Without keys all rows are one group; no rows are no group.
    """
    forms = [form(table.column(key)) for key in keys]
    strange = [key for key, one in zip(keys, forms, strict=True) if one.type != table.schema.field(key).type]
    first = [Ask(positions(table.num_rows), "min")] if strange else []
    found = _grouped(forms or [pa.array(np.zeros(table.num_rows, np.int8))], [*asks, *first])
    columns = [
        table.column(key).take(found[-1]) if key in strange else one for key, one in zip(keys, found, strict=False)
    ]
    start = len(forms) or 1
    schema = pa.schema([table.schema.field(key) for key in keys])
    return pa.Table.from_arrays(columns, schema=schema), found[start : start + len(asks)]


def positions(rows: int) -> pa.ChunkedArray:
    """Return the row numbers, as a column to ask something of."""
    return pa.chunked_array([pa.array(np.arange(rows))])


def rows_of(lists: pa.Array) -> Rows:
    """Return the rows of each group, from the answer to `Ask(positions, "list")`."""
    order = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    return Rows(order, pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64))


def firsts(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    """Return the number of the first row of each group of equal rows, in order."""
    found = _grouped([form(one) for one in columns], [Ask(positions(len(columns[0])), "min")])[-1]
    return pa.array(np.sort(found.to_numpy()))  # Arrow's groups come mostly, not always, in order of first sight


def form(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Return a column of a type that Arrow groups by, equal where the given one is and null where it is."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return form(column.cast(kind.storage_type))
    if pa.types.is_dictionary(kind):
        return form(column.cast(kind.value_type))
    if pa.types.is_float16(kind):
        return form(column.cast(pa.float32()))
    if pa.types.is_floating(kind):
        return _one_zero(column)
    if pa.types.is_struct(kind):
        return _numbered_structs(_whole(column))
    if pa.types.is_map(kind):
        item = pa.struct([pa.field("key", kind.key_type, False), pa.field("value", kind.item_type)])
        return form(column.cast(pa.list_(item)))
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return _list_bytes(_whole(column))
    if pa.types.is_union(kind):
        return pa.array([None if value is None else repr(value) for value in column.to_pylist()], pa.string())
    return column


def _one_zero(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    column = pc.add(column, pa.scalar(0.0, column.type))  # -0.0 becomes 0.0
    is_nan = pc.is_nan(column)
    if not pc.any(is_nan).as_py():
        return column
    return pc.if_else(is_nan, pa.scalar(float("nan"), column.type), column)


def _numbered_structs(array: pa.StructArray) -> pa.Array:
    parts = [array.is_valid(), *array.flatten()]
    return pa.array(_numbers(parts), mask=np.asarray(array.is_null()))


def _list_bytes(array: pa.Array) -> pa.Array:
    """Return per list the bytes of the numbers of its items."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    numbers = _numbers([pc.list_flatten(array)])
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]) * numbers.itemsize
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(numbers)]
    found = pa.Array.from_buffers(pa.large_binary(), len(array), buffers)
    return pc.if_else(array.is_null(), pa.scalar(None, found.type), found)


def _numbers(columns: Sequence[pa.Array]) -> Numbers:
    """Return the number of the group of equal rows that each row is in."""
    forms = [form(pa.chunked_array([one])) for one in columns]
    rows = rows_of(_grouped(forms, [Ask(positions(len(columns[0])), "list")])[-1])
    found = np.empty(len(rows.order), np.int64)
    found[rows.order] = rows.groups
    return found


def _grouped(forms: Sequence[pa.ChunkedArray | pa.Array], asks: Sequence[Ask]) -> list[pa.Array]:
    """Return the distinct forms and the answers, a value per group."""
    columns, wanted = list(forms), {}
    for ask in asks:
        columns.append(ask.values)
        wanted[len(columns) - 1] = ask
    names = [str(number) for number in range(len(columns))]
    grouped = pa.table(columns, names=names).group_by(names[: len(forms)], use_threads=False)
    found = grouped.aggregate([(names[at], ask.kernel, ask.options) for at, ask in wanted.items()])
    return [_whole(column) for column in found.columns]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
