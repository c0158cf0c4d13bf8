"""What all file formats share: finding files, cutting them into splits, delivering batches.

Each format's own reading is in its module; writing is in `writing.py`.
"""

from __future__ import annotations

import copy
import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

import pyarrow as pa
from typing_extensions import Self

from raflow.batch import MAX_BATCH_BYTES, slices
from raflow.connectors.files.finding import is_glob, show
from raflow.connectors.files.formats import Format
from raflow.connectors.files.hive import partition_scalars, partition_schema
from raflow.connectors.files.listing import DataFile, list_files
from raflow.connectors.files.splitting import Piece, pack
from raflow.connectors.files.writing import FolderSink
from raflow.credentials import Credentials
from raflow.errors import InvalidOption, SourceError
from raflow.foreign import foreign_errors
from raflow.places import Location
from raflow.schema import conform, decoded, expanded_type, merge
from raflow.sinks import Part, Sink, SinkContext, Writer
from raflow.sources import Input, Json, Reject, Source, Split

Path: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
"""A file, glob or directory, as a path or URL, or a list of them."""


class Files(Source, Sink):
    """Files of one format, as source and as sink."""

    _unit: ClassVar[str]
    """What a piece's bounds count, for names."""
    _declared: pa.Schema = pa.schema([])
    """Column types that the user has decided, for formats that have none of their own."""
    _said: Collection[str] = ()
    """Columns that `key=value` folders have, when `schema` has seen them."""

    def __init__(
        self,
        path: Path,
        format: Format,  # noqa: A002 - the one word for it
        *,
        storage_options: Mapping[str, Any] | None = None,
        partition_by: str | Sequence[str] | None = None,
        max_rows_per_file: int | None = None,
        if_exists: str = "error",
    ) -> None:
        paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        if not paths:
            msg = "path is an empty list; give at least one path"
            raise InvalidOption(msg)
        columns = [partition_by] if isinstance(partition_by, str) else list(partition_by or ())
        self._locations = [Location.of(one, storage_options) for one in paths]
        self._folder = FolderSink(self._locations[0], format, columns, max_rows_per_file, if_exists)
        self.local_only = any(location.is_memory for location in self._locations)
        self.one_node = any(location.is_local for location in self._locations)
        self.place = replace(self._locations[0], url=self._locations[0].url.rstrip("/"))

    def __repr__(self) -> str:
        shown = [location.shown for location in self._locations[:4]]
        more = f", … {len(self._locations) - 4} more" if len(self._locations) > 4 else ""
        return f"{type(self).__name__}({', '.join(map(repr, shown))}{more})"

    def with_credentials(self, credentials: Credentials) -> Self:
        """Return a copy that uses the Flow's keys where there are no `storage_options`."""
        mine = copy.copy(self)
        mine._locations = [replace(location, credentials=credentials) for location in self._locations]
        mine._folder = self._folder.with_credentials(credentials)
        return mine

    # reading

    def schema(self) -> pa.Schema:
        """Return the columns of all files, then those that `key=value` folders say, which win."""
        files = list_files(self._locations)
        said = partition_schema(file.path for file in files)
        self._said = frozenset(said.names)
        decided = {field.name: field for field in self._declared}
        return pa.schema([*without(self._file_schema(files), said.names), *(decided.get(f.name, f) for f in said)])

    def typed_by_record(self, column: str) -> bool:
        """Whether the record type may decide a column's type: it may where a folder's name says the value."""
        return column in self._said

    def splits(self) -> list[Split]:
        """Return the pieces of all files, small files packed together."""
        return pack(self._pieces(list_files(self._locations)), self._unit)

    def inputs(self) -> list[Input]:
        """Return all files as they are now."""
        return [file.input for file in list_files(self._locations)]

    def read(self, split: Split, columns: pa.Schema, reject: Reject) -> Iterator[pa.RecordBatch]:
        """Yield the records of a split; only the wanted columns are decoded."""
        for root, path, start, stop, *_ in split.payload:
            location = self._locations[root]
            shown = show(location, path)
            said = partition_scalars(path, shown, columns)
            with foreign_errors(f"reading {shown}", SourceError, location):
                for batch in self._read(location, path, start, stop, without(columns, said), reject):
                    yield from _sized(_delivered(batch, columns, said))

    def locate(self, split: Split, row: int) -> str:
        """Return the file and position of a record that was read."""
        before = 0
        for root, path, _, _, first_row, rows in split.payload:
            if rows is None:
                break
            if row < before + rows:
                return f"{show(self._locations[root], path)} row {first_row + row - before}"
            before += rows
        return f"{split.name}, record {row}"

    @abstractmethod
    def _file_schema(self, files: Sequence[DataFile]) -> pa.Schema:
        """Return the columns that are in the files."""

    @abstractmethod
    def _pieces(self, files: Sequence[DataFile]) -> list[Piece]:
        """Return where the files can be cut."""

    @abstractmethod
    def _read(
        self, location: Location, path: str, start: int, stop: int | None, columns: pa.Schema, reject: Reject
    ) -> Iterator[pa.RecordBatch]:
        """Yield one piece's records with those of the columns that the file has."""

    # writing

    @property
    def _sink(self) -> FolderSink:
        if len(self._locations) > 1 or is_glob(self._locations[0].url):
            msg = f"{self!r} cannot be written: give one folder as the path"
            raise InvalidOption(msg)
        return self._folder

    def start(self, context: SinkContext) -> Json:
        """Check the folder and sweep what dead runs have staged in it."""
        return self._sink.start(context)

    def resume(self, context: SinkContext) -> None:
        """Sweep what the run's earlier processes have staged."""
        self._sink.resume(context)

    def give_up(self, context: SinkContext) -> None:
        """Sweep what the run has staged."""
        self._sink.give_up(context)

    def open(self, context: SinkContext) -> Writer:
        """Return a writer of files in the folder."""
        return self._sink.open(context)

    def commit(self, parts: Sequence[Part]) -> None:
        """Publish files."""
        self._sink.commit(parts)

    def discard(self, parts: Sequence[Part]) -> None:
        """Remove files, staged or published."""
        self._sink.discard(parts)

    def finish(self, context: SinkContext, started: Json) -> None:
        """Delete the data that the run replaces, and staging folders."""
        self._sink.finish(context, started)


