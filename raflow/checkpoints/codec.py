"""Values as bytes and back: equal, and of the same type.

Theory. `forms.py` takes a value apart into simpler parts, down to what JSON knows and to raw bytes.
An encoded value is a header (magic, version, lengths, SHA-256 of all the rest), the JSON document,
then the raw buffers of arrays, tables and bytes, which are never converted to text. In the document a
scalar stands for itself, an object is a dictionary with text keys, and a list is `[tag, *parts]`.
Whatever appears twice in a value is stored once: `["ref", n]` is the n-th value that was completed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from raflow.checkpoints.form import Raw, TornDown
from raflow.checkpoints.forms import MAKE, form_of, is_plain, text_key
from raflow.errors import CorruptCheckpoint, NotSerializable, ResumeError

_MAGIC = b"\x93raflow\n"
_VERSION = 1
_HEADER = struct.Struct("<8sHQI")
"""Magic, version, length of the body, length of its JSON document; then comes the checksum."""
_START = _HEADER.size + 32

_OPEN = -1


def encode(value: Any, name: str = "value") -> bytes:
    """Return a value as bytes, for `decode`.

    Args:
        value: Anything that has a typed form or can be pickled; no part may contain itself.
        name: What errors call the value, such as `result`.

    Raises:
        NotSerializable: Some part cannot be stored; the message names its place and its type.
    """
    encoder = Encoder()
    document = json.dumps([encoder.root(value, name), [len(one) for one in encoder.buffers]], separators=(",", ":"))
    text = document.encode()
    header = _HEADER.pack(_MAGIC, _VERSION, len(text) + sum(map(len, encoder.buffers)), len(text))
    return b"".join([header, _checksum(header, text, *encoder.buffers), text, *encoder.buffers])


def decode(data: bytes) -> Any:
    """Return the value that `encode` was given; arrays and tables of Arrow keep using `data`.

    Raises:
        CorruptCheckpoint: The bytes are cut short, changed, or were not written by `encode`.
        ResumeError: A class of the value is gone or has other fields now.
    """
    text, rest = _checked(memoryview(data))
    try:
        node, lengths = json.loads(str(text, "utf-8"))
        ends = list(accumulate(lengths, initial=0))
        return _Decoder([rest[start : start + n] for start, n in zip(ends, lengths, strict=False)]).value(node)
    except RecursionError as error:
        msg = "the value is nested too deeply to be read here; raise sys.setrecursionlimit"
        raise CorruptCheckpoint(msg) from error


def _checked(data: memoryview) -> tuple[memoryview, memoryview]:
    """Return the document and the buffers."""
    if len(data) < _START:
        msg = f"cut short: {len(data)} bytes, less than a header" if data else "empty: 0 bytes"
        raise CorruptCheckpoint(msg)
    header, checksum, body = data[: _HEADER.size], data[_HEADER.size : _START], data[_START:]
    magic, version, length, text = _HEADER.unpack(header)
    if magic != _MAGIC:
        msg = f"not written by raflow: it begins with {bytes(data[:12])!r}"
        raise CorruptCheckpoint(msg)
    if version != _VERSION:
        msg = f"written in format {version} by another raflow; this one reads format {_VERSION}"
        raise CorruptCheckpoint(msg)
    if len(body) != length:
        msg = f"cut short or continued: {len(body)} bytes where its header says {length}"
        raise CorruptCheckpoint(msg)
    if _checksum(header, body) != checksum:
        msg = "its bytes were changed after it was written: the checksum differs"
        raise CorruptCheckpoint(msg)
    return body[:text], body[text:]


def _checksum(*pieces: Any) -> bytes:
    checksum = hashlib.sha256()
    for piece in pieces:
        checksum.update(piece)
    return checksum.digest()


class Encoder:
    """Takes one value apart into a document and its buffers."""

    def __init__(self) -> None:
        self.buffers: list[memoryview] = []
        self._alive: list[Any] = []
        self._seen: dict[int, Any] = {}
        self._count = 0

    def root(self, value: Any, name: str) -> Any:
        """Return the document of the whole value."""
        try:
            return self.node(value)
        except TornDown as torn:
            msg = f"{name}{torn.path} {torn.reason}"
            raise NotSerializable(msg) from torn.__cause__
        except RecursionError as error:
            msg = f"{name} is nested too deeply to be stored; flatten it"
            raise NotSerializable(msg) from error

    def node(self, value: Any) -> Any:
        """Return the document of a part."""
        if is_plain(value):
            return value
        if type(value) is Raw:
            return self.raw(value.data)
        mark = id(value)
        if mark in self._seen:
            return self._again(value, self._seen[mark])
        self._seen[mark] = _OPEN
        self._alive.append(value)  # its id stays taken
        node = self._apart(value)
        self._seen[mark], node = self.closed(node)
        return node

    def raw(self, data: Any) -> Any:
        """Put a buffer aside."""
        self.buffers.append(memoryview(data).cast("B"))
        return ["raw", len(self.buffers) - 1]

    def closed(self, node: Any) -> tuple[Any, Any]:
        """Return what stands for a completed value when it appears again, and its document."""
        self._count += 1
        return ["ref", self._count - 1], node

    def many(self, value: Any, parts: Iterable[Any], label: Any) -> list[Any]:
        """Return the documents of the parts of a value."""
        nodes = []
        for number, part in enumerate(parts):
            try:
                nodes.append(self.node(part))
            except TornDown as torn:
                torn.path = label(value, number) + torn.path
                raise
        return nodes

    def _apart(self, value: Any) -> Any:
        if type(value) is dict and all(type(key) is str for key in value):
            names = list(value)
            return dict(zip(names, self.many(value, value.values(), text_key), strict=True))
        form = form_of(value)
        return [form.tag, *self.many(value, form.take(value), form.label)]

    def _again(self, value: Any, stands_for: Any) -> Any:
        if stands_for == _OPEN:
            reason = f"is a {type(value).__name__} that contains itself; store it without the circle"
            raise TornDown(reason)
        return stands_for


class _Decoder:
    def __init__(self, buffers: list[memoryview]) -> None:
        self._buffers = buffers
        self._made: list[Any] = []

    def value(self, node: Any) -> Any:
        if type(node) is dict:
            made: Any = {name: self.value(part) for name, part in node.items()}
        elif type(node) is list:
            tag, *parts = node
            if tag == "ref":
                return self._made[parts[0]]
            if tag == "raw":
                return self._buffers[parts[0]]
            made = self._whole(tag, [self.value(part) for part in parts])
        else:
            return node
        self._made.append(made)
        return made

    def _whole(self, tag: str, parts: list[Any]) -> Any:
        if tag not in MAKE:
            msg = f"it holds a value of the unknown kind {tag!r}; a newer raflow may have written it"
            raise CorruptCheckpoint(msg)
        try:
            return MAKE[tag](parts)
        except (ResumeError, RecursionError):
            raise
        except Exception as error:
            msg = f"it holds a {tag} that cannot be read here: {error}; run the program that wrote it"
            raise ResumeError(msg) from error
