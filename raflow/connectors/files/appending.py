"""JSON Lines files that stay open while groups of records are appended, each made durable by itself.

A file is hidden and locked while it is open, and published by rename. The lock goes with the process, so
that a later appender knows which files are nobody's: it cuts them to their last whole line and publishes
them. What was flushed is not lost unless it is taken back, and nothing half-written is ever visible.
"""

from __future__ import annotations

import fcntl
import io
import os
from contextlib import AbstractContextManager, suppress
from typing import IO
from urllib.parse import quote

import pyarrow as pa

from raflow.connectors.files.json_text import json_texts
from raflow.errors import SinkError
from raflow.foreign import foreign_errors
from raflow.places import Location
from raflow.sinks import Appender

_HIDDEN = ".appending-"
_SUFFIX = ".jsonl"
_BLOCK = 64 << 10


class LinesAppender(Appender):
    """Appends lines to files in a local folder.

    Args:
        folder: Where.
        run_id: Part of the names of the files.
        unit: Part of the names of the files; unique to this appender.

    Raises:
        SinkError: The folder cannot be written.
    """

    def __init__(self, folder: Location, run_id: str, unit: str) -> None:
        self._folder = folder
        self._prefix = f"part-{run_id}-{quote(unit, safe='').replace('-', '%2D')}-0"
        self._count = 0
        self._file: io.FileIO | None = None
        self._name = ""
        with self._mapped("appending to"):
            os.makedirs(folder.path, exist_ok=True)
            self._recover()

    def append(self, batch: pa.RecordBatch) -> None:
        """Write lines."""
        with self._mapped("appending to"):
            file = self._file or self._begin()
            for text in json_texts(batch):
                self._write(file, text)

    def _write(self, file: io.FileIO, text: memoryview) -> None:
        while text:
            written = file.write(text)
            self.size_bytes += written
            text = text[written:]

    def flush(self) -> None:
        """Write to the disk itself."""
        if self._file is not None:
            with self._mapped("appending to"):
                os.fsync(self._file.fileno())

    def abandon(self, size_bytes: int) -> None:
        """Cut the file to a size that it had, and publish it: after a failed write nothing else is known of it."""
        if self._file is not None:
            with suppress(OSError):
                self._file.truncate(size_bytes)
                with suppress(OSError):  # the cut-off lines may be on the disk, and would be back after a crash
                    os.fsync(self._file.fileno())
                self._publish()

    def roll(self) -> None:
        """Publish the open file."""
        if self._file is not None:
            with self._mapped("publishing a file in"):
                self._publish()

    def _begin(self) -> io.FileIO:
        while True:
            name = f"{self._prefix}-{self._count}{_SUFFIX}"
            self._count += 1
            # Unbuffered: what a failed write leaves behind is in the file, where it can be cut.
            file = open(self._path(_HIDDEN + name), "xb", buffering=0)  # noqa: SIM115 - lives longer than this call
            if _locked(file) and _is_at(file, self._path(_HIDDEN + name)):
                self._file, self._name, self.size_bytes = file, name, 0
                return file
            file.close()  # another appender took it for a dead one's before it was locked

    def _publish(self) -> None:
        assert self._file is not None
        file, name = self._file, self._name
        self._file, self.size_bytes = None, 0
        # Closed last: until it has its name, nobody else may take it.
        with file:
            if os.fstat(file.fileno()).st_size:
                os.replace(self._path(_HIDDEN + name), self._path(name))
                self._sync_folder()
            else:
                os.unlink(self._path(_HIDDEN + name))

    def _recover(self) -> None:
        """Publish what dead appenders have left."""
        for entry in os.listdir(self._folder.path):
            if not entry.startswith(_HIDDEN):
                continue
            with suppress(FileNotFoundError), open(self._path(entry), "r+b") as file:
                if _locked(file) and _is_at(file, self._path(entry)):
                    self._rescue(file, entry)

    def _rescue(self, file: IO[bytes], entry: str) -> None:
        size = _whole_lines(file)
        if not size:
            os.unlink(self._path(entry))
            return
        file.truncate(size)
        os.fsync(file.fileno())
        os.replace(self._path(entry), self._path(entry.removeprefix(_HIDDEN)))
        self._sync_folder()

    def _sync_folder(self) -> None:
        folder = os.open(self._folder.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder.path, name)

    def _mapped(self, what: str) -> AbstractContextManager[None]:
        return foreign_errors(f"{what} {self._folder.shown}", SinkError, self._folder)


def _locked(file: IO[bytes]) -> bool:
    """Lock a file for as long as it is open; return whether nobody else has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: IO[bytes], path: str) -> bool:
    """Return whether an open file still has that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _whole_lines(file: IO[bytes]) -> int:
    """Return the bytes up to the end of the last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
