"""Writes into a folder: what its files are called, and which of them are open.

A file that is open is in `open_file.py`, how it is encoded in `formats.py`.
"""

from __future__ import annotations

import resource
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote
from weakref import WeakSet

import pyarrow as pa

from raflow.connectors.files.open_file import OpenFile
from raflow.connectors.files.partitioning import Partitioner
from raflow.connectors.files.staging import Staging
from raflow.sinks import Part, Writer

if TYPE_CHECKING:
    from raflow.connectors.files.writing import FolderSink

MAX_OPEN_FILES = 128
"""Files that one writer keeps open at most; above it the one unused for longest is finished."""
MAX_HELD_BYTES = 192 << 20
"""Bytes that one writer keeps in memory; above it the largest file is encoded and, if need be, finished."""
_LOCK = threading.Lock()
_WRITERS: WeakSet[FolderWriter] = WeakSet()
"""All writers of this process."""


class FolderWriter(Writer):
    """Writes units of work as staged files, one open file per partition folder."""

    def __init__(self, sink: FolderSink, staging: Staging, run_id: str) -> None:
        self._sink, self._staging, self._run_id = sink, staging, run_id
        self._reset("", 0)
        with _LOCK:
            _WRITERS.add(self)

    def _reset(self, unit: str, attempt: int) -> None:
        # Names hold the attempt: removing one that was given up never removes what another published.
        unit = quote(unit, safe="").replace("-", "%2D")
        self._prefix = f"part-{self._run_id}-{unit}-{attempt}"
        self._partitioner = Partitioner(self._sink.partition_by)
        self._open: OrderedDict[str, OpenFile] = OrderedDict()
        self._parts: list[Part] = []
        self._count = 0

    def begin(self, unit: str, attempt: int) -> None:
        """Start a unit of work."""
        self._reset(unit, attempt)

    def write(self, batch: pa.RecordBatch) -> None:
        """Take the next batch."""
        with self._sink._mapped("writing to"):
            for folder, records in self._partitioner.add(batch):
                self._append(folder, records)

    def _append(self, folder: str, records: pa.RecordBatch) -> None:
        limit = self._sink.max_rows_per_file
        while records.num_rows:
            file = self._file(folder, records.schema)
            room = records.num_rows if limit is None else limit - file.rows
            file.write(records.slice(0, room))
            records = records.slice(room)
            if file.rows == limit:
                self._finish(folder)
        self._bound_memory()

    def _file(self, folder: str, schema: pa.Schema) -> OpenFile:
        if folder not in self._open:
            while self._open and not self._has_room():
                self._finish(next(iter(self._open)))
            name = f"{folder}{self._prefix}-{self._count}{self._sink.format.suffix}"
            staged = self._staging.open(self._run_id, name)
            self._open[folder] = OpenFile(name, staged, self._sink.format, schema)
            self._count += 1
        self._open.move_to_end(folder)
        return self._open[folder]

    def _has_room(self) -> bool:
        """Return whether one more file may be open: the writers of a process share what it may open."""
        with _LOCK:
            others = [len(one._open) for one in _WRITERS if one is not self and one._open]
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = sys.maxsize if soft == resource.RLIM_INFINITY else soft // 2
        own = len(self._open)
        return own < min(MAX_OPEN_FILES, most // (len(others) + 1)) and own + sum(others) < most

    def _bound_memory(self) -> None:
        while self.held > MAX_HELD_BYTES:
            folder, largest = max(self._open.items(), key=lambda entry: entry[1].held)
            before = largest.held
            largest.flush()
            if largest.held > before // 2:
                self._finish(folder)

    @property
    def held(self) -> int:
        """Bytes that wait in memory, before and after encoding."""
        return self._partitioner.held + sum(file.held for file in self._open.values())

    def _finish(self, folder: str) -> None:
        self._parts.append(self._open[folder].finish(self._sink.location))
        del self._open[folder]

    def prepare(self) -> list[Part]:
        """Finish all files of the unit."""
        with self._sink._mapped("writing to"):
            for folder, records in self._partitioner.rest():
                self._append(folder, records)
            for folder in list(self._open):
                self._finish(folder)
        parts, self._parts = self._parts, []
        return parts

    def abort(self) -> None:
        """Drop all files of the unit."""
        for file in self._open.values():
            with suppress(Exception):
                file.drop()
        for part in self._parts:
            with suppress(Exception):
                self._staging.drop(part.token)
        self._reset("", 0)

    def close(self) -> None:
        """Drop a unit that was neither prepared nor aborted."""
        self.abort()
