"""A folder of files as a sink: what its files are called, what is open, what is published and replaced.

How a file is encoded is in `formats.py`, how it is staged and published in `staging`.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote

import pyarrow as pa
from typing_extensions import Self

from raflow.connectors.files.finding import is_hidden
from raflow.connectors.files.formats import FileWriter, Format
from raflow.connectors.files.partitioning import Partitioner
from raflow.connectors.files.staging import StagedFile, Staging, staging_for
from raflow.credentials import Credentials
from raflow.errors import InvalidOption, OutputExists, SinkError
from raflow.foreign import foreign_errors
from raflow.places import Location
from raflow.sinks import Part, Sink, SinkContext, Writer
from raflow.sources import Json

MAX_OPEN_FILES = 128
"""Files that one writer keeps open; above it the one unused for longest is finished."""
MAX_HELD_BYTES = 192 << 20
"""Bytes that one writer keeps in memory; above it the largest file is encoded and, if need be, finished."""
_PUBLISHERS = 16

Item = TypeVar("Item")


@dataclass(frozen=True)
class FolderSink(Sink):
    """Writes records as files into a folder."""

    location: Location
    """The folder."""
    format: Format
    """How files are encoded."""
    partition_by: Sequence[str] = ()
    """Columns that become hive folders, outermost first."""
    max_rows_per_file: int | None = None
    """Rows after which a further file begins."""
    if_exists: str = "error"
    """What happens when the folder holds files: error, overwrite or append."""

    def __post_init__(self) -> None:
        if self.if_exists not in ("error", "overwrite", "append"):
            msg = f'if_exists is {self.if_exists!r}; it can be "error", "overwrite" or "append"'
            raise InvalidOption(msg)
        if isinstance(self.partition_by, str):
            msg = f"partition_by is {self.partition_by!r}; give a list: [{self.partition_by!r}]"
            raise InvalidOption(msg)
        if self.max_rows_per_file is not None and self.max_rows_per_file < 1:
            msg = f"max_rows_per_file is {self.max_rows_per_file}; it must be at least 1"
            raise InvalidOption(msg)

    @property
    def local_only(self) -> bool:  # type: ignore[override]
        """True for `memory://`."""
        return self.location.is_memory

    @property
    def one_node(self) -> bool:  # type: ignore[override]
        """True for local paths."""
        return self.location.is_local

    def with_credentials(self, credentials: Credentials) -> Self:
        """Return the sink with the Flow's keys."""
        return replace(self, location=replace(self.location, credentials=credentials))

    @property
    def _staging(self) -> Staging:
        return staging_for(self.location)

    def _mapped(self, what: str) -> Any:
        return foreign_errors(f"{what} {self.location.shown}", SinkError, self.location)

    def start(self, context: SinkContext) -> Json:
        """Check the folder, sweep what dead runs have left, and return the files to replace."""
        with self._mapped("writing to"):
            self._refuse_file()
            existing = visible_files(self.location)
            if existing and self.if_exists == "error":
                raise OutputExists(self._occupied(existing))
            self._staging.probe(context.run_id)
            self._staging.sweep(lambda run_id: run_id != context.run_id and context.is_dead(run_id))
        return existing if self.if_exists == "overwrite" else []

    def _refuse_file(self) -> None:
        if self.location.fs.isfile(self.location.path.rstrip("/")):
            msg = f"{self.location.shown} is a file; a sink writes into a folder: give another path"
            raise SinkError(msg)

    def _occupied(self, existing: list[str]) -> str:
        return (
            f"{self.location.shown} already holds {len(existing)} file(s), such as {existing[0]}; set "
            'if_exists="append" or if_exists="overwrite", choose another folder, or resume the run '
            "that wrote them"
        )

    def resume(self, context: SinkContext) -> None:
        """Remove what the run's earlier processes have staged."""
        self._sweep(context)

    def open(self, context: SinkContext) -> Writer:
        """Return a writer of the folder."""
        return FolderWriter(self, self._staging, context.run_id)

    def commit(self, parts: Sequence[Part]) -> None:
        """Publish files."""
        staging = self._staging

        def publish(part: Part) -> None:
            with foreign_errors(f"publishing {part.target}", SinkError, self.location):
                staging.commit(part.token, part.payload)

        self._each(parts, publish)

    def discard(self, parts: Sequence[Part]) -> None:
        """Remove files, staged or published."""
        staging = self._staging

        def remove(part: Part) -> None:
            with foreign_errors(f"removing {part.target}", SinkError, self.location):
                staging.discard(part.token)

        self._each(parts, remove)

    def _each(self, items: Sequence[Item], act: Callable[[Item], None]) -> None:
        if len(items) < 2 or self.location.is_local or self.location.is_memory:
            for item in items:
                act(item)
            return
        with ThreadPoolExecutor(min(len(items), _PUBLISHERS)) as pool:
            list(pool.map(act, items))

    def finish(self, context: SinkContext, started: Json) -> None:
        """Delete replaced files and the run's staging."""
        with self._mapped("replacing files in"):
            self._each(started or [], self._staging.remove)
            if self.location.is_on_disk:
                _remove_empty_folders(self.location.path, started or [])
        self._sweep(context)

    def _sweep(self, context: SinkContext) -> None:
        with self._mapped("sweeping"):
            self._staging.sweep(lambda run_id: run_id == context.run_id)


