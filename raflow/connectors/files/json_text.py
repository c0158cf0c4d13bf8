"""Arrow columns as JSON text, by Arrow's own kernels: no Python value is made for plain columns.

Numbers keep all digits; dates and times are ISO 8601 (with a zone: in UTC), decimals are strings,
binary is base64, durations are seconds; what JSON lacks (NaN, infinity) is null.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import to_json

from raflow.arrow_threads import in_threads
from raflow.batch import slices

_TEXT = pa.large_string()
_FEW = 64
"""Rows for which twenty kernels cost more than values; each lets go of the interpreter's lock, and waits for it."""
_PIECE_ROWS = 20_000
"""Rows that are made text at a time, so that what is made on the way stays in the CPU's cache."""
_NEEDS_ESCAPE = r'["\\\x00-\x1f]'


def json_texts(batch: pa.RecordBatch) -> Iterator[memoryview]:
    """Yield the batch as JSON Lines, piece by piece; see `json_lines`."""
    return in_threads(json_lines, slices(batch, _PIECE_ROWS))


def json_lines(batch: pa.RecordBatch) -> memoryview:
    """Return the batch as JSON Lines, one record each, without a copy of the joined text."""
    if batch.num_rows <= _FEW and all(map(_is_simple, batch.schema.types)):
        return memoryview(b"".join(to_json(row, inf_nan_mode="null") + b"\n" for row in batch.to_pylist()))
    lines = _objects(batch.schema.names, batch.columns, batch.num_rows, end="}\n")
    size = pc.sum(pc.binary_length(lines)).as_py() or 0
    return memoryview(lines.buffers()[2] or b"")[:size]


def _objects(names: Sequence[str], columns: Sequence[pa.Array], rows: int, *, end: str = "}") -> pa.Array:
    pieces: list[pa.Array] = []
    between = "{"
    for name, column in zip(names, columns, strict=True):
        text, quote = _unquoted(column)
        if quote and text.null_count:
            text, quote = _join(quote, text, quote), ""
        pieces += [f"{between}{json.dumps(name, ensure_ascii=False)}:{quote}", text]
        between = quote + ","
    if not pieces:
        return pa.array(["{" + end] * rows, _TEXT)
    return _join(*pieces, between.removesuffix(",") + end, null_handling="replace", null_replacement="null")


def _join(*pieces: pa.Array | str, **options: str) -> pa.Array:
    typed = [pa.scalar(piece, _TEXT) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*typed, pa.scalar("", _TEXT), **options)


def _text(array: pa.Array) -> pa.Array:
    """Return each value as JSON text; null stays null."""
    text, quote = _unquoted(array)
    return _join(quote, text, quote) if quote else text


def _unquoted(array: pa.Array) -> tuple[pa.Array, str]:
    """Return each value as JSON text, and the quote that belongs around it; "" if there is none."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _unquoted(array.storage)
    if pa.types.is_dictionary(kind):
        return _unquoted(array.dictionary_decode())
    for matches, convert, quote in _CONVERSIONS:
        if matches(kind):
            return convert(array), quote
    return _escaped(pa.array([None if value is None else str(value) for value in array.to_pylist()], _TEXT)), '"'


def _plain(array: pa.Array) -> pa.Array:
    return array.cast(_TEXT)


def _floats(array: pa.Array) -> pa.Array:
    wide = array.cast(pa.float32()) if pa.types.is_float16(array.type) else array
    text = pc.if_else(pc.is_finite(wide), wide, pa.scalar(None, wide.type)).cast(_TEXT)
    is_whole = pc.equal(wide, pc.trunc(wide))
    if not pc.any(is_whole).as_py():
        return text
    # Without a point a reader would take a column of whole floats for integers.
    is_bare = pc.and_(is_whole, pc.invert(pc.match_substring(text, "e")))
    return pc.if_else(is_bare, _join(text, ".0"), text)


def _escaped(array: pa.Array) -> pa.Array:
    text = array.cast(_TEXT)
    if _may_need_escape(text):
        mask = pc.fill_null(pc.match_substring_regex(text, _NEEDS_ESCAPE), False)
        hard = text.filter(mask)
        easy = [json.dumps(value, ensure_ascii=False)[1:-1] for value in hard.to_pylist()]
        text = pc.replace_with_mask(text, mask, pa.array(easy, _TEXT))
    return text


def _may_need_escape(text: pa.Array) -> bool:
    """Return whether a character among those of all values needs it: they are looked at in one go."""
    ends, characters = text.buffers()[1:]
    if characters is None or not len(text):
        return False
    offsets = np.frombuffer(ends, np.int64)[text.offset : text.offset + len(text) + 1]
    found = np.frombuffer(characters, np.uint8)[offsets[0] : offsets[-1]]
    return bool(((found < 0x20) | (found == ord('"')) | (found == ord("\\"))).any())


def _base64(array: pa.Array) -> pa.Array:
    texts = [None if value is None else b64encode(value).decode() for value in array.to_pylist()]
    return pa.array(texts, _TEXT)


def _timestamps(array: pa.Array) -> pa.Array:
    if array.type.tz:
        array = array.cast(pa.timestamp(array.type.unit, "UTC"))
    return pc.replace_substring(array.cast(_TEXT), " ", "T")


def _seconds(array: pa.Array) -> pa.Array:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[array.type.unit]
    return _floats(pc.divide(array.cast(pa.int64()).cast(pa.float64(), safe=False), float(per_second)))


def _structs(array: pa.Array) -> pa.Array:
    text = _objects([field.name for field in array.type], array.flatten(), len(array))
    return _only_valid(array, text)


def _lists(array: pa.Array) -> pa.Array:
    return _bracketed(array, pc.fill_null(_text(array.flatten()), "null"), "[", "]")


def _maps(array: pa.Array) -> pa.Array:
    entries = array.cast(pa.large_list(pa.struct([array.type.key_field, array.type.item_field])))
    keys, items = entries.flatten().flatten()
    pairs = _join('"', _escaped(keys), '":', pc.fill_null(_text(items), "null"))
    return _bracketed(entries, pairs, "{", "}")


def _bracketed(array: pa.Array, texts: pa.Array, opening: str, closing: str) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
    joined = pc.binary_join(pa.LargeListArray.from_arrays(offsets, texts), pa.scalar(",", _TEXT))
    return _only_valid(array, _join(opening, joined, closing))


def _only_valid(array: pa.Array, text: pa.Array) -> pa.Array:
    return pc.if_else(array.is_valid(), text, pa.scalar(None, _TEXT))


def _any_of(*checks: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: any(check(kind) for check in checks)


_t = pa.types
_is_simple = _any_of(
    _t.is_null, _t.is_boolean, _t.is_integer, _t.is_float64, _t.is_string, _t.is_large_string, _t.is_string_view
)
"""Kinds whose values are JSON's own."""
_CONVERSIONS = [
    (_any_of(_t.is_null, _t.is_boolean, _t.is_integer), _plain, ""),
    (_t.is_floating, _floats, ""),
    (_any_of(_t.is_string, _t.is_large_string, _t.is_string_view), _escaped, '"'),
    (_t.is_timestamp, _timestamps, '"'),
    (_any_of(_t.is_date, _t.is_time, _t.is_decimal), _plain, '"'),
    (_any_of(_t.is_binary, _t.is_large_binary, _t.is_fixed_size_binary), _base64, '"'),
    (_t.is_duration, _seconds, ""),
    (_t.is_struct, _structs, ""),
    (_t.is_map, _maps, ""),
    (_any_of(_t.is_list, _t.is_large_list, _t.is_fixed_size_list), _lists, ""),
]
