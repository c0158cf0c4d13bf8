"""JSON Lines as Arrow tables, by Arrow's own parser, kept from what it is not made for.

The parser sees values, not lines: it takes `null` for a record, several values in a line and one over
several lines. It ends the process where the first value is null (apache/arrow#47409) or where it infers
the types of values that are nested very deep, and where it infers the type of a list, or a list has
nothing but nulls, it forgets nulls (apache/arrow#51305). What it infers to be a timestamp may have a zone, or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.json

from raflow.arrow_threads import in_threads
from raflow.convert.json_values import converted, readable, seen

_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_BETWEEN = re.compile(rb"}[ \t\r]*\n[ \t\r\n]*{")
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?')
_BRACKET = re.compile(rb"[\[\]{}]")
_PIECE_BYTES = 1 << 20
"""What a thread reads at a time: its memory is then soon used again, not asked for anew."""
_DEPTH = 64
"""Arrow's IPC takes no types that are nested deeper."""


def read_lines(text: bytes, types: pa.Schema | None = None) -> pa.Table:
    """Return the records of some lines, each of which is one JSON object; blank lines are none.

    Args:
        text: Whole lines, in UTF-8.
        types: Of the wanted fields, as Arrow's parser can read them. None: all are inferred, and lines that hold
            lists are parsed twice.

    Raises:
        pyarrow.ArrowInvalid: A line is no JSON object, or its values do not fit.
        UnicodeDecodeError: The text is no UTF-8.
    """
    records = text.strip(_BLANK).removeprefix(_BOM)
    if records and not records.startswith(b"{"):
        raise _no_object()
    count = _count(records)
    if types is None:
        if count is None:
            raise _no_object()
        _check_depth(records, count)
    table = _parsed(text, types)
    if table.num_rows != count:
        raise _no_object()
    return _read_again(text, table) if types is None else _mended(table)


def read_many_lines(text: bytes) -> pa.Table:
    """Return the records of lines as `read_lines` without types does, in several threads."""
    try:
        tables = list(in_threads(read_lines, _pieces(text))) or [read_lines(text)]
    except pa.ArrowInvalid:  # as a whole: what is wrong with a piece need not be wrong with all
        return read_lines(text)
    first = tables[0].schema
    if not first.names or any(not table.schema.equals(first) for table in tables):
        return read_lines(text)  # by Arrow's rules for several types; what has no column loses its rows below
    return pa.concat_tables(tables)


def _pieces(text: bytes) -> Iterator[bytes]:
    """Yield whole lines in pieces of like size, each without its last newline: stripping it would copy the piece."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + _PIECE_BYTES - 1)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


def _no_object() -> pa.ArrowInvalid:
    return pa.ArrowInvalid("a line has to be one JSON object")


def _count(records: bytes) -> int | None:
    """Return the number of lines; None if one does not begin and end as an object does.

    Within an object no line ends in `}` before one that begins with `{`, as a comma would be missing: if
    all do, no object has several lines, and Arrow finds more values than lines if a line has several.
    """
    if not records:
        return 0
    if not records.endswith(b"}"):
        return None
    marks = np.frombuffer(records, np.uint8)
    ends = np.flatnonzero(marks == ord("\n"))
    if (marks[ends - 1] == ord("}")).all() and (marks[ends + 1] == ord("{")).all():
        return len(ends) + 1  # what nearly all have, and is counted in a fraction of the time
    between = _BETWEEN.findall(records)
    return len(between) + 1 if b"".join(between).count(b"\n") == len(ends) else None


def _check_depth(records: bytes, count: int) -> None:
    marks = np.frombuffer(records, np.uint8)
    if np.count_nonzero(marks == ord("{")) + np.count_nonzero(marks == ord("[")) <= count + _DEPTH - 1:
        return  # each line has one
    for line in records.split(b"\n"):
        if line.count(b"{") + line.count(b"[") > _DEPTH and _depth(line) > _DEPTH:
            msg = f"values are nested more than {_DEPTH} deep"
            raise pa.ArrowInvalid(msg)


def _depth(line: bytes) -> int:
    brackets = _BRACKET.findall(_TEXT.sub(b"", line))
    return max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets))


def _parsed(text: bytes, types: pa.Schema | None) -> pa.Table:
    if not text.isascii():
        text.decode()  # Arrow does not check that strings are UTF-8.
    parsing = pyarrow.json.ParseOptions(
        explicit_schema=types, unexpected_field_behavior="infer" if types is None else "ignore"
    )
    reading = pyarrow.json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    return pyarrow.json.read_json(pa.BufferReader(text), read_options=reading, parse_options=parsing)


def _read_again(text: bytes, table: pa.Table) -> pa.Table:
    """Return the table with valid lists, and with timestamps that have the zones of their texts."""
    if not (table.num_rows and table.num_columns):
        return table
    has_lists = b"[" in text
    texts = [field.with_type(readable(field.type)) for field in table.schema]
    again = [field for field in texts if has_lists or field.type != table.schema.field(field.name).type]
    found = _mended(_parsed(text, pa.schema(again))) if again else table
    columns = [(found if field in again else table).column(field.name).combine_chunks() for field in texts]
    return pa.Table.from_arrays([_with_moments(column) for column in columns], names=table.schema.names)


def _with_moments(column: pa.Array) -> pa.Array:
    return converted(column, seen(column))


def _mended(table: pa.Table) -> pa.Table:
    """Return the table with the nulls that lists of nothing but nulls lack."""
    try:
        table.validate()
    except pa.ArrowInvalid:
        batch = table.combine_chunks().to_batches()[0]
        arrays = [_with_nulls(column, len(column)) for column in batch.columns]
        return pa.Table.from_arrays(arrays, schema=table.schema)
    return table


def _with_nulls(array: pa.Array, length: int) -> pa.Array:
    kind = array.type
    if pa.types.is_null(kind):
        return pa.nulls(length)
    if pa.types.is_struct(kind):
        own, children = 1, [_with_nulls(array.field(index), length) for index in range(kind.num_fields)]
    elif pa.types.is_list(kind):
        own, children = 2, [_with_nulls(array.values, array.offsets[-1].as_py())]
    else:
        return array
    return pa.Array.from_buffers(kind, length, array.buffers()[:own], children=children)