def visible_files(folder: Location) -> list[str]:
    """Return the names, relative to the folder, of its files that readers see, sorted.

    Raises:
        FileNotFoundError: The bucket does not exist.
    """
    fs, root = folder.fs, folder.path.rstrip("/")
    fs.invalidate_cache()
    folder.require_bucket()
    names = (path.removeprefix(root).lstrip("/") for path in fs.find(root))
    return sorted(name for name in names if name and _is_visible(name))


def _is_visible(name: str) -> bool:
    return not any(is_hidden(step) for step in name.split("/"))


def _remove_empty_folders(root: str, names: Sequence[str]) -> None:
    folders = {parent for name in names for parent in PurePosixPath(name).parents} - {PurePosixPath()}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        # A folder that holds new files stays.
        with suppress(OSError):
            os.rmdir(os.path.join(root, folder))


class FolderWriter(Writer):
    """Writes units of work as staged files, one open file per partition folder."""

    def __init__(self, sink: FolderSink, staging: Staging, run_id: str) -> None:
        self._sink, self._staging, self._run_id = sink, staging, run_id
        self._reset("", 0)

    def _reset(self, unit: str, attempt: int) -> None:
        # Names hold the attempt: removing one that was given up never removes what another published.
        unit = quote(unit, safe="").replace("-", "%2D")
        self._prefix = f"part-{self._run_id}-{unit}-{attempt}"
        self._partitioner = Partitioner(self._sink.partition_by)
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
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

    def _file(self, folder: str, schema: pa.Schema) -> _OpenFile:
        if folder not in self._open:
            if len(self._open) >= MAX_OPEN_FILES:
                self._finish(next(iter(self._open)))
            name = f"{folder}{self._prefix}-{self._count}{self._sink.format.suffix}"
            staged = self._staging.open(self._run_id, name)
            self._open[folder] = _OpenFile(name, staged, self._sink.format, schema)
            self._count += 1
        self._open.move_to_end(folder)
        return self._open[folder]

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


class _OpenFile:
    """A staged file and its encoder."""

    def __init__(self, name: str, staged: StagedFile, kind: Format, schema: pa.Schema) -> None:
        self._name, self._staged = name, staged
        self._stream = _Stream(staged)
        self.rows = 0
        try:
            self._writer: FileWriter = kind.open(self._stream, schema)  # type: ignore[arg-type]
        except BaseException:
            self._drop_staged()
            raise

    def write(self, records: pa.RecordBatch) -> None:
        self._writer.write(records)
        self.rows += records.num_rows

    @property
    def held(self) -> int:
        return self._writer.held + self._staged.held

    def flush(self) -> None:
        self._writer.flush()

    def finish(self, root: Location) -> Part:
        self._writer.close()
        token, payload = self._staged.finish()
        return Part(root.join(self._name).shown, self.rows, self._stream.size, token, payload)

    def drop(self) -> None:
        self._drop_staged()
        # The encoder must let go of its file too; its bytes go nowhere now.
        with suppress(Exception):
            self._writer.close()

    def _drop_staged(self) -> None:
        self._stream.is_dropped = True
        self._staged.drop()


class _Stream(io.RawIOBase):
    """The file as encoders see it: they may close it, which does not settle the staged file."""

    def __init__(self, staged: StagedFile) -> None:
        super().__init__()
        self._staged = staged
        self.size = 0
        self.is_dropped = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        if not self.is_dropped:
            self._staged.write(data)
        self.size += count
        return count

    def tell(self) -> int:
        return self.size
