"""What an Arrow stream will take once it is read, as its own headers say: a few bytes of it can stand for billions."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

_DICTIONARY, _RECORDS = 2, 3
"""Kinds of messages, in their field of that name."""
_KIND, _HEADER = 1, 2
_DATA = 1
"""The field of a dictionary that holds its values as records."""
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = 0, 1, 2, 3
"""Fields of records."""
_OLD_COMPRESSION = b"experimental_compression"
"""How Arrow before 1.0 said that buffers are compressed."""


@dataclass(frozen=True)
class Claim:
    """What the headers of a stream say; Arrow refuses data that differ from it."""

    rows: int
    """Of all batches: columns of nulls, for one, take no bytes."""
    size_bytes: int
    """Of all buffers, not compressed."""
    values: int
    """Of all columns, and of all that is in them: a list of nulls takes no bytes but for its own length."""


def claim_of(stream: bytes) -> Claim:
    """Return what a stream claims to hold, without reading its values.

    Raises:
        pyarrow.ArrowException: It is no Arrow stream, or more than one.
        OSError: Likewise.
        struct.error: Likewise.
    """
    rows = size = values = 0
    for message in _messages(stream):
        metadata = message.metadata.to_pybytes()
        root = _Table(metadata, _number(metadata, "<I", 0))
        kind, header = root.number("<B", _KIND), root.table(_HEADER)
        if kind == _RECORDS and header is not None:
            rows += max(header.number("<q", _LENGTH), 0)
        records = header.table(_DATA) if header is not None and kind == _DICTIONARY else header
        if kind in (_DICTIONARY, _RECORDS) and records is not None:
            size += _size_bytes(message, records, metadata)
            values += sum(max(length, 0) for length, _ in records.pairs(_NODES))
    return Claim(rows, size, values)


def _messages(stream: bytes) -> Iterator[pa.ipc.Message]:
    source = pa.BufferReader(stream)
    reader = pa.ipc.MessageReader.open_stream(source)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            break
        yield message
    if source.tell() < source.size():  # Arrow would leave them unread
        msg = "bytes follow the end of the stream"
        raise pa.ArrowInvalid(msg)


def _size_bytes(message: pa.ipc.Message, records: _Table, metadata: bytes) -> int:
    body = message.body
    if body is None or not body.size:
        return 0
    if not records.has(_COMPRESSION) and _OLD_COMPRESSION not in metadata:
        return sum(max(length, 0) for _, length in records.pairs(_BUFFERS))  # they may overlap
    view, size = memoryview(body), 0
    for offset, length in records.pairs(_BUFFERS):
        unpacked = _number(view, "<q", offset) if length else 0
        size += max(length, 0) if unpacked < 0 else unpacked  # -1: this one is not compressed
    return size


class _Table:
    """A table of a flatbuffer: its fields are found by their numbers."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - _number(data, "<i", at)

    def _field(self, number: int) -> int:
        """Return where a field is; 0 if it is left out."""
        place = 4 + 2 * number
        if place >= _number(self._data, "<H", self._fields):
            return 0
        offset = _number(self._data, "<H", self._fields + place)
        return self._at + offset if offset else 0

    def has(self, number: int) -> bool:
        """Return whether a field is there."""
        return bool(self._field(number))

    def number(self, kind: str, number: int) -> int:
        """Return a number, 0 if it is left out."""
        at = self._field(number)
        return _number(self._data, kind, at) if at else 0

    def table(self, number: int) -> _Table | None:
        """Return a table that a field refers to."""
        at = self._field(number)
        return _Table(self._data, at + _number(self._data, "<I", at)) if at else None

    def pairs(self, number: int) -> Iterator[tuple[int, int]]:
        """Return a vector of pairs of 64-bit numbers."""
        at = self._field(number)
        if not at:
            return
        start = at + _number(self._data, "<I", at)
        for pair in range(_number(self._data, "<I", start)):
            first, second = struct.unpack_from("<qq", self._data, start + 4 + 16 * pair)
            yield first, second


def _number(data: bytes | memoryview, kind: str, at: int) -> int:
    return int(struct.unpack_from(kind, data, at)[0])