def without(columns: pa.Schema, names: Collection[str]) -> pa.Schema:
    """Return the columns but those with the given names."""
    return pa.schema([field for field in columns if field.name not in names])


def _delivered(batch: pa.RecordBatch, columns: pa.Schema, said: Mapping[str, pa.Scalar]) -> pa.RecordBatch:
    """Return the batch with what the folders' names say."""
    if not columns.names:
        return rows_only(batch.num_rows)
    arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name, value in said.items():
        arrays[name] = pa.repeat(value, batch.num_rows)
    if not arrays:
        arrays[columns.names[0]] = pa.nulls(batch.num_rows)
    return conform(pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays)), columns)


def rows_only(rows: int) -> pa.RecordBatch:
    """Return a batch without columns, which still has a number of rows."""
    return pa.RecordBatch.from_struct_array(pa.StructArray.from_buffers(pa.struct([]), rows, [None]))


def _sized(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    pieces = -(-batch.nbytes // MAX_BATCH_BYTES) or 1
    if batch.num_rows:
        yield from slices(batch, -(-batch.num_rows // pieces))


def plain(schema: pa.Schema) -> pa.Schema:
    """Return the schema without metadata, dictionary columns and runs as plain values, views as what they view.

    Arrow has few kernels for views: they can be neither filtered nor grouped.
    """
    return pa.schema([(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    kind = expanded_type(decoded(kind))
    return {"string_view": pa.string(), "binary_view": pa.binary()}.get(str(kind), kind)


def merged(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return the one schema of all files.

    Raises:
        SchemaError: Types do not fit; names field and file.
        SourceError: A file has two columns of one name.
    """
    for file, schema in schemas:
        _check_names(file, schema.names)
    agreed = schemas[0][1]
    for file, schema in schemas[1:]:
        if schema != agreed:
            agreed = merge([agreed, schema], what=f"the files before {file}")
    return agreed


def _check_names(file: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"{file} has two columns named {twice!r}; rename one, since records have one value for each name"
        raise SourceError(msg)
