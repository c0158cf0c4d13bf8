"""Text files as streams of bytes: plain, compressed, or as members of a zip archive."""

from __future__ import annotations

import io
import lzma
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa

from raflow.connectors.files.finding import show
from raflow.places import Location

_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
_PACKED = (*_CODECS, ".xz", ".zip")
_BUFFER_BYTES = 64 << 10
_REQUEST_BYTES = 4 << 20
"""The most that is asked of a store at once."""


@dataclass(frozen=True)
class Document:
    """One text with a beginning and an end: a file, or a member of an archive."""

    shown: str
    """For messages."""
    open: Callable[[], io.BufferedReader]
    """Returns its bytes, decompressed, from the beginning."""


def is_packed(path: str) -> bool:
    """Return whether the file is compressed, so that it can only be read as a whole."""
    return path.endswith(_PACKED)


def documents(location: Location, path: str, encoding: str | None = None) -> Iterator[Document]:
    """Yield the texts of one file: several if it is an archive.

    Args:
        location: Under which the file was found.
        path: As the location's file system wants it.
        encoding: Translated to UTF-8 on the way, if given.
    """
    shown = show(location, path)
    if not path.endswith(".zip"):
        yield Document(shown, partial(_open_file, location, path, encoding))
        return
    with location.open(path) as file, zipfile.ZipFile(file) as archive:
        members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    for member in members:
        if not any(name.startswith((".", "__MACOSX")) for name in member.split("/")):
            yield Document(f"{shown}/{member}", partial(_open_member, location, path, member, encoding))


class _Stream(io.BufferedReader):
    """Closes the files below it as well."""

    def __init__(self, opened: list[Any], encoding: str | None) -> None:
        if encoding is not None:
            opened.append(pa.transcoding_input_stream(pa.PythonFile(opened[-1], mode="r"), encoding, "utf8"))
        super().__init__(opened[-1], _BUFFER_BYTES)
        self._opened = opened

    def close(self) -> None:
        super().close()
        for file in reversed(self._opened):
            file.close()


class _Ahead(io.RawIOBase):
    """Reads ahead for decompressors, which ask for a few KiB at a time: each would be a request.

    It asks for more each time, so that a look at the beginning of a file stays cheap.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held = b""
        self._read = 0
        self._bytes = _BUFFER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._read == len(self._held):
            self._held, self._read = self._file.read(self._bytes), 0
            self._bytes = min(2 * self._bytes, _REQUEST_BYTES)
        piece = self._held[self._read : self._read + len(buffer)]
        buffer[: len(piece)] = piece
        self._read += len(piece)
        return len(piece)


def _open_file(location: Location, path: str, encoding: str | None) -> io.BufferedReader:
    opened: list[Any] = [location.open(path)]
    if is_packed(path) and not location.is_on_disk:
        opened.append(_Ahead(opened[0]))
    codec = next((codec for suffix, codec in _CODECS.items() if path.endswith(suffix)), None)
    if path.endswith(".xz"):
        opened.append(lzma.open(opened[-1]))  # noqa: SIM115 - the stream closes it
    elif codec:
        opened.append(pa.CompressedInputStream(pa.PythonFile(opened[-1], mode="r"), codec))
    return _Stream(opened, encoding)


def _open_member(location: Location, path: str, member: str, encoding: str | None) -> io.BufferedReader:
    file = location.open(path)
    archive = zipfile.ZipFile(file)
    return _Stream([file, archive, archive.open(member)], encoding)
