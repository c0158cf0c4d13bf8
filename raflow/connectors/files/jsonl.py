"""JSON Lines files: splits are byte ranges, types are inferred, declared or decided by the record type."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BufferedReader
from typing import Any

import pyarrow as pa

from raflow.connectors.files.appending import LinesAppender
from raflow.connectors.files.documents import Document
from raflow.connectors.files.files import Path, without
from raflow.connectors.files.formats import JsonLinesFormat
from raflow.connectors.files.inference import Declared, declared
from raflow.connectors.files.misfits import Parser
from raflow.connectors.files.text import TextFiles, encoding_name
from raflow.convert.json_lines import read_lines
from raflow.convert.json_values import converted, readable
from raflow.convert.nested import holds_map
from raflow.sinks import SinkContext

_NO_COLUMN = pa.schema([("\0", pa.int64())])
"""A column that no file has: asking for it alone counts rows."""

_MALFORMED: dict[str, Any] = {}


class JsonLinesFiles(TextFiles):
    """JSON Lines files (one object per line), split by byte ranges and parsed by Arrow.

    Example:
        >>> from raflow.connectors.files import JsonLinesFiles
        >>> events = JsonLinesFiles("s3://logs/2024/**/*.jsonl.gz", schema={"at": "timestamp[us]"})
    """

    def __init__(  # noqa: PLR0913 - one keyword per option of the format
        self,
        path: Path,
        *,
        storage_options: Mapping[str, Any] | None = None,
        schema: Declared | None = None,
        encoding: str = "utf8",
        partition_by: str | Sequence[str] | None = None,
        compression: str | None = None,
        max_rows_per_file: int | None = None,
        if_exists: str = "error",
    ) -> None:
        """Describe the files; nothing is opened.

        Args:
            path: File, glob, directory (path or any fsspec URL), or a list of them; a sink's folder.
            storage_options: Keyword arguments for fsspec, instead of the Flow's credentials.
            schema: Types of some or all fields, e.g. `{"zip": "string"}`; the others are inferred.
            encoding: Of the text, by Python's name.
            partition_by: Columns whose values become `key=value` folders of the output.
            compression: Of the output: gzip, bz2, zstd or "none" (default).
            max_rows_per_file: Rows after which a new output file begins.
            if_exists: What happens to data in the output folder: "error", "overwrite" or "append".

        Raises:
            InvalidOption: A value cannot be used.
        """
        super().__init__(
            path,
            JsonLinesFormat(compression),
            storage_options=storage_options,
            partition_by=partition_by,
            max_rows_per_file=max_rows_per_file,
            if_exists=if_exists,
        )
        self._declared = declared(schema)
        self._all_is_text = False
        self._encoding = encoding_name(encoding)

    def any_column(self) -> bool:
        """Whether records may have fields that no sample has: any line may."""
        return True

    def appender(self, context: SinkContext, unit: str) -> LinesAppender | None:
        """Return what appends to files in a local folder; None for object stores, partitions and compression."""
        folder = self._sink
        location, form = folder.location, folder.format
        is_plain = not folder.partition_by and folder.max_rows_per_file is None and form.suffix == ".jsonl"
        if not is_plain or location.protocol not in ("file", "local"):
            return None
        return LinesAppender(location, context.run_id, unit)

    def _parser(self, document: Document, stream: BufferedReader) -> tuple[Parser | None, int]:
        del document, stream
        return _JsonParser(), 0


class _JsonParser:
    all_is_text = False

    def parse(self, text: bytes, columns: pa.Schema) -> pa.Table:
        maps = pa.schema([field for field in columns if holds_map(field.type)])
        table = _parsed(text, without(columns, maps.names))
        if not maps.names:
            return table
        found = _parsed(_with_pairs(text, maps), maps)
        arrays = [(found if name in maps.names else table).column(name) for name in columns.names]
        return pa.Table.from_arrays(arrays, schema=columns)

    def infer(self, text: bytes) -> pa.Schema:
        return read_lines(text).schema

    def suspects(self, texts: Sequence[bytes], columns: pa.Schema) -> dict[int, list[pa.Field]]:
        found: dict[int, list[pa.Field]] = {}
        for index, text in enumerate(texts):
            record = _loaded(text)
            fields = [field for field in columns if not _may_be(record.get(field.name), field.type)]
            if fields or record is _MALFORMED:
                found[index] = fields
        return found

    def value(self, record: bytes, name: str) -> str:
        return json.dumps(json.loads(record).get(name))


def _parsed(text: bytes, columns: pa.Schema) -> pa.Table:
    types = pa.schema([field.with_type(readable(field.type)) for field in columns])
    table = read_lines(text, types if columns.names else _NO_COLUMN)
    arrays = [_converted(table.column(field.name), field.type) for field in columns]
    return pa.Table.from_arrays(arrays, schema=columns) if columns.names else table


def _converted(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([converted(chunk, kind) for chunk in column.chunks], type=kind)


def _with_pairs(text: bytes, columns: pa.Schema) -> bytes:
    """Return the lines with these columns alone, and pairs instead of maps, which Arrow's parser does not have."""
    lines: list[str] = []
    for line in text.split(b"\n"):
        record = _loaded(line) if line.strip() else None
        if record is _MALFORMED:
            msg = "a line has to be one JSON object"
            raise pa.ArrowInvalid(msg)
        if record is not None:
            lines.append(json.dumps({field.name: _pairs(record.get(field.name), field.type) for field in columns}))
    return "\n".join(lines).encode()


def _pairs(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_map(kind) and value is not None:
        if not isinstance(value, dict):
            msg = "a map has to be a JSON object"
            raise pa.ArrowInvalid(msg)
        return [{"key": key, "value": _pairs(item, kind.item_type)} for key, item in value.items()]
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {field.name: _pairs(value.get(field.name), field.type) for field in kind}
    if pa.types.is_list(kind) and isinstance(value, list):
        return [_pairs(item, kind.value_type) for item in value]
    return value


def _loaded(text: bytes) -> dict[str, Any]:
    try:
        record = {} if text.isspace() else json.loads(text)
    except (ValueError, RecursionError):
        return _MALFORMED
    return record if isinstance(record, dict) else _MALFORMED


def _may_be(value: Any, kind: pa.DataType) -> bool:
    """Return whether a value can be of a plain type; other types are left to Arrow."""
    if value is None:
        return True
    if pa.types.is_integer(kind):
        return type(value) is int
    if pa.types.is_floating(kind):
        return type(value) in (int, float)
    if pa.types.is_boolean(kind) or pa.types.is_string(kind):
        return type(value) is (bool if pa.types.is_boolean(kind) else str)
    return True
