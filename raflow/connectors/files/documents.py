"""Text files as streams of bytes: plain, compressed, or as members of a zip archive."""

from __future__ import annotations

import io
import lzma
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from raflow.connectors.files.listing import show
from raflow.connectors.files.locations import Location

_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
_PACKED = (*_CODECS, ".xz", ".zip")
_BUFFER_BYTES = 64 << 10


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
        yield Document(shown, lambda: _buffered(_unpacked(location.open(path), path), encoding))
        return
    with location.open(path) as file, zipfile.ZipFile(file) as archive:
        members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    for member in members:
        if not any(name.startswith((".", "__MACOSX")) for name in member.split("/")):
            yield Document(f"{shown}/{member}", _member_opener(location, path, member, encoding))


def _member_opener(
    location: Location, path: str, member: str, encoding: str | None
) -> Callable[[], io.BufferedReader]:
    def opened() -> io.BufferedReader:
        # The archive object keeps the file open as long as the member is read.
        return _buffered(zipfile.ZipFile(location.open(path)).open(member), encoding)

    return opened


def _unpacked(file: BinaryIO, path: str) -> Any:
    if path.endswith(".xz"):
        return lzma.open(file)
    codec = next((codec for suffix, codec in _CODECS.items() if path.endswith(suffix)), None)
    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec) if codec else file


def _buffered(file: Any, encoding: str | None) -> io.BufferedReader:
    if encoding is not None:
        file = pa.transcoding_input_stream(pa.PythonFile(file, mode="r"), encoding, "utf8")
    return io.BufferedReader(file, _BUFFER_BYTES)
