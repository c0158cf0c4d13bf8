"""The four file formats as writers: Arrow batches in, bytes out.

Where the bytes go is `staging`; which file a record goes to is `writing.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from raflow.batch import one_batch, slices
from raflow.connectors.files.json_text import json_texts
from raflow.errors import InvalidOption, SinkError
from raflow.schema import decoded

ROW_GROUP_ROWS = 1_000_000
"""Rows after which a Parquet row group is written; none is larger."""
ROW_GROUP_BYTES = 64 << 20
"""Arrow bytes after which a Parquet row group is written; none is larger than twice that."""
_WIDE_ROW_BYTES = 4 << 10
_WIDE_GROUP_BYTES = 32 << 20
"""The same for rows above `_WIDE_ROW_BYTES`: their pages are held several times while they are encoded."""
_IPC_ROWS = 128 << 10
_IPC_BYTES = 8 << 20
_PAGE_BYTES = 1 << 20
_SAMPLE_ROWS = 4096

_TEXT_SUFFIXES = {None: "", "gzip": ".gz", "bz2": ".bz2", "zstd": ".zst"}
_PARQUET_COMPRESSIONS = ("snappy", "zstd", "gzip", "lz4", "brotli", None)
_ARROW_COMPRESSIONS = ("lz4", "zstd", None)


class FileWriter(Protocol):
    """Writes the batches of one file; all have one schema."""

    @property
    def held(self) -> int:
        """Arrow bytes that wait in memory."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take the next batch."""

    def flush(self) -> None:
        """Encode what waits in memory."""

    def close(self) -> None:
        """Encode the rest and the file's end."""


class Format(Protocol):
    """How a file is encoded."""

    @property
    def suffix(self) -> str:
        """End of the file's name."""

    def open(self, file: BinaryIO, schema: pa.Schema) -> FileWriter:
        """Return a writer of one file.

        Raises:
            SinkError: The format cannot hold a column; names it.
        """


@dataclass(frozen=True)
class ParquetFormat:
    """Parquet; dictionary encoding is picked per column from the first row group."""

    compression: str | None = "snappy"
    """snappy, zstd, gzip, lz4, brotli or None."""

    def __post_init__(self) -> None:
        _set_compression(self, _PARQUET_COMPRESSIONS)

    suffix = ".parquet"

    def open(self, file: BinaryIO, schema: pa.Schema) -> FileWriter:
        """Return a writer of one Parquet file."""
        return _ParquetWriter(file, schema, self.compression)


@dataclass(frozen=True)
class CsvFormat:
    """CSV as pyarrow writes it: strings quoted, null empty, but `NULL` where it would be an empty line."""

    header: bool = True
    """Whether the first line holds the column names."""
    delimiter: str = ","
    """Between the columns."""
    compression: str | None = None
    """gzip, bz2, zstd or None."""

    def __post_init__(self) -> None:
        _set_compression(self, tuple(_TEXT_SUFFIXES))

    @property
    def suffix(self) -> str:
        """End of the file's name."""
        return ".csv" + _TEXT_SUFFIXES[self.compression]

    def open(self, file: BinaryIO, schema: pa.Schema) -> FileWriter:
        """Return a writer of one CSV file."""
        return _CsvWriter(_compressed(file, self.compression), schema, self)


@dataclass(frozen=True)
class JsonLinesFormat:
    """JSON Lines: one object per line."""

    compression: str | None = None
    """gzip, bz2, zstd or None."""

    def __post_init__(self) -> None:
        _set_compression(self, tuple(_TEXT_SUFFIXES))

    @property
    def suffix(self) -> str:
        """End of the file's name."""
        return ".jsonl" + _TEXT_SUFFIXES[self.compression]

    def open(self, file: BinaryIO, schema: pa.Schema) -> FileWriter:
        """Return a writer of one JSON Lines file."""
        del schema
        return _JsonLinesWriter(_compressed(file, self.compression))


@dataclass(frozen=True)
class ArrowFormat:
    """Arrow IPC file (Feather V2); dictionary columns are written as plain values."""

    compression: str | None = "lz4"
    """lz4, zstd or None."""

    def __post_init__(self) -> None:
        _set_compression(self, _ARROW_COMPRESSIONS)

    suffix = ".arrow"

    def open(self, file: BinaryIO, schema: pa.Schema) -> FileWriter:
        """Return a writer of one Arrow file."""
        return _ArrowWriter(file, schema, self.compression)


def _set_compression(options: Any, allowed: tuple[str | None, ...]) -> None:
    chosen = None if options.compression == "none" else options.compression
    if chosen not in allowed:
        msg = f"compression is {chosen!r}; it can be {', '.join(map(repr, allowed))}"
        raise InvalidOption(msg)
    object.__setattr__(options, "compression", chosen)


def _compressed(file: BinaryIO, compression: str | None) -> Any:
    target = pa.PythonFile(file, mode="w")
    return pa.CompressedOutputStream(target, compression) if compression else target


class _Collected:
    """Collects batches, since files of few large pieces are smaller and faster than of many small ones."""

    def __init__(self, rows: int, bytes_: int) -> None:
        self._limits = rows, bytes_
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0
        self.held = 0

    def write(self, batch: pa.RecordBatch) -> None:
        for piece in _pieces(batch, *self._limits):
            if self._rows + piece.num_rows > self._limits[0]:
                self.flush()
            self._batches.append(piece)
            self._rows += piece.num_rows
            self.held += piece.nbytes
            if self._rows >= self._limits[0] or self.held >= self._limits[1]:
                self.flush()

    def flush(self) -> None:
        if self._batches:
            batches, self._batches, self._rows, self.held = self._batches, [], 0, 0
            self._encode(batches)

    def _encode(self, batches: list[pa.RecordBatch]) -> None:
        raise NotImplementedError


