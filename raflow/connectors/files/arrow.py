"""Arrow IPC files (Feather V2) and streams: splits are runs of record batches; a stream is one split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.ipc

from raflow.connectors.files.files import Files, Path, merged, plain, rows_only
from raflow.connectors.files.formats import ArrowFormat
from raflow.connectors.files.listing import THREADS, DataFile
from raflow.connectors.files.splitting import Piece
from raflow.errors import SourceError
from raflow.foreign import foreign_errors
from raflow.places import Location
from raflow.schema import expanded, without_records
from raflow.sources import Reject

_MAGIC = b"ARROW1"
_Reader: TypeAlias = "pyarrow.ipc.RecordBatchFileReader | pyarrow.ipc.RecordBatchStreamReader"


class ArrowFiles(Files):
    """Arrow IPC files or streams.

    Example:
        >>> from raflow.connectors.files import ArrowFiles
        >>> trips = ArrowFiles("trips/*.arrow")
    """

    _unit = "batches"

    def __init__(
        self,
        path: Path,
        *,
        storage_options: Mapping[str, Any] | None = None,
        partition_by: str | Sequence[str] | None = None,
        compression: str | None = None,
        max_rows_per_file: int | None = None,
        if_exists: str = "error",
    ) -> None:
        """Describe the files; nothing is opened.

        Args:
            path: File, glob, directory (path or any fsspec URL), or a list of them; a sink's folder.
            storage_options: Keyword arguments for fsspec, instead of the Flow's credentials.
            partition_by: Columns whose values become `key=value` folders of the output.
            compression: Of the output: lz4 (default), zstd or "none".
            max_rows_per_file: Rows after which a new output file begins.
            if_exists: What happens to data in the output folder: "error", "overwrite" or "append".

        Raises:
            InvalidOption: A value cannot be used.
        """
        super().__init__(
            path,
            ArrowFormat(compression) if compression else ArrowFormat(),
            storage_options=storage_options,
            partition_by=partition_by,
            max_rows_per_file=max_rows_per_file,
            if_exists=if_exists,
        )
        self._footers: dict[DataFile, tuple[pa.Schema, int | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_footers": {}}

    def _file_schema(self, files: Sequence[DataFile]) -> pa.Schema:
        footers = self._read_footers(files)
        return merged([(file.shown, plain(schema)) for file, (schema, _) in zip(files, footers, strict=True)])

    def _pieces(self, files: Sequence[DataFile]) -> list[Piece]:
        footers = self._read_footers(files)
        return [piece for file, (_, count) in zip(files, footers, strict=True) for piece in _batches(file, count)]

    def _read_footers(self, files: Sequence[DataFile]) -> list[tuple[pa.Schema, int | None]]:
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(self._read_footer, files))

    def _read_footer(self, file: DataFile) -> tuple[pa.Schema, int | None]:
        if file not in self._footers:
            location = self._locations[file.root]
            with foreign_errors(f"reading {file.shown}", SourceError, location), _opened(location, file.path) as reader:
                if unknown := without_records(reader.schema):
                    msg = f"{file.shown} has columns of types that are not read: {unknown}; write it without"
                    raise SourceError(msg)
                count = getattr(reader, "num_record_batches", None)
                self._footers[file] = (reader.schema, count)
        return self._footers[file]

    def _read(
        self, location: Location, path: str, start: int, stop: int | None, columns: pa.Schema, reject: Reject
    ) -> Iterator[pa.RecordBatch]:
        del reject
        with _opened(location, path, columns) as reader:
            batches = reader if stop is None else (reader.get_batch(index) for index in range(start, stop))
            for batch in batches:
                yield expanded(batch) if batch.num_columns else rows_only(batch.num_rows)


@contextmanager
def _opened(location: Location, path: str, columns: pa.Schema | None = None) -> Iterator[_Reader]:
    with location.open(path) as file:
        is_file = file.read(len(_MAGIC)) == _MAGIC
        file.seek(0)
        opened = pa.ipc.open_file if is_file else pa.ipc.open_stream
        schema = opened(file).schema
        file.seek(0)
        yield opened(file, options=_options(schema, columns))


def _options(schema: pa.Schema, columns: pa.Schema | None) -> pyarrow.ipc.IpcReadOptions:
    if columns is None:
        return pa.ipc.IpcReadOptions()
    names = set(columns.names)
    wanted = [index for index, name in enumerate(schema.names) if name in names]
    # No field at all would mean all of them; one is needed to count rows.
    return pa.ipc.IpcReadOptions(included_fields=wanted or [0])


def _batches(file: DataFile, count: int | None) -> Iterator[Piece]:
    if not count:
        yield Piece(file, 0, count, file.size)
        return
    bounds = [file.size * n // count for n in range(count + 1)]
    for index in range(count):
        yield Piece(file, index, index + 1, bounds[index + 1] - bounds[index])
