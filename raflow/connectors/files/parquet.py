"""Parquet files: splits are runs of row groups, schemas come from the footers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raflow.connectors.files.files import Files, Path, merged, plain, rows_only
from raflow.connectors.files.formats import ParquetFormat
from raflow.connectors.files.hive import partition_values
from raflow.connectors.files.listing import THREADS, DataFile, list_files
from raflow.connectors.files.pruning import matching
from raflow.connectors.files.splitting import Piece, pack
from raflow.errors import SourceError
from raflow.foreign import foreign_errors
from raflow.places import Location
from raflow.sources import Reject, Split

_WHOLE_BYTES = 64 << 20
"""Decoded size up to which a row group is read at once, which is faster than in batches."""
_BATCH_BYTES = 8 << 20
_SAMPLE_ROWS = 256
_PRE_BUFFER = 64 << 20
_COLUMN_BUFFER = 1 << 20


class ParquetFiles(Files):
    """Parquet files, read by row groups and written with fitting encodings.

    Example:
        >>> from raflow.connectors.files import ParquetFiles
        >>> trips = ParquetFiles("s3://raw/trips/*.parquet")
        >>> clean = ParquetFiles("s3://clean/trips/", partition_by="zone", compression="zstd")
    """

    _unit = "row groups"

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
            compression: Of the output: snappy (default), zstd, gzip, lz4, brotli or "none".
            max_rows_per_file: Rows after which a new output file begins.
            if_exists: What happens to data in the output folder: "error", "overwrite" or "append".

        Raises:
            InvalidOption: A value cannot be used.
        """
        super().__init__(
            path,
            ParquetFormat(compression) if compression else ParquetFormat(),
            storage_options=storage_options,
            partition_by=partition_by,
            max_rows_per_file=max_rows_per_file,
            if_exists=if_exists,
        )
        self._footers: dict[DataFile, pq.FileMetaData] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_footers": {}}

    def splits_where(self, condition: pc.Expression, columns: pa.Schema) -> list[Split]:
        """Return the pieces without the row groups that, by their statistics, hold no such record."""
        files = list_files(self._locations)
        footers = self._read_footers(files)
        pieces: list[Piece] = []
        for file, footer in zip(files, footers, strict=True):
            groups = matching(footer, condition, columns, partition_values(file.path))
            pieces += _row_groups(file, footer, groups)
        return pack(pieces, self._unit)

    def _file_schema(self, files: Sequence[DataFile]) -> pa.Schema:
        footers = self._read_footers(files)
        shown = [file.shown for file in files]
        return merged(list(zip(shown, [plain(footer.schema.to_arrow_schema()) for footer in footers], strict=True)))

    def _pieces(self, files: Sequence[DataFile]) -> list[Piece]:
        footers = self._read_footers(files)
        return [piece for file, footer in zip(files, footers, strict=True) for piece in _row_groups(file, footer)]

    def _read_footers(self, files: Sequence[DataFile]) -> list[pq.FileMetaData]:
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(self._read_footer, files))

    def _read_footer(self, file: DataFile) -> pq.FileMetaData:
        if file not in self._footers:
            location = self._locations[file.root]
            with foreign_errors(f"reading {file.shown}", SourceError, location), _open(location, file.path) as parquet:
                self._footers[file] = parquet.metadata
        return self._footers[file]

    def _read(
        self, location: Location, path: str, start: int, stop: int | None, columns: pa.Schema, reject: Reject
    ) -> Iterator[pa.RecordBatch]:
        del reject
        if start == stop:  # all of it was left out
            return
        with _open(location, path) as parquet:
            wanted = [name for name in columns.names if name in parquet.schema_arrow.names]
            groups = range(start, parquet.num_row_groups if stop is None else stop)
            if wanted and groups:
                yield from _read_groups(parquet, groups, wanted)
            else:
                yield from (rows_only(parquet.metadata.row_group(group).num_rows) for group in groups)


def _open(location: Location, path: str) -> pq.ParquetFile:
    """Return the file, opened so that at most `_PRE_BUFFER` of it is fetched ahead."""
    file = path if location.is_on_disk else location.open(path)
    parquet = pq.ParquetFile(file, pre_buffer=True)
    footer = parquet.metadata
    largest = max((_stored_bytes(footer.row_group(n)) for n in range(footer.num_row_groups)), default=0)
    if largest <= _PRE_BUFFER:
        return parquet
    parquet.close(force=True)
    file = path if file is path else location.open(path)
    buffer = _COLUMN_BUFFER if file is path else 8 * _COLUMN_BUFFER
    return pq.ParquetFile(file, metadata=footer, pre_buffer=False, buffer_size=buffer)


def _stored_bytes(group: pq.RowGroupMetaData) -> int:
    return sum(group.column(n).total_compressed_size for n in range(group.num_columns))


def _row_groups(file: DataFile, footer: pq.FileMetaData, wanted: Collection[int] | None = None) -> Iterator[Piece]:
    if not (footer.num_row_groups if wanted is None else wanted):
        # None of its records is read, but resume must know that it was there.
        yield Piece(file, 0, 0, 0, 0, 0)
    first_row = 0
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        if wanted is None or index in wanted:
            yield Piece(file, index, index + 1, _stored_bytes(group), group.num_rows, first_row)
        first_row += group.num_rows


def _read_groups(parquet: pq.ParquetFile, groups: Sequence[int], wanted: list[str]) -> Iterator[pa.RecordBatch]:
    row_bytes = _sampled_row_bytes(parquet, groups[:1], wanted) if _has_dictionaries(parquet, groups, wanted) else 0.0
    for group in groups:
        row_bytes = max(row_bytes, _stored_row_bytes(parquet.metadata.row_group(group), wanted))
        if parquet.metadata.row_group(group).num_rows * row_bytes <= _WHOLE_BYTES:
            yield from parquet.read_row_group(group, columns=wanted, use_threads=False).to_batches()
        else:
            batch_rows = max(1, int(_BATCH_BYTES / row_bytes))
            yield from parquet.iter_batches(batch_rows, [group], columns=wanted, use_threads=False)


def _has_dictionaries(parquet: pq.ParquetFile, groups: Sequence[int], wanted: list[str]) -> bool:
    """Return whether a wanted column of text is encoded by a dictionary, so that it is larger in memory."""
    return any(
        column.has_dictionary_page and column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
        for column in _columns(parquet.metadata.row_group(groups[0]), wanted)
    )


def _columns(group: pq.RowGroupMetaData, wanted: list[str]) -> list[pq.ColumnChunkMetaData]:
    columns = (group.column(n) for n in range(group.num_columns))
    return [column for column in columns if column.path_in_schema.split(".")[0] in wanted]


def _sampled_row_bytes(parquet: pq.ParquetFile, groups: Sequence[int], wanted: list[str]) -> float:
    """Return what a row takes in memory; of dictionary-encoded columns the footer cannot tell."""
    batches = parquet.iter_batches(_SAMPLE_ROWS, groups, columns=wanted, use_threads=False)
    return max((batch.nbytes / batch.num_rows for batch in islice(batches, 1) if batch.num_rows), default=1.0)


def _stored_row_bytes(group: pq.RowGroupMetaData, wanted: list[str]) -> float:
    stored = sum(column.total_uncompressed_size for column in _columns(group, wanted))
    return float(stored / max(group.num_rows, 1))