def _pieces(batch: pa.RecordBatch, rows: int, bytes_: int) -> Any:
    fitting = max(1, batch.num_rows * bytes_ // max(1, batch.nbytes))
    return slices(batch, min(rows, fitting)) if batch.num_rows > min(rows, fitting) else [batch]


class _ParquetWriter(_Collected):
    def __init__(self, file: BinaryIO, schema: pa.Schema, compression: str | None) -> None:
        super().__init__(ROW_GROUP_ROWS, ROW_GROUP_BYTES)
        self._file, self._schema, self._compression = file, schema, compression
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        is_wide = batch.nbytes > batch.num_rows * _WIDE_ROW_BYTES
        self._limits = (ROW_GROUP_ROWS, _WIDE_GROUP_BYTES if is_wide else ROW_GROUP_BYTES)
        super().write(batch)

    def _encode(self, batches: list[pa.RecordBatch]) -> None:
        table = pa.Table.from_batches(batches, self._schema)
        if table.num_rows < 1024 * len(batches) and table.nbytes < _PAGE_BYTES * len(batches):
            table = table.combine_chunks()
        writer = self._writer or self._open(table)
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def _open(self, first: pa.Table) -> Any:
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression=self._compression or "none",
            use_dictionary=dictionary_columns(first),
            write_batch_size=_page_rows(first),
        )
        return self._writer

    def close(self) -> None:
        self.flush()
        (self._writer or self._open(self._schema.empty_table())).close()


def _page_rows(table: pa.Table) -> int:
    """Return how many values Parquet adds to a page between two looks at its size; few if they are large."""
    rows: int = table.num_rows * _PAGE_BYTES // max(1, table.nbytes)
    return max(1, min(1024, rows))


def dictionary_columns(table: pa.Table) -> list[str]:
    """Return the Parquet columns that are worth a dictionary, judged by a sample.

    Floats never are (encoding them took 2.9 times longer, for nothing), text is unless most values
    differ, other types only if they repeat often.
    """
    chosen = [field.name for field in table.schema if _repeats(table[field.name])]
    return chosen + _nested_text(table.schema)


def _repeats(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return True
    if pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_nested(kind):
        return False
    if pa.types.is_null(kind) or not len(column):
        return False
    sample = column.slice(0, _SAMPLE_ROWS)
    is_text = not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind))
    distinct: int = pc.count_distinct(sample).as_py()
    return distinct <= len(sample) * (0.5 if is_text else 0.1) or distinct <= 1


def _nested_text(schema: pa.Schema) -> list[str]:
    nested = pa.schema([field for field in schema if pa.types.is_nested(field.type)])
    if not nested:
        return []
    # Only Parquet itself knows the paths of the leaves in lists, maps and structs.
    buffer = pa.BufferOutputStream()
    pq.write_table(nested.empty_table(), buffer)
    leaves = pq.ParquetFile(pa.BufferReader(buffer.getvalue())).schema
    columns = [leaves.column(index) for index in range(len(leaves))]
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


class _ArrowWriter(_Collected):
    def __init__(self, file: BinaryIO, schema: pa.Schema, compression: str | None) -> None:
        super().__init__(_IPC_ROWS, _IPC_BYTES)
        # An Arrow file has one dictionary per column; batches of different origin have several.
        self._schema = pa.schema([field.with_type(decoded(field.type)) for field in schema], metadata=schema.metadata)
        options = pa.ipc.IpcWriteOptions(compression=compression)
        self._writer = pa.ipc.new_file(file, self._schema, options=options)

    def _encode(self, batches: list[pa.RecordBatch]) -> None:
        batch = one_batch(batches)
        self._writer.write_batch(batch if batch.schema == self._schema else batch.cast(self._schema))

    def close(self) -> None:
        self.flush()
        self._writer.close()


class _CsvWriter:
    held = 0

    def __init__(self, stream: Any, schema: pa.Schema, options: CsvFormat) -> None:
        for field in schema:
            if pa.types.is_nested(field.type):
                msg = (
                    f"column {field.name!r} is {field.type}, which CSV cannot hold; "
                    "return a plain value or write JSON Lines or Parquet"
                )
                raise SinkError(msg)
        self._stream = stream
        chosen = pyarrow.csv.WriteOptions(include_header=options.header, delimiter=options.delimiter, batch_size=16384)
        self._drops_nulls = len(schema) == 1 and not _named_null(chosen)
        self._writer = pyarrow.csv.CSVWriter(stream, schema, write_options=chosen)

    def write(self, batch: pa.RecordBatch) -> None:
        if self._drops_nulls and batch.column(0).null_count:
            msg = (
                f"column {batch.schema.names[0]!r} is alone in a CSV file, where this version of pyarrow writes null "
                "as an empty line, which readers skip; update pyarrow, or write JSON Lines or Parquet"
            )
            raise SinkError(msg)
        self._writer.write_batch(batch)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self._writer.close()
        self._stream.close()


def _named_null(options: pyarrow.csv.WriteOptions) -> bool:
    """Have null written as a word; returns whether this version of pyarrow can."""
    if not hasattr(options, "null_string"):
        return False
    options.null_string = "NULL"
    return True


class _JsonLinesWriter:
    held = 0

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, batch: pa.RecordBatch) -> None:
        for text in json_texts(batch):
            self._stream.write(text)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self._stream.close()
